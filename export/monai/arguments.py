"""A component of a bundle: its name and arguments, of which only the known ones are taken."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from vol3dseg.errors import some_of
from vol3dseg.export.monai.bundle_config import BundleConfig
from vol3dseg.schema import Frozen, problems, quoted

_Model = TypeVar("_Model", bound=Frozen)
_TARGET, _COMMENT, _DISABLED = "_target_", "_desc_", "_disabled_"
# Where results come from the same, whatever they say.
_INDIFFERENT = {"device", "allow_missing_keys", "meta_keys", "meta_key_postfix", "track_meta"}


class Component(NamedTuple):
    """What `_target_` names, without its module; and its arguments, as they stand."""

    name: str
    arguments: Mapping[str, Any]


def component(config: BundleConfig, value: Any, place: str) -> Component | None:
    """Return what stands at a place of the config; None where it is disabled."""
    value = config.followed(value)
    if not isinstance(value, dict) or not isinstance(value.get(_TARGET), str):
        wanted = "a component, by its _target_"
        raise config.refuse(f"{place} is {quoted(value)}", expected=wanted)
    disabled = config.plain(value.get(_DISABLED, False), f"{place} {_DISABLED}")
    if disabled in (True, "true", "True"):
        return None
    skipped = {_TARGET, _COMMENT, _DISABLED, *_INDIFFERENT}
    name = value[_TARGET].rpartition(".")[2]
    return Component(name, {k: v for k, v in value.items() if k not in skipped})


def parsed(
    config: BundleConfig, model: type[_Model], name: str, given: Mapping[str, Any]
) -> _Model:
    """Return arguments, once they are plain, as a model; others than it knows are refused."""
    unknown = [key for key in given if key not in model.model_fields]
    if unknown:
        wanted = f"at most {', '.join(model.model_fields)}"
        raise config.refuse(f"{name} has {some_of([quoted(k) for k in unknown])}", expected=wanted)
    plain = {key: config.plain(value, f"{key} of {name}") for key, value in given.items()}
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise config.refuse(f"{name} cannot be carried ({problems(error, model)})") from error

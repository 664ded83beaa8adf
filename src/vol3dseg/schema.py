"""What is parsed from files: frozen models, and what is wrong with a file in our words."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from vol3dseg.errors import Vol3dSegError, reading

_LONGEST = 60  # characters of a value that is quoted
# What stands instead of Pydantic's words, by the type of its error.
_WORDS = {
    "missing": "is missing",
    "json_invalid": "not valid JSON ({error})",
    "model_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "none_required": "expected null",
    "literal_error": "expected {expected}",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "too_short": "expected at least {min_length} entries",
    "too_long": "expected at most {max_length} entries",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "union_tag_not_found": "expected a mapping with the key {discriminator}",
    "union_tag_invalid": "{tag!r} is none of {expected_tags}",
}
_QUOTED = {  # the value itself tells what is wrong with it
    name
    for name in _WORDS
    if name not in {"missing", "json_invalid", "union_tag_not_found", "union_tag_invalid"}
}


class Frozen(BaseModel):
    """Base of everything that is parsed from files: it never changes, and knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def parse_json(
    model: type[Model],
    text: str | bytes,
    where: object,
    error: type[Vol3dSegError],
    *,
    expected: str,
    remedy: str,
) -> Model:
    """Parse JSON into a model.

    Parameters
    ----------
    model : type
    text : str or bytes
    where : object
        The file it comes from, for the message.
    error : type
        What is raised where it is not valid, with `expected` and `remedy`.
    expected, remedy : str
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as invalid:
        raise error(
            f"is damaged or of another version ({problems(invalid, model)})",
            where=where,
            expected=expected,
            remedy=remedy,
        ) from invalid


def read_json(
    model: type[Model], path: Path, error: type[Vol3dSegError], *, expected: str, remedy: str
) -> Model:
    """Read a JSON file into a model; see `parse_json`.

    A file that is missing or that cannot be read is reported as `error` too.
    """
    with reading(path, error, expected=expected, remedy=remedy):
        text = path.read_bytes()
    return parse_json(model, text, path, error, expected=expected, remedy=remedy)


def problems(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return all that is wrong, each with its place.

    Parameters
    ----------
    error : ValidationError
    model : type or None
        What was parsed into; tells which key an unknown one is close to.
    """
    return "; ".join(_problem(each, model) for each in error.errors(include_url=False))


def _problem(error: Any, model: type[BaseModel] | None) -> str:
    place, kind = ".".join(map(str, error["loc"])), error["type"]
    if kind == "extra_forbidden":
        known = _keys_at(model, error["loc"][:-1]) if model else []
        return f"unknown key {place!r}{suggestion(str(error['loc'][-1]), known)}"
    words = _WORDS.get(kind, error["msg"].removeprefix("Value error, "))
    said = words.format(**error.get("ctx", {})) if kind in _WORDS else words
    if kind in _QUOTED:
        said += f", found {_quoted(error['input'])}"
    if kind == "missing":
        return f"{place} {said}"
    return f"{place}: {said}" if place else said


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _keys_at(model: Any, place: tuple[int | str, ...]) -> list[str]:
    """Return the keys known at `place`: field names of the model that stands there."""
    for part in place:
        field = getattr(model, "model_fields", {}).get(part)
        if field is not None:
            found = _models_in(field.annotation)
            model = found[0] if found else None
    return list(getattr(model, "model_fields", {}))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in _models_in(a)]


def suggestion(wrong: str, known: Sequence[str]) -> str:
    """Return what may have been meant by `wrong`, for a message: the closest, or all there are."""
    close = difflib.get_close_matches(wrong, known, n=1)
    if close:
        return f", did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Return in words what differs between two mappings; empty where nothing does.

    What stands in nested mappings is named by its place, such as "training.loss".
    """
    ours, theirs = _flat(ours), _flat(theirs)
    return "; ".join(
        f"{key}: {ours.get(key)} and {theirs.get(key)}"
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key)
    )


def _flat(data: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        nested = _flat(value, f"{place}{key}.") if isinstance(value, Mapping) else {}
        found |= nested or {place + key: value}
    return found

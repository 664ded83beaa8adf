"""What is parsed from files: frozen models, and what is wrong with a file in our words."""

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from vol3dseg.errors import Vol3dSegError, reading, some_of
from vol3dseg.written import usable_path

_LONGEST = 60  # characters of a value that is quoted
_MOST_SAID = 10  # problems in a message
_MOST_MB = 512  # of a JSON file; an index takes some kilobytes a case
_MOST_DIGITS = 30  # of a whole number: more are no number of anything

# Numbers by what they count. Bounds stand with the field, so that nobody meets a number later that
# cannot be worked with, and true or "3" is none.
_FLOAT32 = 3.4e38  # just below its largest
Count = Annotated[int, Strict(), Field(ge=0, le=2**53)]
Positive = Annotated[int, Strict(), Field(ge=1, le=2**53)]
Side = Annotated[int, Strict(), Field(ge=1, le=2**20)]  # voxels along an axis
Sides = tuple[Side, Side, Side]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**32)]
Real = Annotated[float, Strict(), Field(ge=-_FLOAT32, le=_FLOAT32)]
Amount = Annotated[float, Strict(), Field(ge=0, le=_FLOAT32)]  # seconds, MB, ml, a deviation
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Millimetres = Annotated[float, Strict(), Field(ge=1e-9, le=1e9)]


def _each_once(values: Sequence[str]) -> Sequence[str]:
    if twice := [value for value, times in Counter(values).items() if times > 1]:
        raise ValueError(f"{some_of(twice)} is there twice")
    return values


def _printable(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise ValueError(f"{name!r} has characters that nobody sees")
    return name


Once = AfterValidator(_each_once)  # of a list of names
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
# What stands instead of Pydantic's words, by the type of its error.
_WORDS = {
    "missing": "is missing",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "invalid_key": "expected text as a key",
    "dict_type": "expected a mapping",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "named_tuple_type": "expected a list",
    "path_type": "expected the path of a file",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected text",
    "string_unicode": "expected text",
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
    name for name in _WORDS if name not in {"missing", "union_tag_not_found", "union_tag_invalid"}
}


class Frozen(BaseModel):
    """Base of everything that is parsed from files: it never changes, and knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
        return model.model_validate(values_of_json(text))
    except ValueError as invalid:
        if isinstance(invalid, ValidationError):
            found = problems(invalid, model)
        else:
            found = f"not valid JSON ({invalid})"
        raise error(
            f"is damaged or of another version ({found})",
            where=where,
            expected=expected,
            remedy=remedy,
        ) from invalid


def values_of_json(text: str | bytes) -> Any:
    """Parse JSON in which no key is given twice; what is wrong is a ValueError, in words."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except UnicodeDecodeError as error:
        raise ValueError("no text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, line {error.lineno}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _each_once([quoted(name) for name, _ in pairs])
    return found


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def read_json(
    model: type[Model], path: Path, error: type[Vol3dSegError], *, expected: str, remedy: str
) -> Model:
    """Read a JSON file into a model; see `parse_json`.

    A file that is missing or that cannot be read is reported as `error` too.
    """
    usable_path(path, error)
    with reading(path, error, expected=expected, remedy=remedy):
        size_mb = path.stat().st_size / 2**20
        if size_mb > _MOST_MB:
            wanted = f"{expected}, of at most {_MOST_MB} MB"
            raise error(f"has {size_mb:.0f} MB", where=path, expected=wanted, remedy=remedy)
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
    found = error.errors(include_url=False)
    around = {each["loc"][:depth] for each in found for depth in range(len(each["loc"]))}
    # Pydantic counts only the entries that are valid: a wrong one would be said twice.
    found = [each for each in found if each["type"] != "too_short" or each["loc"] not in around]
    more = [f"and {len(found) - _MOST_SAID} more"] if len(found) > _MOST_SAID else []
    return "; ".join([*(_problem(each, model) for each in found[:_MOST_SAID]), *more])


def _problem(error: Any, model: type[BaseModel] | None) -> str:
    place, kind = ".".join(map(_plain, error["loc"])), error["type"]
    if kind == "extra_forbidden":
        known = _keys_at(model, error["loc"][:-1]) if model else []
        return f"unknown key {place!r}{suggestion(str(error['loc'][-1]), known)}"
    if kind == "value_error":
        said = str(error["ctx"]["error"])
    else:
        said = _WORDS.get(kind, "is not valid").format(**error.get("ctx", {}))
    if kind in _QUOTED or (kind not in _WORDS and kind != "value_error"):
        said += f", found {quoted(error['input'])}"
    if kind == "missing":
        return f"{place} {said}"
    return f"{place}: {said}" if place else said


def quoted(value: object) -> str:
    """Return a value as it is quoted in messages: cut, and nothing in it that a terminal obeys."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # deep, or of thousands of digits
        return f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _plain(part: object) -> str:
    """Return a key as it stands in the place of a problem: as it is, where that can be shown."""
    text = str(part)
    return text if text.isprintable() and len(text) <= _LONGEST else quoted(text)


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
    ours, theirs = flat(ours), flat(theirs)
    return "; ".join(
        f"{key}: {ours.get(key)} and {theirs.get(key)}"
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key)
    )


def flat(data: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return nested mappings as one, whose keys are places such as "training.loss"."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        nested = flat(value, f"{place}{key}.") if isinstance(value, Mapping) else {}
        found |= nested or {place + key: value}
    return found

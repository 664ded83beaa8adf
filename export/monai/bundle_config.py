"""A bundle's config as plain values: references are followed, expressions are never evaluated.

Of what follows a `$`, literals of Python, references and the names of types of numbers are known;
everything else is an expression, and refused where it is needed.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vol3dseg.config.yaml_text import values_of_yaml
from vol3dseg.errors import ModelError, reading
from vol3dseg.schema import quoted, values_of_json

_DEEPEST = 64  # of values within values, references followed
_MOST_VALUES = 2**14
_MOST_BYTES = 2**24
_LONGEST = 200  # characters of a literal
_TYPES = {f"{of}.{name}": name for of in ("np", "torch") for name in ("float32", "float64")}
_POSITIVE = "lambda x: x > 0"  # the default of CropForegroundd, which bundles spell out
REMEDY = "run this bundle with MONAI, or replace it in the bundle's config"


class Unread(Exception):  # noqa: N818 - says what it is
    """A value that is not plain; `args` say what is wrong with it."""


class BundleConfig:
    """What `inference.json` or `inference.yaml` says.

    ModelError: it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        expected = "the config of a bundle of MONAI"
        with reading(path, ModelError, expected=expected):
            text = path.read_bytes()
        if len(text) > _MOST_BYTES:
            raise ModelError(f"has {len(text)} bytes", where=path, expected=expected)
        try:
            self.content = (
                values_of_json(text) if path.suffix == ".json" else values_of_yaml(text.decode())
            )
        except ValueError as error:
            raise ModelError(f"not valid ({error})", where=path, expected=expected) from error
        if not isinstance(self.content, dict):
            raise ModelError(f"holds {quoted(self.content)}", where=path, expected=expected)
        self._left = _MOST_VALUES

    def refuse(self, found: str, expected: str = "", remedy: str = REMEDY) -> ModelError:
        """Return the error of something in it that cannot be carried."""
        return ModelError(found, where=self.path, expected=expected, remedy=remedy)

    def part(self, *names: str) -> Any:
        """Return what stands under the first of these names that is there, references followed."""
        for name in names:
            if name in self.content:
                return self.followed(self.content[name])
        raise self.refuse(f"says no {names[0]}", expected=" or ".join(names))

    def followed(self, value: Any, depth: int = 0) -> Any:
        """Return what a reference stands for; other values as they are."""
        while isinstance(value, str) and value.removeprefix("$").startswith("@"):
            self._left -= 1
            if depth > _DEEPEST or self._left < 0:
                raise self.refuse("its references run in a circle, or are too many")
            value, depth = self._at(value.removeprefix("$")[1:], depth), depth + 1
        return value

    def plain(self, value: Any, place: str) -> Any:
        """Return a value with all references and literals in it put in."""
        try:
            return self._plain(value, 0)
        except Unread as unread:
            raise self.refuse(f"{place} is {unread}", expected="plain values") from None

    def _plain(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise Unread("nested too deep, or too long")
        if isinstance(value, list):
            return [self._plain(each, depth + 1) for each in value]
        if isinstance(value, dict):
            return {str(key): self._plain(each, depth + 1) for key, each in value.items()}
        if not isinstance(value, str):
            return value
        try:
            followed = self.followed(value)
        except ModelError as error:
            raise Unread(f"{quoted(value)}, which {error.found}") from error
        if followed is not value:
            return self._plain(followed, depth + 1)
        if value.startswith("%"):
            raise Unread(f"{quoted(value)}, which lies in another file")
        return _literal(value[1:].strip()) if value.startswith("$") else value

    def _at(self, place: str, depth: int) -> Any:
        """Return what lies at a place such as `preprocessing#transforms#0`."""
        found: Any = self.content
        for part in place.replace("::", "#").split("#"):
            found = self.followed(found, depth + 1)
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise self.refuse(f"refers to {quoted('@' + place)}, which is not there")
        return found


def _literal(text: str) -> Any:
    if text in _TYPES:
        return _TYPES[text]
    if " ".join(text.split()) == _POSITIVE:
        return None
    try:
        if len(text) <= _LONGEST:
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    raise Unread(f"the expression {quoted('$' + text)}, which is not evaluated")

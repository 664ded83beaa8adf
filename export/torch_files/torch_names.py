"""What the pickle of a checkpoint may name, and what stands for it here.

No name is a thing of Python's, torch's or numpy's: each stands for a function of this module that
keeps its arguments. What is not here is not read; a new name is an entry here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from vol3dseg.errors import FileFormatError

LONGEST_NAME = 200
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers in a member of the zip file."""

    dtype: str  # of numpy, or "bfloat16"
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage: where it begins, and the sides and steps of its axes [numbers]."""

    storage: Storage
    offset: int
    sides: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(slots=True)
class Dtype:
    """A numpy type, whose byte order its pickle says later."""

    code: str
    order: Literal["<", ">", "|"] = "<"


@dataclass(slots=True)
class Array:
    """A numpy array or number as it stands in a pickle: what its pickle says of it, unexamined."""

    said: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes, which protocol 2 keeps as text with a character for each."""

    characters: str


@dataclass(frozen=True, slots=True)
class Name:
    """What a pickle names: a function here that stands for calling it, or a type of storage."""

    make: Callable[..., Any] | None = None
    dtype: str = ""


def damaged(what: str) -> FileFormatError:
    """Return what to raise of a pickle that is not as it should be."""
    return FileFormatError(
        f"its pickle cannot be read: {what}",
        expected="a checkpoint as torch writes it",
        remedy="copy it again",
    )


def expect(kind: type[_T], value: object) -> _T:
    """Return a value that is of a type, or refuse its pickle."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise damaged(f"{type(value).__name__} stands where {kind.__name__} should")
    return value


def _counts(values: object) -> tuple[int, ...]:
    return tuple(expect(int, each) for each in expect(tuple, values))


def _ordered() -> dict[Any, Any]:
    return {}


def _tensor(
    storage: object,
    offset: object,
    sides: object,
    steps: object,
    requires_grad: object,
    hooks: object,
    metadata: object = None,
) -> Tensor:
    if hooks or metadata:
        raise damaged("a tensor has hooks or metadata")
    return Tensor(expect(Storage, storage), expect(int, offset), _counts(sides), _counts(steps))


def _device(*said: object) -> str:
    return ":".join(str(part)[:LONGEST_NAME] for part in said if isinstance(part, str | int))


def _dtype(code: object, align: object, copy: object) -> Dtype:
    return Dtype(expect(str, code)[:LONGEST_NAME])


def _encoded(characters: object, encoding: object) -> Text:
    if encoding != "latin1":
        raise damaged("bytes are kept in another encoding than latin1")
    return Text(expect(str, characters))


def _number(dtype: object, content: object) -> Array:
    return Array((1, (), expect(Dtype, dtype), False, expect(Text, content)))


def _array(kind: object, sides: object, code: object) -> Array:
    return Array()


_STORAGES = {
    "Float": "f4",
    "Half": "f2",
    "BFloat16": "bfloat16",
    "Double": "f8",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
NAMES = {
    "collections.OrderedDict": Name(_ordered),
    "torch._utils._rebuild_tensor_v2": Name(_tensor),
    "torch.device": Name(_device),
    "_codecs.encode": Name(_encoded),
    "numpy.dtype": Name(_dtype),
    "numpy.ndarray": Name(),
    **{f"numpy.{core}.multiarray.scalar": Name(_number) for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": Name(_array) for core in ("core", "_core")},
    **{f"torch.{kind}Storage": Name(dtype=dtype) for kind, dtype in _STORAGES.items()},
}

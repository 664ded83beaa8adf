"""A checkpoint of nnU-Net (`checkpoint_final.pth`): weights and what was said of them.

Read without torch, by a closed list of types; see `torch_pickle` and docs/security.md.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, in_memory, reading, some_of
from vol3dseg.export.nnunet.torch_names import Array, Dtype, Storage, Tensor, Text
from vol3dseg.export.nnunet.torch_pickle import read_pickle
from vol3dseg.export.nnunet.torch_zip import TorchZip
from vol3dseg.model.operators import quoted

_EXPECTED = "a checkpoint of nnU-Net v2 (checkpoint_final.pth)"
_PICKLE = "/data.pkl"
_PREFIXES = ("module.", "_orig_mod.")  # of networks on several GPUs, and of compiled ones
_MOST_BYTES = 2**34  # eight times what ONNX can hold: optimizers keep two numbers for each weight
_MOST_OF_WEIGHTS = 2**32  # bytes of them, of which some may be float64
_MOST_OF_PICKLE = 2**26  # bytes; 4000 epochs with scores of 117 classes take a third
_DEEPEST = 32  # of plans and data sets as they stand in a checkpoint
_MOST_VALUES = 2**20  # of them
_MOST_AXES = 8
_MOST_EPOCHS = 10**9
_LONGEST_NAME = 200  # of a trainer
_ARRAYS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint holds of a trained network."""

    state: Mapping[str, NDArray[Any]]  # weights by name, float32 or integers; views, not to be set
    trainer: str
    mirror_axes: tuple[int, ...] | None  # of the network's axes; None where it does not say
    epoch: int | None  # how many were trained
    init_args: Mapping[str, Any]  # configuration, fold, plans and dataset_json, as plain values
    sha256: str  # of the file


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint as torch has written it since 1.6; nothing in it is run.

    Raises
    ------
    FileFormatError
        It is missing, damaged, no checkpoint of nnU-Net, or asks for what is not known here.
    """
    with reading(path, FileFormatError, expected=_EXPECTED):
        if path.exists() and not path.is_file():
            raise FileFormatError("is no file", where=path, expected=_EXPECTED)
        with path.open("rb") as file, in_memory("its weights", path):
            try:
                return _read(file)
            except FileFormatError as error:
                raise error.at(path) from error.__cause__


def _read(file: BufferedReader) -> Checkpoint:
    if (size := file.seek(0, 2)) > _MOST_BYTES:
        raise FileFormatError(f"has {size} bytes", expected=f"at most {_MOST_BYTES}")
    members = TorchZip(file)
    pickles = [name for name in members.names if name.endswith(_PICKLE)]
    if len(pickles) != 1:
        raise FileFormatError(f"holds {len(pickles)} pickles", expected=_EXPECTED)
    if members.size(pickles[0]) > _MOST_OF_PICKLE:
        raise FileFormatError(
            f"has a pickle of {members.size(pickles[0])} bytes",
            expected=f"at most {_MOST_OF_PICKLE} beside its weights",
        )
    said = read_pickle(bytes(members.read(pickles[0])))
    if not isinstance(said, dict) or not isinstance(said.get("network_weights"), dict):
        keys = (
            [quoted(key) for key in said if isinstance(key, str)] if isinstance(said, dict) else []
        )
        raise FileFormatError(
            f"holds no 'network_weights', but {some_of(keys) or 'something else'}",
            expected=_EXPECTED,
            remedy="nnU-Net v1 and other programs keep theirs otherwise; give the folder of a v2 "
            "model",
        )
    storages = _Storages(members, pickles[0].removesuffix(_PICKLE))
    file.seek(0)
    return Checkpoint(
        state=_state(said["network_weights"], storages),
        trainer=_trainer(_said(said, "trainer_name", str)),
        mirror_axes=_mirror_axes(said.get("inference_allowed_mirroring_axes")),
        epoch=None if said.get("current_epoch") is None else _epoch(said),
        init_args=_plain(_said(said, "init_args", dict)),
        sha256=hashlib.file_digest(file, "sha256").hexdigest(),
    )


def _said(said: Mapping[Any, Any], key: str, kind: type) -> Any:
    value = said.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FileFormatError(
            f"its {key} is of type {type(value).__name__}", expected=kind.__name__
        )
    return value


def _trainer(name: str) -> str:
    if not name.isidentifier() or len(name) > _LONGEST_NAME:
        raise FileFormatError(
            f"says trainer_name {quoted(name)}", expected="the name of a class of Python"
        )
    return name


def _epoch(said: Mapping[Any, Any]) -> int:
    epoch: int = _said(said, "current_epoch", int)
    if not 0 <= epoch <= _MOST_EPOCHS:
        raise FileFormatError(
            f"says current_epoch {quoted(str(epoch))}", expected=f"0 to {_MOST_EPOCHS}"
        )
    return epoch


def _mirror_axes(said: object) -> tuple[int, ...] | None:
    if said is None:
        return None
    axes = tuple(said) if isinstance(said, list | tuple) else (-1,)
    whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 3 for n in axes)
    if not whole or len(set(axes)) < len(axes):
        raise FileFormatError(
            "says axes to mirror that a network has not", expected="some of 0, 1 and 2, each once"
        )
    return tuple(sorted(axes))


def _state(weights: Mapping[Any, Any], storages: "_Storages") -> dict[str, NDArray[Any]]:
    found = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise FileFormatError(
                f"its weights hold {quoted(str(name))} of type {type(tensor).__name__}",
                expected="tensors by name",
            )
        found[name] = tensor
    while found and (prefix := next((p for p in _PREFIXES if _all_begin(found, p)), "")):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return {name: storages.array(name, tensor) for name, tensor in found.items()}


def _all_begin(names: Mapping[str, Any], prefix: str) -> bool:
    return all(name.startswith(prefix) for name in names)


class _Storages:
    """The numbers of a checkpoint, each member read once, when a weight first needs it."""

    def __init__(self, members: TorchZip, folder: str) -> None:
        self._members, self._folder = members, folder
        self._read: dict[Storage, NDArray[Any]] = {}
        self._left = _MOST_OF_WEIGHTS
        order = b"little"
        if f"{folder}/byteorder" in members.names:
            order = bytes(members.read(f"{folder}/byteorder"))
        if order not in (b"little", b"big"):
            raise FileFormatError("says no byte order", expected="little or big")
        self._order: Literal["<", ">"] = "<" if order == b"little" else ">"

    def array(self, name: str, tensor: Tensor) -> NDArray[Any]:
        """Return a tensor as a view of its storage, which it must lie in, no number twice."""
        if not _lies_within(tensor):
            raise FileFormatError(
                f"{quoted(name)} of {quoted(str(tensor.sides))} lies beside its "
                f"{tensor.storage.count} numbers",
                expected="tensors within their storage",
            )
        numbers = self._numbers(tensor.storage)
        steps = zip(tensor.sides, tensor.steps, strict=True)
        return np.lib.stride_tricks.as_strided(
            numbers[tensor.offset :],
            tensor.sides,
            [step * numbers.itemsize if side > 1 else 0 for side, step in steps],
            writeable=False,
        )

    def _numbers(self, storage: Storage) -> NDArray[Any]:
        if storage not in self._read:
            self._read[storage] = self._load(storage)
        return self._read[storage]

    def _load(self, storage: Storage) -> NDArray[Any]:
        half = storage.dtype == "bfloat16"
        kind = np.dtype("u2" if half else storage.dtype).newbyteorder(self._order)
        name = f"{self._folder}/data/{storage.key}"
        if self._members.size(name) != storage.count * kind.itemsize:
            raise FileFormatError(
                f"its member {quoted(name)} has {self._members.size(name)} bytes",
                expected=f"{storage.count} numbers of {kind.itemsize}",
            )
        self._left -= self._members.size(name)
        if self._left < 0:
            raise FileFormatError(
                "has weights of many bytes", expected=f"at most {_MOST_OF_WEIGHTS} of them"
            )
        numbers = np.frombuffer(self._members.read(name), kind)
        if half:  # the upper half of a float32
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        native = np.float32 if kind.kind == "f" else kind.newbyteorder("=")
        with np.errstate(over="ignore"):  # what is infinite then is refused as a weight
            return numbers.astype(native, copy=False)


def _lies_within(tensor: Tensor) -> bool:
    """Whether a tensor, which is not empty, has no more numbers than its storage, and those."""
    sides, steps, count = tensor.sides, tensor.steps, tensor.storage.count
    if not len(sides) == len(steps) <= _MOST_AXES or min((1, *sides)) < 1:
        return False
    if min((tensor.offset, *steps)) < 0 or math.prod(sides) > count:
        return False
    last = sum((n - 1) * step for n, step in zip(sides, steps, strict=True))
    return tensor.offset + last < count


def _plain(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return plain values alone, no container twice and none within itself."""
    left = _MOST_VALUES

    def copied(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise FileFormatError(
                "its init_args hold too much",
                expected=f"at most {_MOST_VALUES} values, {_DEEPEST} deep",
            )
        if isinstance(value, dict):
            return {str(key): copied(each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(copied(each, depth + 1) for each in value)
        if isinstance(value, Array):
            array = _array(value)
            left -= array.size
            return array.tolist()
        if value is None or isinstance(value, str | int | float):
            return value
        raise FileFormatError(
            f"its init_args hold the type {type(value).__name__}", expected="numbers and text"
        )

    plain: dict[str, Any] = copied(value, 0)
    return plain


def _array(value: Array) -> NDArray[Any]:
    """Return what a numpy array or number was before it was pickled."""
    try:
        _, sides, dtype, fortran, text = value.said
        if isinstance(dtype, Dtype) and isinstance(text, Text) and dtype.code in _ARRAYS:
            kind = np.dtype(dtype.code).newbyteorder(dtype.order)
            numbers = np.frombuffer(text.characters.encode("latin1"), kind)
            return numbers.reshape(sides, order="F" if fortran else "C")
    except (TypeError, ValueError, OverflowError):  # of sides that are none, or of another number
        pass
    raise FileFormatError("its init_args hold an array that is none", expected="numbers")

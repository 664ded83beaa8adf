"""Weights by name, as views of the numbers in a file of torch.

What a tensor says of its place is believed only as far as its storage reaches.
"""

import math
from collections.abc import Mapping
from io import BufferedReader
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError
from vol3dseg.export.torch_files.pickle_machine import read_pickle
from vol3dseg.export.torch_files.torch_names import Storage, Tensor
from vol3dseg.export.torch_files.zip_members import TorchZip
from vol3dseg.model.operators import quoted

_PICKLE = "/data.pkl"
_CODE = "/constants.pkl"  # of TorchScript, beside its code
_PREFIXES = ("module.", "_orig_mod.")  # of networks on several GPUs, and of compiled ones
_MOST_BYTES = 2**34  # eight times what ONNX can hold: optimizers keep two numbers for each weight
_MOST_OF_WEIGHTS = 2**32  # bytes of them, of which some may be float64
_MOST_OF_PICKLE = 2**26  # bytes; 4000 epochs with scores of 117 classes take a third
_MOST_AXES = 8


class TorchFile:
    """What a file holds: `said`, the value that its pickle makes; and weights, as they are asked.

    FileFormatError: it is damaged, asks for what is not known here, or is no such file, and should
    be what is `expected`.
    """

    def __init__(self, file: BufferedReader, expected: str) -> None:
        if (size := file.seek(0, 2)) > _MOST_BYTES:
            raise FileFormatError(f"has {size} bytes", expected=f"at most {_MOST_BYTES}")
        members = TorchZip(file)
        pickles = [name for name in members.names if name.endswith(_PICKLE)]
        if any(name.endswith(_CODE) for name in members.names):
            raise FileFormatError(
                "is TorchScript, which is code",
                expected=expected,
                remedy="save the network's state_dict with torch.save",
            )
        if len(pickles) != 1:
            raise FileFormatError(f"holds {len(pickles)} pickles", expected=expected)
        if members.size(pickles[0]) > _MOST_OF_PICKLE:
            raise FileFormatError(
                f"has a pickle of {members.size(pickles[0])} bytes",
                expected=f"at most {_MOST_OF_PICKLE} beside its weights",
            )
        self.said = read_pickle(bytes(members.read(pickles[0])))
        self._storages = _Storages(members, pickles[0].removesuffix(_PICKLE))

    def state(self, weights: Mapping[Any, Any]) -> dict[str, NDArray[Any]]:
        """Return weights by name, float32 or integers: views, not to be set."""
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
        return {name: self._storages.array(name, tensor) for name, tensor in found.items()}


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

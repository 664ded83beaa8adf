"""A checkpoint of nnU-Net (`checkpoint_final.pth`): weights and what was said of them.

Read without torch, by a closed list of types; see `torch_files` and docs/security.md.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import FileFormatError, in_memory, reading, some_of
from vol3dseg.export.torch_files.state import TorchFile
from vol3dseg.export.torch_files.torch_names import Array, Dtype, Text
from vol3dseg.model.operators import quoted

_EXPECTED = "a checkpoint of nnU-Net v2 (checkpoint_final.pth)"
_DEEPEST = 32  # of plans and data sets as they stand in a checkpoint
_MOST_VALUES = 2**20  # of them
_MOST_EPOCHS = 10**9
_LONGEST_NAME = 200  # of a trainer
# Words of which nnU-Net's own trainers are named: epochs, augmentation, losses and the like. None
# changes what weights do not show.
_OWN_TRAINER = re.compile(
    "nnUNetTrainer(_?([0-9]+epochs?|[0-9]+ep|Benchmark|noDataLoading|NoDA|DA5|DA|Seg|[oO]rd0"
    "|NoMirroring|onlyMirror01|noDummy2DDA|(Dice|CE|DiceCE|Topk10|DiceTopK10)Loss|LS01|noSmooth"
    "|CosAnneal|warmup|BN|NoDeepSupervision|(Vanilla)?Ada[mn]([0-9]en[0-9])?"
    "|probabilisticOversampling|0[0-9]{2}))*"
)
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

    @property
    def own_trainer(self) -> bool:
        """Whether nnU-Net brings its trainer, by the name."""
        return _OWN_TRAINER.fullmatch(self.trainer) is not None


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
    content = TorchFile(file, _EXPECTED)
    said = content.said
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
    file.seek(0)
    return Checkpoint(
        state=content.state(said["network_weights"]),
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

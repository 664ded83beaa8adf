"""What is promised of every file, and whether a reader kept it."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzzing.sample import NAME
from vol3dseg import formats
from vol3dseg.errors import MemoryLimitError, Vol3dSegError
from vol3dseg.formats import VolumeFile
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet

_NAMED = re.compile("|".join(NAME.split("^")), re.IGNORECASE)
# Series are listed for choosing, with what their headers say of them: the one stated exception.
_CHOICE = re.compile(r"series (-?\d+|without a number) ('[^']*'|\"[^\"]*\")")
_LABELS = LabelSet(
    classes=(Label(name="no", read=(0,), write=0), Label(name="yes", read=(1, 2), write=1))
)


class BrokenPromise(Exception):  # noqa: N818 - it says what it is
    """A file was read wrongly, or an error says too much or too little."""


def read_both_ways(open_: Callable[..., VolumeFile], path: Path) -> None:
    """Read all that can be read of what `open_` opens, with repairs and without."""
    _kept(lambda: _read_all(open_(path, repair=True)))
    _read_all(open_(path))


def _read_all(file: VolumeFile) -> None:
    """Read all that can be read of an open file: each volume, as an image and as a label map."""
    channels = range(file.shape[3]) if len(file.shape) == 4 else (None,)
    for channel in channels:
        _kept(partial(_check_image, file, channel, None))
        _kept(partial(_check_image, file, channel, 0.0))
    _kept(partial(_check_labels, file))
    for note in file.notes:
        check_line(str(note))


def _kept(read: Callable[[], None]) -> None:
    """Read one thing; what is refused is no reason not to read the next."""
    try:
        read()
    except Vol3dSegError as error:
        check_message(error)


def _check_image(file: VolumeFile, channel: int | None, replacement: float | None) -> None:
    array, geometry, _ = formats.finite_image(file, channel, replacement)
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise BrokenPromise(f"an image of {array.dtype} or not finite")
    _check_grid(array, geometry, file.shape)
    if geometry != file.geometry(channel):
        raise BrokenPromise("the header alone says another grid")
    geometry.with_spacing((1.0, 1.0, 1.0))  # as a recipe may ask for


def _check_labels(file: VolumeFile) -> None:
    array, geometry = file.labels()[:2]
    _check_grid(array, geometry, file.shape)
    _LABELS.encode(array, "labels")


def _check_grid(array: Any, geometry: Geometry, shape: tuple[int, ...]) -> None:
    if not array.shape == geometry.shape == shape[:3]:
        raise BrokenPromise(f"array of {array.shape}, grid of {geometry.shape}, {shape} promised")
    if geometry.canonical().voxel_volume_mm3 <= 0 or not geometry.fits(geometry):
        raise BrokenPromise(f"a grid that is none: {geometry.placed()}")


def check_message(error: Vol3dSegError) -> None:
    """Refuse an error of several lines, or one that says what a header says.

    Raises
    ------
    BrokenPromise
    """
    if isinstance(error, MemoryLimitError):
        raise BrokenPromise(f"so small a file took all memory: {error}") from error
    check_line(str(error))


def check_line(text: str) -> None:
    """Refuse what is not one line, or says what a header says.

    Raises
    ------
    BrokenPromise
    """
    if not text.isprintable() or not text:
        raise BrokenPromise(f"not one line: {text!r}")
    check_silent(text)


def check_silent(text: str) -> None:
    """Refuse text that names whom the header names.

    Raises
    ------
    BrokenPromise
    """
    if _NAMED.search(_CHOICE.sub("", text)):
        raise BrokenPromise(f"says what stands in the header: {text!r}")


def judge(read: Callable[[Path], None], path: Path) -> str:
    """Read a harmed file and return how that ended.

    Returns
    -------
    str
        "read", "refused", or what was wrong: the promise that was broken.
    """
    with _listening() as heard:
        try:
            read(path)
            outcome = "read"
        except Vol3dSegError as error:
            check_message(error)
            outcome = "refused"
    check_silent("\n".join(heard))
    return outcome


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Make warnings errors, and give what is logged."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear, root = Ear(), logging.getLogger()
    root.addHandler(ear)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield heard
    finally:
        root.removeHandler(ear)

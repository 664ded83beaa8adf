"""What must hold after a command was disturbed, and after it was given again."""

import csv
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel
import onnx

from vol3dseg.written import LIST_NAME, is_ours

_UNFINISHED = ".vol3dseg-tmp-*"
_KILLED = "killed while it was worked on"  # such a case is tried again by the run after the next


def unfinished(folder: Path) -> list[str]:
    """Return the temporary files and folders below a folder."""
    return [f"{path.relative_to(folder)} stays" for path in sorted(folder.rglob(_UNFINISHED))]


def broken(folder: Path) -> Iterator[str]:
    """Give every file under a final name that is not whole: as it was written, and readable."""
    for path in sorted(folder.rglob("*")):
        unfinished = any(part.startswith(_UNFINISHED[:-1]) for part in path.parts)
        if unfinished or not path.is_file() or path.name == LIST_NAME:
            continue
        if not is_ours(path):
            yield f"{path.relative_to(folder)} is not as it was written"
        try:
            _READERS["".join(path.suffixes[-2:])](path)
        except Exception as error:  # noqa: BLE001 - whatever it is, the file is broken
            yield f"{path.relative_to(folder)} is broken ({type(error).__name__}: {error})"


def complaint(code: int | None, said: str, cause: str) -> list[str]:
    """Return what is wrong with how a command ended that met a fault and was not killed by it."""
    last = " ".join(said.split())[-300:]
    if code is None:
        return ["hangs"]
    if code < 0:
        return [f"its process died by signal {-code}: {last}"]
    if "Traceback" in said:
        return [f"a bug: {last}", said[said.index("Traceback") :]]
    if code != 1:
        return [f"exit code {code}: {last}"]
    return [] if cause in said else [f"does not say {cause!r}: {last}"]


def is_postponed(said: str) -> bool:
    """Tell whether a case was left to the next run, since this might be killed by it again."""
    return _KILLED in said


def _h5(path: Path) -> None:
    with h5py.File(path) as file:
        file.visititems(lambda name, found: found[()] if isinstance(found, h5py.Dataset) else None)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"member {damaged} is damaged")


def _text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("ends within a line")


def _page(path: Path) -> None:
    if "</html>" not in path.read_text(encoding="utf-8"):
        raise ValueError("has no end")


def _rows(path: Path) -> None:
    _text(path)
    with path.open(newline="", encoding="utf-8") as file:
        if len({len(row) for row in csv.reader(file)}) > 1:
            raise ValueError("has rows of several lengths")


def _picture(path: Path) -> None:
    from PIL import Image  # of the extra [report], as what draws pictures

    with Image.open(path) as image:
        image.load()


_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".h5": _h5,
    ".keras": _zip,
    ".onnx": lambda path: onnx.checker.check_model(onnx.load(path)),
    ".nii.gz": lambda path: nibabel.load(path).get_fdata(),
    ".html": _page,
    ".csv": _rows,
    ".log": _rows,
    ".md": _text,
    ".yaml": _text,
    ".png": _picture,
}

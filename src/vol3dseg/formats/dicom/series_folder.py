"""The DICOM series under a folder, from headers alone, and how one of them is chosen."""

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from vol3dseg.errors import FileFormatError
from vol3dseg.formats.dicom.dicom_files import (
    is_dicom_file,
    parsing,
    printable,
    read_dataset,
    require_pydicom,
)

_DICOMDIR = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage
_TAGS = (
    *("SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("Rows", "Columns", "NumberOfFrames"),
)
_LISTED = 40  # series in a message: it is one line, and all are needed to choose


@dataclass(frozen=True, slots=True)
class Series:
    """What headers say of one series.

    Parameters
    ----------
    uid : str
        SeriesInstanceUID.
    number : int or None
    description : str
        In one line, without what cannot be printed.
    modality : str
        As DICOM has it: MR, CT, SEG, ...
    files : tuple of Path
    images : int
        Slices, or frames of enhanced files.
    size : (2,) tuple of int
        Rows and columns of the first.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    files: tuple[Path, ...]
    images: int
    size: tuple[int, int]

    def __str__(self) -> str:
        number = "without a number" if self.number is None else str(self.number)
        return f"{number} {self.description!r}"

    @property
    def where(self) -> str:
        """The folder, or the only file, and the number: messages are recorded, descriptions not."""
        place = Path(os.path.commonpath(self.files))
        number = "without a number" if self.number is None else str(self.number)
        return f"{place}: series {number}"


@dataclass(frozen=True, slots=True)
class DicomFolder:
    """The series under a folder.

    Parameters
    ----------
    folder : Path
    series : tuple of Series
        Sorted by number.
    ignored : int
        Files that are no DICOM images: empty ones, other formats, reports, a DICOMDIR.
    """

    folder: Path
    series: tuple[Series, ...]
    ignored: int

    @property
    def listed(self) -> str:
        """The series with all that one may be chosen by; for a screen, not for records."""
        words = "; ".join(
            f"{s} ({s.modality}, {s.images} images, UID {s.uid})" for s in self.series[:_LISTED]
        )
        more = f" and {len(self.series) - _LISTED} more" if len(self.series) > _LISTED else ""
        return words + more


def holds_files(folder: Path) -> bool:
    """Tell whether a folder itself holds a DICOM file; in most that do, the first is one."""
    with os.scandir(folder) as entries:
        return any(entry.is_file() and is_dicom_file(Path(entry.path)) for entry in entries)


def find_series(folder: Path) -> DicomFolder:
    """Find the DICOM series under a folder, from headers alone.

    Parameters
    ----------
    folder : Path
        Searched with its subfolders; symbolic links to folders are not followed. A single file is
        taken as well.

    Raises
    ------
    FileFormatError
        There is no such folder, or a DICOM file in it is damaged: without it the series would lack
        a slice.
    MissingExtraError
        pydicom is not installed.
    """
    require_pydicom()
    if not folder.is_dir() and not folder.is_file():
        raise FileFormatError(
            "no such folder", where=folder, expected="one with DICOM files", remedy="check the path"
        )
    found: dict[str, list[Series]] = {}
    ignored = 0
    for path in _files(folder):
        one = _read_series_of(path)
        if one is None:
            ignored += 1
        else:
            found.setdefault(one.uid, []).append(one)
    series = sorted(map(_joined, found.values()), key=lambda s: (s.number or 0, s.uid))
    return DicomFolder(folder, tuple(series), ignored)


Search = Callable[[Path], DicomFolder]


def searching_once() -> Search:
    """Return `find_series` for several series of a folder: it looks into each folder once."""
    found: dict[Path, DicomFolder] = {}
    lock = Lock()

    def search(folder: Path) -> DicomFolder:
        with lock:
            if folder not in found:
                found[folder] = find_series(folder)
            return found[folder]

    return search


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for place, below, names in os.walk(folder):
        below.sort()
        yield from (Path(place) / name for name in sorted(names))


def _read_series_of(path: Path) -> Series | None:
    """Return the series that a file belongs to, with this file alone; None for other files."""
    if not is_dicom_file(path):
        return None
    header = read_dataset(path, _TAGS)
    with parsing(path):
        kind = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
        if kind == _DICOMDIR:
            return None
        if not (header.get("Rows") and header.get("Columns")):
            _check_no_image(kind, path)
            return None
        if not header.get("SeriesInstanceUID"):
            raise FileFormatError(
                "has no SeriesInstanceUID",
                where=path,
                expected="the series that it belongs to",
                remedy="export it again, or take it out",
            )
        number = header.get("SeriesNumber")
        return Series(
            uid=printable(header.SeriesInstanceUID),
            number=None if number is None else int(number),
            description=printable(header.get("SeriesDescription") or ""),
            modality=_kind(header.get("Modality")),
            files=(path,),
            images=int(header.get("NumberOfFrames") or 1),
            size=(int(header.Rows), int(header.Columns)),
        )


def _check_no_image(kind: Any, path: Path) -> None:
    """Refuse an image that lacks its size: pydicom reads a cut header as one that ends there."""
    if kind is None or "Image Storage" in kind.name:
        raise FileFormatError(
            "is an image without Rows and Columns",
            where=path,
            expected="its size",
            remedy="it may be truncated: copy or export it again",
        )


def _kind(modality: Any) -> str:
    """Return a modality if it looks like one: other text is nobody's business."""
    text = str(modality)
    return text if text.isalnum() and text.isupper() and len(text) <= 16 else "unknown kind"


def _joined(parts: Sequence[Series]) -> Series:
    first = parts[0]
    return Series(
        first.uid,
        first.number,
        first.description,
        first.modality,
        files=tuple(path for part in parts for path in part.files),
        images=sum(part.images for part in parts),
        size=first.size,
    )


def choose(found: DicomFolder, wanted: str | None = None) -> Series:
    """Choose one series of a folder.

    Parameters
    ----------
    found : DicomFolder
    wanted : str or None
        Its UID, its number, or its description, in which * and ? stand for other characters and
        case does not count. None where the folder holds only one.

    Raises
    ------
    FileFormatError
        None or several fit; the message lists what there is.
    """
    if not found.series:
        raise FileFormatError(
            f"holds no DICOM images ({found.ignored} other files)",
            where=found.folder,
            expected="a series",
            remedy="name a folder with one",
        )
    fitting = _fitting(found.series, wanted)
    if len(fitting) == 1:
        return fitting[0]
    what = f"{len(fitting)} series" if wanted is None else f"{len(fitting)} series for {wanted!r}"
    raise FileFormatError(
        f"holds {what}",
        where=found.folder,
        expected="one",
        remedy="name it by UID, number or a pattern of its description in the column "
        "<modality>_series or label_series of a dataset table",
        listed=f"there are {found.listed}",
    )


def _fitting(series: Sequence[Series], wanted: str | None) -> list[Series]:
    if wanted is None:
        return list(series)
    low = wanted.strip().lower()
    exact = [s for s in series if low in (s.uid, str(s.number), s.description.lower())]
    return exact or [s for s in series if fnmatch.fnmatchcase(s.description.lower(), low)]

"""The DICOM series under a folder, from headers alone, and how one of them is chosen."""

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from vol3dseg.errors import FileFormatError
from vol3dseg.extras import load_extra
from vol3dseg.formats.dicom.beginning import is_dicom_file
from vol3dseg.formats.dicom.dicom_file import parsing, printable, read_dataset
from vol3dseg.formats.streams import damaged, read_start

_DICOMDIR = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage
_REMEDIES = {  # by the name of a kind
    "RT Structure Set": "convert its contours to DICOM-SEG or NIfTI, as 3D Slicer does",
    "Surface Segmentation": "convert its surfaces to DICOM-SEG or NIfTI, as 3D Slicer does",
    "Raw Data": "export the images that were made of it",
}
_LISTED = 40  # series in a message: it is one line, and all are needed to choose
_SCANNING = Lock()

_State = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """What headers say of one series."""

    uid: str  # SeriesInstanceUID
    number: int | None
    description: str  # in one line, without what cannot be printed
    modality: str  # as DICOM has it: MR, CT, SEG, ...
    files: tuple[Path, ...]
    images: int  # slices, or frames of enhanced files

    @property
    def _number(self) -> str:
        return "without a number" if self.number is None else str(self.number)

    @property
    def where(self) -> str:
        """The folder, or the only file, and the number: messages are recorded, descriptions not."""
        return f"{os.path.commonpath(self.files)}: series {self._number}"


@dataclass(frozen=True, slots=True)
class DicomFolder:
    """The series under a folder."""

    folder: Path
    series: tuple[Series, ...]  # sorted by number
    others: tuple[str, ...]  # of each file that is no image, what DICOM calls it; "" if it is none

    @property
    def passed_over(self) -> str:
        """The files that are no images, as text: how many, and what those of DICOM are."""
        kinds = Counter(filter(None, self.others))
        named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        noun = "file" if len(self.others) == 1 else "files"
        return f"{len(self.others)} other {noun}{named and f' ({named})'}"

    @property
    def listed(self) -> str:
        """The series with all that one may be chosen by; for a screen, not for records."""
        first = "; ".join(
            f"{s._number} {s.description!r} ({s.modality}, {s.images} images, UID {s.uid})"
            for s in self.series[:_LISTED]
        )
        more = len(self.series) - _LISTED
        return f"{first} and {more} more" if more > 0 else first


def holds_files(folder: Path) -> bool:
    """Tell whether a folder itself holds a DICOM file; in most that do, the first is one."""
    with os.scandir(folder) as entries:
        return any(is_dicom_file(Path(entry.path)) for entry in entries)


def find_series(folder: Path) -> DicomFolder:
    """Find the DICOM series in a file, or under a folder, whose links to folders are not followed.

    Headers alone are read; those of the last few folders not again, as long as all files are the
    same. FileFormatError: there is no such folder, or a DICOM file in it is damaged (without it the
    series would lack a slice).
    """
    load_extra("pydicom", "dicom")
    if not folder.is_dir() and not folder.is_file():
        raise FileFormatError(
            "no such folder", where=folder, expected="one with DICOM files", remedy="check the path"
        )
    with _SCANNING:  # threads that read several series of a folder wait for one scan of it
        return _scan(folder, tuple((path, _state(path)) for path in _files(folder)))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for place, below, names in os.walk(folder):
        below.sort()
        yield from (Path(place) / name for name in sorted(names))


def _state(path: Path) -> _State:
    """Return what changes whenever a file does."""
    try:
        found = path.stat()
    except OSError:  # a link to nowhere
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=8)
def _scan(folder: Path, files: tuple[tuple[Path, _State], ...]) -> DicomFolder:
    found: dict[str, Series] = {}
    others: dict[Path, str] = {}
    for path, _ in files:
        one = _series_of(path)
        if isinstance(one, str):
            others[path] = one
        elif one.uid not in found:
            found[one.uid] = one
        else:
            known = found[one.uid]
            found[one.uid] = replace(
                known, files=(*known.files, path), images=known.images + one.images
            )
    series = sorted(found.values(), key=lambda s: (s.number or 0, s.uid))
    _require_no_lost_slice([path for path, kind in others.items() if not kind], series)
    return DicomFolder(folder, tuple(series), tuple(others.values()))


def _require_no_lost_slice(others: list[Path], series: list[Series]) -> None:
    """Refuse links to nowhere, and what is no DICOM but named as slices are, but for a number."""
    slices = {_unnumbered(path) for one in series for path in one.files}
    lost = next((p for p in others if _unnumbered(p) in slices or not p.exists()), None)
    if lost is not None:
        read_start(lost)  # which knows empty files, and those that were not fetched
        found = "is no DICOM, but named as the slices beside it are"
        raise damaged(found, lost, "a slice, or another name")


def _unnumbered(path: Path) -> Path:
    """Return a path without the number of its name, nor what downloads append until they end."""
    name = re.sub(r"\.(part|partial|filepart|crdownload|download|tmp)$", "", path.name)
    return path.with_name(re.sub(r"\d+", "0", name))


def _series_of(path: Path) -> Series | str:
    """Return the series that a file belongs to, with this file alone.

    Of a file that is no image, return what DICOM calls it; of another, nothing.
    """
    if not is_dicom_file(path):
        return ""
    header = read_dataset(path, voxels=False)
    with parsing(path):
        kind = header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
        if kind == _DICOMDIR:
            return ""
        if not (header.get("Rows") and header.get("Columns")):
            # pydicom reads a truncated header as one that ends there
            if kind is None or "Image Storage" in kind.name:
                raise damaged("is an image without Rows and Columns", path, "its size")
            known = kind.name != kind  # other text is nobody's business
            return str(kind.name).removesuffix(" Storage") if known else "unknown kind"
        if not header.get("SeriesInstanceUID"):
            raise FileFormatError(
                "has no SeriesInstanceUID",
                where=path,
                expected="the series that it belongs to",
                remedy="export it again, or move it to another folder",
            )
        number = header.get("SeriesNumber")
        return Series(
            uid=printable(header.SeriesInstanceUID),
            number=None if number is None else int(number),
            description=printable(header.get("SeriesDescription") or ""),
            modality=_kind(header.get("Modality")),
            files=(path,),
            images=int(header.get("NumberOfFrames") or 1),
        )


def _kind(modality: Any) -> str:
    """Return a modality if it looks like one: other text is nobody's business."""
    text = str(modality)
    return text if text.isalnum() and text.isupper() and len(text) <= 16 else "unknown kind"


def choose(found: DicomFolder, wanted: str | None = None) -> Series:
    """Choose one series of a folder; FileFormatError lists what there is if none or several match.

    `wanted` is its UID, its number, or its description, in which * and ? stand for other characters
    and case does not count; None where the folder holds only one.
    """
    if not found.series:
        kind = next((kind for kind in found.others if kind in _REMEDIES), "")
        raise FileFormatError(
            "holds no DICOM images" + (f", but {found.passed_over}" if found.others else ""),
            where=found.folder,
            expected="a series",
            remedy=_REMEDIES.get(kind, "name a folder with one"),
        )
    matching = list(found.series) if wanted is None else _matching(found.series, wanted)
    if len(matching) == 1:
        return matching[0]
    asked = "" if wanted is None else f" for {wanted!r}"
    raise FileFormatError(
        f"holds {len(matching)} series{asked}",
        where=found.folder,
        expected="one",
        remedy="name it by UID, number or a pattern of its description in the column "
        "<modality>_series or label_series of a dataset table",
        listed=f"there are {found.listed}",
    )


def _matching(series: tuple[Series, ...], wanted: str) -> list[Series]:
    low = wanted.strip().lower()
    exact = [s for s in series if low in (s.uid, str(s.number), s.description.lower())]
    return exact or [s for s in series if fnmatch.fnmatchcase(s.description.lower(), low)]

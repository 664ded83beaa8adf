"""What a case is made of, so that what was made of it can be told to be out of date."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from vol3dseg import formats
from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError, FileFormatError
from vol3dseg.files import canonical_json, sha256_text

Signature = dict[str, tuple[int, int]]


def signature(case: Case, modalities: Iterable[str], with_label: bool) -> Signature | None:
    """Return what some images of a case, and its label map, are made of.

    Parameters
    ----------
    case : Case
    modalities : iterable of str
        Those that count.
    with_label : bool
        Whether the label map counts, where there is one.

    Returns
    -------
    mapping from str to (size in bytes, time of last change in ns), or None
        Each file (with its header or voxels, where they are another) or folder with DICOM, with
        what it is used for and how it is read; None where a file or a modality is missing.
    """
    try:
        chosen = case.select(modalities)
        found = {
            f"{modality}: {_named(path)}{source.intake}": _state(path)
            for modality, source in chosen.images.items()
            for path in source.paths
        }
        if with_label and case.label is not None:
            found[f"label: {_named(case.label)}{''.join(_asked_of_label(case))}"] = _state(
                case.label
            )
    except (OSError, DatasetError, FileFormatError):
        return None
    return found


def images_digest(case: Case, modalities: Iterable[str]) -> str:
    """Return the SHA-256 of what some images of a case are made of; empty where one is missing.

    It tells a change without naming files: paths may hold names of patients.
    """
    found = signature(case, modalities, with_label=False)
    return "" if found is None else sha256_text(canonical_json(found))


def _asked_of_label(case: Case) -> Iterator[str]:
    if case.label_series is not None:
        yield f", series {case.label_series}"
    if case.label_resampled:
        yield ", resampled"


def _named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file; of several or a folder, the sum and the latest."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    else:
        files = list(formats.files_of(path))
    stats = [file.stat() for file in files]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)

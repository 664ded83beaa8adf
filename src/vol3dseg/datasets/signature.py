"""What a case is made of, so that what was made of it can be told to be out of date."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError

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
        Each file, or folder with DICOM, with what it is used for and how it is read; None where a
        file or a modality is missing.
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
    except (OSError, DatasetError):
        return None
    return found


def _asked_of_label(case: Case) -> Iterator[str]:
    if case.label_series is not None:
        yield f", series {case.label_series}"
    if case.label_resampled:
        yield ", resampled"


def _named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file; of a folder, their sum and the latest."""
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)

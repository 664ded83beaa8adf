"""Whether what was made of the files of a case is still current."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from vol3dseg import formats
from vol3dseg.datasets.case import Case
from vol3dseg.errors import DatasetError, FileFormatError
from vol3dseg.files import canonical_json, sha256_text


class Made(Protocol):
    """What is recorded of something that was made of a case.

    Attributes
    ----------
    sources : str
        The signature of the case from before its files were read.
    repairs : tuple of str
        What was put right in its files only because repairs were allowed.
    """

    @property
    def sources(self) -> str: ...  # noqa: D102
    @property
    def repairs(self) -> tuple[str, ...]: ...  # noqa: D102


def is_current(made: Made, case: Case, modalities: Iterable[str], with_label: bool) -> bool:
    """Tell whether making it again would take the same files and read them in the same way.

    Parameters
    ----------
    made : Made
    case : Case
        As it is now.
    modalities, with_label
        What it was made of; see `signature`.
    """
    if made.repairs and not case.repair:
        return False
    return bool(made.sources) and made.sources == signature(case, modalities, with_label)


def signature(case: Case, modalities: Iterable[str], with_label: bool) -> str:
    """Return what tells the files of a case from any that they are replaced with.

    Take it before the files are read: one that is replaced meanwhile is noticed only then.

    Parameters
    ----------
    case : Case
    modalities : iterable of str
        The images that count.
    with_label : bool
        Whether the label map counts, where there is one.

    Returns
    -------
    str
        SHA-256 over names, sizes and times of change of all files, with what each is used for and
        how it is read; no file is named in it, since paths may hold names of patients. Empty where
        a file or a modality is missing.
    """
    try:
        chosen = case.select(modalities)
        found = dict(_images(chosen))
        if with_label and case.label is not None:
            found[f"label: {_named(case.label)}{_label_intake(case)}"] = _state(case.label)
    except (OSError, DatasetError, FileFormatError):
        return ""
    return sha256_text(canonical_json(found))


def _images(case: Case) -> Iterator[tuple[str, tuple[int, int]]]:
    for modality, source in case.images.items():
        for path in source.paths:
            yield f"{modality}: {_named(path)}{source.intake}", _state(path)


def _label_intake(case: Case) -> str:
    series = f", series {case.label_series}" if case.label_series is not None else ""
    return f"{series}, resampled" if case.label_resampled else series


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

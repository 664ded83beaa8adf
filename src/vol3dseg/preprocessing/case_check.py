"""Whether files of prepared cases are as the index says and built as such, before any is opened."""

from collections.abc import Sequence
from pathlib import Path

from vol3dseg.errors import StoreError
from vol3dseg.preprocessing.examination import CaseFile, flaws
from vol3dseg.preprocessing.index import CaseEntry, Index, verify
from vol3dseg.preprocessing.patch_table import ORIGIN

AGAIN = "prepare into a new folder"


def case_faults(folder: Path, index: Index, entries: Sequence[CaseEntry]) -> dict[str, StoreError]:
    """Return why cases are refused, by their ids: all that is wrong, in the order of `entries`.

    A file is missing, is not the one that was written, reaches into other files, claims more than
    it can hold, or ends the process that examines it. Only files that are as they were written are
    examined.
    """
    found: dict[str, StoreError] = {}
    files: dict[str, CaseFile] = {}
    for entry in entries:
        try:
            files[entry.id] = _as_written(folder, index, entry)
        except StoreError as fault:
            found[entry.id] = fault
    for case_id, words in zip(files, flaws(list(files.values())), strict=True):
        if words:
            found[case_id] = StoreError(
                words,
                where=files[case_id].path,
                expected="a case as vol3dseg preprocess writes it",
                remedy=f"{AGAIN}, and do not open the file with other programs",
            )
    return {entry.id: found[entry.id] for entry in entries if entry.id in found}


def _as_written(folder: Path, index: Index, entry: CaseEntry) -> CaseFile:
    """Return what is to be examined of a case, once its file has the SHA-256 that it should."""
    labelled = entry.class_voxels is not None
    columns = ORIGIN.stop + len(index.labels.classes) if labelled else 0
    path, names = str(verify(folder, entry)), index.recipe.modalities
    there = tuple(name for name in names if name not in entry.missing)
    return CaseFile(path, there, entry.shape, entry.source_shape, columns)

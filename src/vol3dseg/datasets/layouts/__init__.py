"""Known layouts of data sets; a new one is one file here and one line below."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vol3dseg.datasets.case import Case, clashes
from vol3dseg.datasets.label_classes import with_label_classes
from vol3dseg.datasets.layouts.bids import BIDS
from vol3dseg.datasets.layouts.brats import BRATS
from vol3dseg.datasets.layouts.case_folders import CASE_FOLDERS
from vol3dseg.datasets.layouts.decathlon import DECATHLON
from vol3dseg.datasets.layouts.dicom_folders import DICOM
from vol3dseg.datasets.layouts.layout import Layout, Search, subfolders
from vol3dseg.datasets.layouts.likely_labels import with_likely_labels
from vol3dseg.datasets.layouts.nnunet import NNUNET
from vol3dseg.datasets.layouts.plain_files import FILES, IMAGES_AND_LABELS
from vol3dseg.datasets.layouts.table import TABLE
from vol3dseg.errors import DatasetError, some_of
from vol3dseg.written import usable_path

# The first that recognises a data set reads it: an nnU-Net's dataset.json may look like that of the
# Decathlon, and a file of BIDS like one of BraTS.
LAYOUTS = (TABLE, NNUNET, DECATHLON, BIDS, IMAGES_AND_LABELS, BRATS, DICOM, CASE_FOLDERS, FILES)
_LOG = logging.getLogger(__name__)
_LISTED = 12  # problems in a message
_DEEP = 3  # folders that a data set may lie in


def layout_of(path: Path) -> Layout | None:
    """Return the layout of a data set; None if it has no known one, or is not there."""
    with _readable():
        return _placed(path)[0]


def find_cases(dataset: str | Path, modalities: Sequence[str] = ()) -> list[Case]:
    """Return the cases of a data set, whichever known layout it has; no voxel is loaded.

    Parameters
    ----------
    dataset : str or Path
        The folder of a data set, or of one case where the layout has such; or a dataset table.
        Where it holds nothing but a folder with a data set, that is read.
    modalities : sequence of str
        Those that are wanted, where names of files may not say: an image that says nothing is the
        only one of them, or "image".

    Returns
    -------
    list of Case
        In order of their ids; at least one.

    Raises
    ------
    DatasetError
        There is nothing at `dataset`, or nothing in a known layout, or files contradict each other.
    """
    path = usable_path(dataset, DatasetError)
    with _readable():
        layout, place = _placed(path)
        if layout is not None:
            if place != path:
                _LOG.warning(
                    "%s holds one data set, in %s: that is read", path, place.relative_to(path)
                )
            return _checked(layout, place, Search(tuple(modalities)))
        if path.is_dir():
            raise _unknown(path)
    raise DatasetError(
        "is no folder and no table" if path.exists() else "does not exist",
        where=path,
        expected="the folder of a data set, or a table (.csv, .json)",
        remedy="check the path",
    )


def _placed(path: Path) -> tuple[Layout | None, Path]:
    """Return the layout of a data set, and where it lies: at a path, or in its only folder."""
    own = _own_layout(path)
    if own is None and path.is_dir():
        inner = _data_sets(path)
        if len(inner) == 1 and inner[0][0] is not FILES:
            return inner[0]
    return own, path


def _own_layout(path: Path) -> Layout | None:
    return next((layout for layout in LAYOUTS if layout.recognises(path)), None)


def _data_sets(folder: Path, levels: int = _DEEP) -> list[tuple[Layout, Path]]:
    """Return the data sets in the folders of a folder, some levels deep, with their layouts."""
    found: list[tuple[Layout, Path]] = []
    for path in subfolders(folder) if levels else []:
        layout = _own_layout(path)
        found += _data_sets(path, levels - 1) if layout is None else [(layout, path)]
    return found


def _unknown(path: Path) -> DatasetError:
    """Return the error of a folder without a known layout, which begins with what may be meant."""
    inner = [f"{place.relative_to(path)} ({layout.name})" for layout, place in _data_sets(path)]
    if inner:
        remedy = "give it" if len(inner) == 1 else "give one of them, or several to predict"
        return DatasetError(f"has data sets in {some_of(inner)}", where=path, remedy=remedy)
    names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
    return DatasetError(
        f"is in no known layout: found {some_of(names) or 'nothing'}",
        where=path,
        expected=f"that of {', '.join(layout.name for layout in LAYOUTS)} (docs/datasets.md)",
        remedy="give the folder that the cases lie in, or name their files in a table",
    )


def _checked(layout: Layout, path: Path, search: Search) -> list[Case]:
    cases, problems = sorted(layout.find(path, search), key=lambda c: c.id), search.problems
    root = path if path.is_dir() else path.parent
    if layout is not TABLE:
        cases = with_label_classes(cases, root, problems)
    problems += [_clash(same, root) for same in clashes(cases)]
    if problems:
        more = len(problems) - _LISTED
        found = "; ".join(problems[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
        raise DatasetError(found, where=path, expected=layout.rule, remedy=layout.remedy)
    return with_likely_labels(cases, root)


def _clash(cases: Sequence[Case], root: Path) -> str:
    places = ", ".join(os.path.relpath(next(iter(case.paths), root), root) for case in cases)
    if len({case.id for case in cases}) == 1:
        return f"case {cases[0].id} is there twice: {places}"
    ids = " and ".join(case.id for case in cases)
    return f"cases {ids} differ only in capitals or in how letters are encoded: {places}"


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"cannot be read ({error.strerror})",
            where=error.filename,
            remedy="correct its name or its permissions",
        ) from error

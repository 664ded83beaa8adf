"""Known layouts of data sets; a new one is one file here and one line below."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vol3dseg.datasets.case import Case, clashes
from vol3dseg.datasets.layouts.bids import BIDS
from vol3dseg.datasets.layouts.brats import BRATS
from vol3dseg.datasets.layouts.decathlon import DECATHLON
from vol3dseg.datasets.layouts.dicom_folders import DICOM
from vol3dseg.datasets.layouts.layout import Layout
from vol3dseg.datasets.layouts.likely_labels import with_likely_labels
from vol3dseg.datasets.layouts.nnunet import NNUNET
from vol3dseg.datasets.layouts.table import TABLE
from vol3dseg.errors import DatasetError, some_of

# The first that recognises a data set reads it: an nnU-Net's dataset.json may look like that of the
# Decathlon, and a file of BIDS like one of BraTS.
LAYOUTS = (TABLE, NNUNET, DECATHLON, BIDS, BRATS, DICOM)
_LISTED = 12  # problems in a message


def layout_of(path: Path) -> Layout | None:
    """Return the layout of a data set; None if it has no known one, or is not there."""
    with _readable():
        return next((layout for layout in LAYOUTS if layout.recognises(path)), None)


def find_cases(dataset: str | Path) -> list[Case]:
    """Return the cases of a data set, whichever known layout it has; no voxel is loaded.

    Parameters
    ----------
    dataset : str or Path
        The folder of a data set, or of one case where the layout has such; or a dataset table.

    Returns
    -------
    list of Case
        In order of their ids; at least one.

    Raises
    ------
    DatasetError
        There is nothing at `dataset`, or nothing in a known layout, or files contradict each other.
    """
    path = Path(dataset)
    layout = layout_of(path)
    with _readable():
        if layout is not None:
            return _checked(layout, path)
        if path.is_dir():
            names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
            raise DatasetError(
                f"no known layout: found {some_of(names) or 'nothing'}",
                where=path,
                expected=" or ".join(f"{layout.name} ({layout.expected})" for layout in LAYOUTS),
                remedy="where the cases lie deeper, give that folder",
            )
    raise DatasetError(
        "is no folder and no table" if path.exists() else "does not exist",
        where=path,
        expected="the folder of a data set, or a table (.csv, .json)",
        remedy="check the path",
    )


def _checked(layout: Layout, path: Path) -> list[Case]:
    problems: list[str] = []
    cases = sorted(layout.find(path, problems), key=lambda case: case.id)
    root = path if path.is_dir() else path.parent
    problems += [_clash(same, root) for same in clashes(cases)]
    if problems:
        more = len(problems) - _LISTED
        found = "; ".join(problems[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
        raise DatasetError(found, where=path, expected=layout.rule, remedy=layout.remedy)
    return with_likely_labels(cases)


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

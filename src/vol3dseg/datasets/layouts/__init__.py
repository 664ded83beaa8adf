"""Known layouts of data sets; a new one is one file here and one line below."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts.bids import BIDS
from vol3dseg.datasets.layouts.brats import BRATS
from vol3dseg.datasets.layouts.decathlon import DECATHLON
from vol3dseg.datasets.layouts.dicom_folders import DICOM
from vol3dseg.datasets.layouts.layout import Layout
from vol3dseg.datasets.layouts.nnunet import NNUNET
from vol3dseg.datasets.layouts.table import TABLE
from vol3dseg.errors import DatasetError, some_of

# The first that recognises a data set reads it: an nnU-Net's dataset.json may look like that of the
# Decathlon, and a file of BIDS like one of BraTS.
LAYOUTS = (TABLE, NNUNET, DECATHLON, BIDS, BRATS, DICOM)


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
    for name, times in Counter(case.id for case in cases).items():
        if times > 1:
            first = [next(iter(case.paths), root) for case in cases if case.id == name]
            places = ", ".join(os.path.relpath(place, root) for place in first)
            problems.append(f"case {name} is there twice: {places}")
    if problems:
        found = "; ".join(problems)
        raise DatasetError(found, where=path, expected=layout.rule, remedy=layout.remedy)
    return cases


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

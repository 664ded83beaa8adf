"""Known layouts of data sets; a new one is one file here and one line below."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts.bids import BidsLayout
from vol3dseg.datasets.layouts.brats import BratsLayout
from vol3dseg.datasets.layouts.decathlon import DecathlonLayout
from vol3dseg.datasets.layouts.dicom_folders import DicomLayout
from vol3dseg.datasets.layouts.nnunet import NnunetLayout
from vol3dseg.datasets.layouts.table import TableLayout
from vol3dseg.errors import DatasetError, some_of


class Layout(Protocol):
    """How the cases of a data set lie in a folder, or are listed in a file.

    Attributes
    ----------
    name : str
        What people call it.
    expected : str
        What it looks like, in words, for messages.
    """

    name: str
    expected: str

    def recognises(self, path: Path) -> bool:
        """Tell whether what is at `path` has this layout."""
        ...

    def find_cases(self, path: Path) -> list[Case]:
        """Return the cases at `path`, in order of their ids; no voxel is loaded."""
        ...


# The first that recognises a data set reads it: an nnU-Net's dataset.json may look like that of the
# Decathlon, and a file of BIDS like one of BraTS.
LAYOUTS: tuple[Layout, ...] = (
    TableLayout(),
    NnunetLayout(),
    DecathlonLayout(),
    BidsLayout(),
    BratsLayout(),
    DicomLayout(),
)


def layout_of(path: Path) -> Layout | None:
    """Return the layout of a data set; None if it has no known one, or is not there.

    Raises
    ------
    DatasetError
        A folder cannot be looked into.
    """
    with _readable(path):
        return next((layout for layout in LAYOUTS if layout.recognises(path)), None)


def find_cases(path: Path) -> list[Case]:
    """Return the cases of a data set, whichever known layout it has; no voxel is loaded.

    Parameters
    ----------
    path : Path
        The folder of a data set, or of one case where the layout has such; or a dataset table.

    Returns
    -------
    list of Case
        In order of their ids; at least one.

    Raises
    ------
    DatasetError
        There is nothing at `path`, or nothing in a known layout, or files contradict each other.
    """
    layout = layout_of(path)
    if layout is not None:
        with _readable(path):
            return layout.find_cases(path)
    if not path.is_dir():
        found = "is no folder and no table" if path.exists() else "does not exist"
        raise DatasetError(
            f"{path}: {found}; expected the folder of a data set, or a table (.csv, .json)"
        )
    expected = " or ".join(f"{layout.name} ({layout.expected})" for layout in LAYOUTS)
    raise DatasetError(
        f"{path}: no known layout: found {_content(path)}; expected {expected}; "
        "where the cases lie deeper, give that folder"
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{path}: {error.filename} cannot be read ({error.strerror}); mend its name or its "
            "rights"
        ) from error


def _content(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return some_of(names) or "nothing"

"""Known layouts of dataset folders; a new one is one file here and one line below."""

from pathlib import Path
from typing import Protocol

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts.brats import BratsLayout
from vol3dseg.datasets.layouts.decathlon import DecathlonLayout
from vol3dseg.errors import DatasetError, some_of


class Layout(Protocol):
    """How the cases of a data set lie in a folder.

    Attributes
    ----------
    name : str
        What people call it.
    expected : str
        What the folder looks like, in words, for messages.
    """

    name: str
    expected: str

    def recognises(self, folder: Path) -> bool:
        """Tell whether `folder` has this layout."""
        ...

    def find_cases(self, folder: Path) -> list[Case]:
        """Return the cases in `folder`, in order of their ids; no voxel is loaded."""
        ...


LAYOUTS: tuple[Layout, ...] = (DecathlonLayout(), BratsLayout())


def find_cases(folder: Path) -> list[Case]:
    """Return the cases in `folder`, whichever known layout it has; no voxel is loaded.

    Parameters
    ----------
    folder : Path
        A data set, or the folder of one case where the layout has such.

    Returns
    -------
    list of Case
        In order of their ids; at least one.

    Raises
    ------
    DatasetError
        The folder does not exist or has no known layout, or files contradict each other.
    """
    if not folder.is_dir():
        found = "is no folder" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder}: {found}; expected the folder of a data set")
    for layout in LAYOUTS:
        if layout.recognises(folder):
            return layout.find_cases(folder)
    expected = " or ".join(f"{layout.name} ({layout.expected})" for layout in LAYOUTS)
    raise DatasetError(
        f"{folder}: no known layout: found {_content(folder)}; expected {expected}; "
        "where the cases lie deeper, give that folder"
    )


def _content(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return some_of(names) or "nothing"

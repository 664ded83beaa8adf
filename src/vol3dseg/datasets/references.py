"""Where label maps to judge and to judge by are kept."""

from pathlib import Path

from vol3dseg.datasets.layouts import layout_of
from vol3dseg.errors import DatasetError
from vol3dseg.volumes import nifti


def label_files(folder: Path) -> dict[str, Path]:
    """Return the label maps of a folder of files named `<id>.nii[.gz]`, by case.

    Probabilities (`<id>_probabilities.nii.gz`) are passed over.

    Raises
    ------
    DatasetError
        The folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one of label maps (.nii.gz)")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = nifti.stem(path)
        if name is None or name.startswith(".") or name.endswith("_probabilities"):
            continue
        if name in found:
            raise DatasetError(f"{folder}: case {name} is there twice; remove {path.name}")
        found[name] = path
    if not found:
        raise DatasetError(f"{folder}: holds no label maps; expected files <id>.nii.gz")
    return found


def reference_files(path: Path) -> dict[str, Path]:
    """Return the reference label maps of a data set, or of a folder of files named by case.

    Parameters
    ----------
    path : Path
        A data set in a known layout, a dataset table, or a folder.

    Raises
    ------
    DatasetError
        It is neither.
    """
    layout = layout_of(path)
    if layout is None:
        return label_files(path)
    try:
        cases = layout.find_cases(path)
    except DatasetError:
        # Label maps in one folder may look like the files of one case.
        if path.is_dir() and any(nifti.stem(file) for file in path.iterdir()):
            return label_files(path)
        raise
    return {case.id: case.label for case in cases if case.label is not None}

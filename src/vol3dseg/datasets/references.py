"""Where label maps to judge and to judge by are kept."""

from collections.abc import Collection
from pathlib import Path

from vol3dseg import formats
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.layouts import layout_of
from vol3dseg.errors import DatasetError


def label_files(folder: Path, recorded: Collection[str] = ()) -> dict[str, Path]:
    """Return the label maps of a folder of files named `<id>.nii.gz`, `<id>.dcm`, ..., by case.

    Probabilities (`<id>_probabilities.nii.gz`) are passed over.

    Parameters
    ----------
    folder : Path
    recorded : collection of str
        Names of files that count where a case has several, as in predictions.json.

    Raises
    ------
    DatasetError
        The folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected one of label maps")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = formats.label_stem(path)
        if name is None or name.startswith(".") or name.endswith("_probabilities"):
            continue
        if formats.is_companion(path) or (name in found and found[name].name in recorded):
            continue
        if name in found and path.name not in recorded:
            raise DatasetError(
                f"case {name} is there twice, as {found[name].name} and {path.name}",
                where=folder,
                expected="one label map of each case",
                remedy="move one of them to another folder",
            )
        found[name] = path
    if not found:
        raise DatasetError(
            f"{folder}: holds no label maps; expected files <id>.nii.gz, <id>.nrrd, <id>.mha "
            "or <id>.dcm"
        )
    return found


def reference_cases(path: Path) -> dict[str, Case]:
    """Return the cases of a data set that have a label map, or those that a folder of such names.

    Parameters
    ----------
    path : Path
        A data set in a known layout, a dataset table, or a folder of files named by case, whose
        cases have no images.

    Raises
    ------
    DatasetError
        It is neither.
    """
    layout = layout_of(path)
    if layout is None:
        return _without_images(label_files(path))
    try:
        cases = layout.find_cases(path)
    except DatasetError:
        # Label maps in one folder may look like the files of one case.
        if path.is_dir() and any(formats.label_stem(file) for file in path.iterdir()):
            return _without_images(label_files(path))
        raise
    return {case.id: case for case in cases if case.label is not None}


def _without_images(files: dict[str, Path]) -> dict[str, Case]:
    return {name: Case(name, name, {}, path) for name, path in files.items()}

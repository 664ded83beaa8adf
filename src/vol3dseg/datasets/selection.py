"""Which cases the user means: folders, files, named modalities, a part of a split."""

from collections.abc import Sequence
from pathlib import Path

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import DatasetError
from vol3dseg.formats.dicom.series import holds_files


def gather_cases(inputs: Sequence[Path], modalities: Sequence[str]) -> list[Case]:
    """Find the cases of several inputs.

    Parameters
    ----------
    inputs : sequence of Path
        Data sets in a known layout, dataset tables, folders of one case, or what is one image: a
        file, or a folder with one DICOM series.
    modalities : sequence of str
        Of the model; what is one image needs exactly one.

    Raises
    ------
    DatasetError
        An input is not there or not understood, or two cases have the same name.
    """
    cases: list[Case] = []
    for path in inputs:
        if len(modalities) == 1 and path.is_dir() and holds_files(path):
            name = path.resolve().name
            cases.append(Case(name, name, {modalities[0]: ImageSource(path)}))
        elif path.is_dir() or layout_of(path):
            cases += find_cases(path)
        else:
            cases.append(_single_file(path, modalities))
    names = [case.id for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(
            f"several inputs are named {', '.join(twice)}; their outputs would overwrite each "
            "other; rename them, or predict into separate folders"
        )
    return cases


def one_case(images: Sequence[str], case_id: str) -> Case:
    """Return the case of `modality=file` pairs.

    Raises
    ------
    DatasetError
        A pair is malformed, or a modality is given twice.
    """
    found: dict[str, ImageSource] = {}
    for pair in images:
        modality, equals, file = pair.partition("=")
        if not equals or not modality or not file:
            raise DatasetError(f"{pair!r}: expected MODALITY=FILE, such as flair=scan.nii.gz")
        if modality in found:
            raise DatasetError(f"modality {modality} is given twice; give each once")
        found[modality] = ImageSource(Path(file))
    return Case(case_id, case_id, found)


def only_part(cases: Sequence[Case], split_file: Path, part: str) -> list[Case]:
    """Return the cases of one part of a split.

    Raises
    ------
    DatasetError
        A case of that part is not among `cases`, or the part is empty.
    """
    wanted = read_split(split_file).part(part)
    by_id = {case.id: case for case in cases}
    missing = [name for name in wanted if name not in by_id]
    if missing or not wanted:
        what = f"cases {', '.join(missing)} are not in the input" if missing else "it is empty"
        raise DatasetError(f"{split_file}: part {part}: {what}; choose another part or data set")
    return [by_id[name] for name in wanted]


def _single_file(path: Path, modalities: Sequence[str]) -> Case:
    name = formats.stem(path)
    if name is None or not path.exists():
        found = "not an image file by its name" if path.exists() else "does not exist"
        raise DatasetError(
            f"{path}: {found}; expected a folder of cases, a table (.csv, .json), or "
            f"{formats.EXPECTED}"
        )
    if len(modalities) != 1:
        raise DatasetError(
            f"{path}: one file, but the model needs {len(modalities)} modalities "
            f"({', '.join(modalities)}); name each with --image MODALITY=FILE"
        )
    return Case(name, name, {modalities[0]: ImageSource(path)})

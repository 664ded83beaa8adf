"""Which cases the user means: folders, files, named modalities, a part of a split, references."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vol3dseg import formats
from vol3dseg.datasets.case import Case, ImageSource, given_twice, require_distinct, spelled
from vol3dseg.datasets.layouts import find_cases, layout_of
from vol3dseg.datasets.layouts.dicom_folders import DICOM
from vol3dseg.datasets.layouts.nnunet import numbered_case, numbered_cases
from vol3dseg.datasets.layouts.plain_files import FILES, case_of_file
from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import DatasetError
from vol3dseg.formats.dicom.series import holds_files


def gather_cases(
    inputs: Sequence[Path], modalities: Sequence[str], numbered: bool = False
) -> list[Case]:
    """Return the cases of several inputs for a model that needs these modalities.

    An input is what `find_cases` takes, or one image, a file or a folder with one DICOM series,
    where the model needs no other. For models of nnU-Net, files may be `numbered` by its channels.
    Raises DatasetError where one is neither, or two cases have the same name.
    """
    cases: list[Case] = []
    for path in inputs:
        if numbered and (found := _numbered(path, modalities)):
            cases += found
        elif path.is_dir() or layout_of(path):
            cases += find_cases(path, modalities)
        else:
            cases.append(_single_file(path, modalities))
    require_distinct(cases)
    return cases


def _numbered(path: Path, modalities: Sequence[str]) -> list[Case]:
    """Return cases of files that are numbered by channel; none where they are not."""
    if path.is_dir():
        return numbered_cases(path, modalities)
    one = numbered_case(path, modalities[0]) if path.exists() and len(modalities) == 1 else None
    return [one] if one else []


def one_case(images: Sequence[str], case_id: str) -> Case:
    """Return the case of `modality=file` pairs; raises DatasetError where a pair is malformed."""
    found: dict[str, ImageSource] = {}
    for pair in images:
        modality, equals, file = pair.partition("=")
        if not equals or not modality or not file:
            expected = "MODALITY=FILE, such as flair=scan.nii.gz"
            raise DatasetError(f"found {pair!r}", expected=expected, remedy="name each image so")
        if modality in found:
            raise DatasetError(f"modality {modality} is given twice", remedy="give each once")
        found[modality] = ImageSource(Path(file))
    if twice := given_twice(found):
        raise DatasetError(twice, expected="an image of its own for each modality")
    return Case(case_id, case_id, found)


def only_part(cases: Sequence[Case], split_file: Path, part: str) -> list[Case]:
    """Return the cases of one part of a split; raises DatasetError where one is not there."""
    wanted = read_split(split_file).part(part)
    by_id = {case.id: case for case in cases}
    missing = ", ".join(name for name in wanted if name not in by_id)
    if missing or not wanted:
        found = (
            f"part {part}: {missing} are not in the input" if missing else f"part {part} is empty"
        )
        raise DatasetError(found, where=split_file, remedy="choose another part or data set")
    return [by_id[name] for name in wanted]


def label_files(
    folder: Path,
    recorded: Collection[str] = (),
    besides: Collection[str] = (),
    called: Mapping[str, str] | None = None,
) -> dict[str, Path]:
    """Return the label maps of a folder of files named `<id>.nii.gz`, `<id>.dcm`, ..., by case.

    Files whose names without their endings are in `besides` are none. With `called`, which says the
    cases of such names, files are looked for in all folders below, as BIDS has them. Where a case
    has several files, those count that are `recorded`, as in predictions.json. Raises DatasetError
    where the folder is missing or holds none, or two files are of one case.
    """
    expected = "files <id>.nii.gz, <id>.nrrd, <id>.mha or <id>.dcm"
    if not folder.is_dir():
        raise DatasetError(
            "no such folder", where=folder, expected=expected, remedy="check the path"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir() if called is None else folder.rglob("*_dseg.*")):
        name = spelled(formats.label_stem(path) or "")
        name = name if called is None else called.get(name, name)
        if not name or name.startswith(".") or name in besides:
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
    require_distinct(Case(name, name, {}) for name in found)
    if not found:
        remedy = "choose another folder"
        raise DatasetError("holds no label maps", where=folder, expected=expected, remedy=remedy)
    return found


def reference_cases(path: Path) -> dict[str, Case]:
    """Return the cases of a data set by id, whether or not they have a label map.

    `path` is what `find_cases` takes, or a folder of files named by case, which have no images.
    Raises DatasetError where nothing is found.
    """
    layout = layout_of(path)
    # The DICOM-SEG of several cases lie in one folder; series have one each.
    if layout is not None and not (layout is DICOM and holds_files(path)):
        cases = find_cases(path)
        # Files in one folder are label maps themselves, unless there are images with label maps.
        if layout is not FILES or any(case.images and case.label for case in cases):
            return {case.id: case for case in cases}
    return {name: Case(name, name, {}, file) for name, file in label_files(path).items()}


def _single_file(path: Path, modalities: Sequence[str]) -> Case:
    if formats.stem(path) is None or not path.exists():
        raise DatasetError(
            "not an image file by its name" if path.exists() else "does not exist",
            where=path,
            expected=f"a folder of cases, a table (.csv, .json), or {formats.EXPECTED}",
            remedy="check the path",
        )
    if len(modalities) != 1:
        raise DatasetError(
            f"one file, but the model needs {len(modalities)} modalities ({', '.join(modalities)})",
            where=path,
            remedy="name each with --image MODALITY=FILE",
        )
    return case_of_file(path, modalities[0])

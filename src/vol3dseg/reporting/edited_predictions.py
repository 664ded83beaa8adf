"""Predictions that a person has edited, as a data set to learn from.

A copy of the folder of predictions is opened in any viewer and mended there. What was changed, by
how much and from what, stands in `corrections.json` beside a dataset table of the mended cases.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case, allow_repairs
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.layouts.table import write_table
from vol3dseg.datasets.selection import label_files
from vol3dseg.datasets.sources import read_grid
from vol3dseg.errors import DatasetError, GridError, in_memory, some_of
from vol3dseg.evaluation.overlap import confusion
from vol3dseg.files import require_writable, write_text
from vol3dseg.formats import NIFTI, open_labels, write_labels
from vol3dseg.inference.record import CaseRecord, Record, load_record
from vol3dseg.reporting.matching import called, no_label_maps
from vol3dseg.schema import Amount, Count, Frozen
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.resampling import reoriented
from vol3dseg.written import sha256_file

TABLE, RECORD_NAME, LABELS = "cases.csv", "corrections.json", "labels"


class Correction(Frozen):
    """What a person has changed in the prediction of a case.

    Attributes
    ----------
    prediction_sha256, edited_sha256 : str
        Of the two files.
    voxels : int
        That have another class now.
    ml : float
        Their volume [ml].
    moved : mapping from "was -> is" to voxels
        By classes, the most first.
    """

    prediction_sha256: str
    edited_sha256: str
    voxels: Count
    ml: Amount
    moved: dict[str, Count]


class Corrections(Frozen):
    """`corrections.json`: where each label map of the data set comes from.

    Attributes
    ----------
    model_sha256 : str
        Of the model that predicted.
    corrected : mapping from case to Correction
    unchanged : tuple of str
        Cases whose edited map says what the prediction says; part of the data set if asked for.
    not_edited : tuple of str
        Cases that were predicted and have no edited map.
    """

    format: Literal["vol3dseg.corrections"] = "vol3dseg.corrections"
    version: Literal[1] = 1
    model_sha256: str
    corrected: dict[str, Correction]
    unchanged: tuple[str, ...] = ()
    not_edited: tuple[str, ...] = ()


def collect_corrections(
    predictions: str | Path,
    edited: str | Path,
    scans: str | Path,
    output: str | Path,
    keep_unchanged: bool = False,
    repair: bool = False,
) -> Corrections:
    """Make a data set of the predictions that were edited.

    Parameters
    ----------
    predictions : str or Path
        What `vol3dseg predict` wrote, as it wrote it.
    edited : str or Path
        A folder of label maps with the same names, in any format that is read, with the values that
        predictions are written with.
    scans : str or Path
        The data set or table of the scans that were segmented.
    output : str or Path
        Gets cases.csv, a dataset table with the images where they lie, labels/ with the edited maps
        on the grid of the predictions, and corrections.json.
    keep_unchanged : bool
        Take cases as well whose edited map is equal: somebody has looked, and found nothing.
    repair : bool
        Read files that are wrong where there is a repair.

    Raises
    ------
    DatasetError
        An edited map is of no prediction, its scan is missing, or nothing was changed.
    EvaluationError
        There is no predictions.json.
    FileFormatError, GridError, LabelError
        A label map cannot be read, lies on another grid, or holds what predictions do not.
    OutputError
        The output cannot be written.
    """
    folder, place = Path(predictions), Path(output)
    record = load_record(folder)
    files = _edited_files(Path(edited), record)
    cases = _scans(Path(scans), files, repair)
    names = {name: f"{name}{NIFTI.suffix}" for name in files}
    require_writable(place, (TABLE, RECORD_NAME))
    require_writable(place / LABELS, names.values())

    def compare(name: str) -> tuple[Segmentation, Correction]:
        with in_memory("the two label maps", where=f"case {name}"):
            made = record.cases[name]
            return _compared(folder, made, files[name], cases[name], record.labels)

    # All are compared before one is written, or an error would leave maps without their table.
    found = {name: compare(name)[1] for name in files}
    chosen = [name for name, each in found.items() if each.voxels or keep_unchanged]
    if not chosen:
        raise DatasetError(
            f"none of {len(files)} edited label maps differs from its prediction",
            where=edited,
            expected="maps that were changed",
            remedy="save them after editing, or take what was looked at as well with --unchanged",
        )
    kept = []
    for name in chosen:
        target = place / LABELS / names[name]
        write_labels(compare(name)[0], target)
        kept.append(_labelled(cases[name], target, record.labels))
    write_table(kept, place / TABLE)
    collected = Corrections(
        model_sha256=record.model_sha256,
        corrected={name: each for name, each in found.items() if each.voxels},
        unchanged=tuple(name for name, each in found.items() if not each.voxels),
        not_edited=tuple(n for n, made in record.cases.items() if made.file and n not in files),
    )
    write_text(place / RECORD_NAME, collected.model_dump_json(indent=1) + "\n")
    return collected


def _edited_files(folder: Path, record: Record) -> dict[str, Path]:
    # A copy of the predictions has their probabilities as well.
    files = label_files(folder, besides=no_label_maps(record.cases), called=called(record))
    predicted = [name for name, made in record.cases.items() if made.file]
    if strangers := [name for name in files if name not in predicted]:
        raise DatasetError(
            f"holds label maps of no prediction: {some_of(strangers)}",
            where=folder,
            expected=f"the names of predictions: {some_of(predicted)}",
            remedy="name each like its prediction, and move others elsewhere",
        )
    return files


def _scans(path: Path, files: Mapping[str, Path], repair: bool) -> dict[str, Case]:
    cases = {case.id: case for case in allow_repairs(find_cases(path), repair)}
    if missing := [name for name in files if name not in cases]:
        raise DatasetError(
            f"lacks the scans of {some_of(missing)}",
            where=path,
            expected="those that were segmented",
            remedy="give the data set that predict was given, or a table of it",
        )
    return cases


def _compared(
    folder: Path, made: CaseRecord, edited: Path, case: Case, labels: LabelSet
) -> tuple[Segmentation, Correction]:
    """Return the edited map on the grid of its prediction, and what differs."""
    file = folder / made.file
    digest = sha256_file(file) if file.is_file() else ""
    if digest != made.sha256:
        raise DatasetError(
            "is not the prediction that was written" if digest else "is missing",
            where=file,
            expected="predictions as they were, with edited maps in a folder of their own",
            remedy="predict again into another folder, and give that with this one as EDITED",
        )
    known = labels.of_predictions(ours=True)
    before, after = open_labels(file), open_labels(edited, case.repair)
    grid = before.geometry() or read_grid(case)
    was, now = before.segmentation(known, grid), after.segmentation(known, grid)
    array = _on_grid(now, was.geometry, edited)
    matrix = confusion(was.array, array, len(labels.classes))
    moved = dict(_moved(matrix, labels.names))
    voxels = sum(moved.values())
    correction = Correction(
        prediction_sha256=digest,
        edited_sha256=sha256_file(edited),
        voxels=voxels,
        ml=voxels * was.geometry.voxel_volume_mm3 / 1000,
        moved=dict(sorted(moved.items(), key=lambda pair: -pair[1])),
    )
    return Segmentation(array, was.geometry, labels), correction


def _on_grid(found: Segmentation, grid: Geometry, where: Path) -> NDArray[np.uint8]:
    """Return a label map with its axes as those of `grid`: viewers may turn them round."""
    if not grid.canonical().fits(found.geometry.canonical()):
        raise GridError(
            f"lies on {found.geometry.placed()}",
            where=where,
            expected=f"the grid of its prediction, {grid.placed()}",
            remedy="save it in the viewer with the grid of the scan, without resampling",
        )
    return np.ascontiguousarray(reoriented(found.array, found.geometry, grid))


def _moved(matrix: NDArray[np.int64], names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for was, is_now in np.argwhere(matrix).tolist():
        if was != is_now:
            yield f"{names[was]} -> {names[is_now]}", int(matrix[was, is_now])


def _labelled(case: Case, path: Path, labels: LabelSet) -> Case:
    """Return a case with another label map, of which it says what its values mean."""
    as_written = all(label.write in label.values for label in labels.classes)
    annotated = None
    if not as_written:
        annotated = {label.name: (label.write,) for label in labels.classes[1:]}
    return replace(case, label=path, label_resampled=False, label_series=None, annotated=annotated)


def correction_rows(found: Corrections) -> list[tuple[str, str, str]]:
    """Return corrected cases with volume [ml] and voxels by class, the most changed first."""
    ordered = sorted(found.corrected.items(), key=lambda pair: -pair[1].voxels)
    return [
        (name, f"{each.ml:.4g}", ", ".join(f"{what}: {n}" for what, n in each.moved.items()))
        for name, each in ordered
    ]

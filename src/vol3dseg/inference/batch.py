"""Many cases, one after the other: files in, files and a record out."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import EvaluationError, OutputError, Vol3dSegError
from vol3dseg.files import write_text
from vol3dseg.inference.memory import peak_mb, reset_peak
from vol3dseg.inference.predictor import Predictor
from vol3dseg.volumes import nifti
from vol3dseg.volumes.labels import LabelSet, Segmentation
from vol3dseg.volumes.volume import Volume

RECORD_NAME = "predictions.json"

# Draws a case into a file; returns what is missing from the picture, in words, or nothing.
Draw = Callable[[Path, Case, Volume, Segmentation], str]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaseRecord(_Frozen):
    """What became of one case.

    Attributes
    ----------
    file : str
        The label map, relative to the record; empty for a case that failed.
    error : str
        Why it failed; empty for one that did not.
    seconds : mapping from stage to float
        Time of "read", "prepare", "infer", "restore" and "write" [s].
    peak_mb : float or None
        Peak memory of the process during this case [MB].
    volumes_ml : mapping from class to float
        Volume that was found [ml].
    picture : str
        The picture, relative to the record; empty if there is none.
    picture_note : str
        What is wrong with the picture, or why there is none though it was asked for; a case does
        not fail for that.
    """

    file: str = ""
    error: str = ""
    seconds: dict[str, float] = {}
    peak_mb: float | None = None
    volumes_ml: dict[str, float] = {}
    picture: str = ""
    picture_note: str = ""


class Record(_Frozen):
    """`predictions.json`: which model said it, what its labels mean, case by case.

    Attributes
    ----------
    model_sha256, fingerprint : str
    provider : str
        Of onnxruntime.
    labels : LabelSet
        Names, and the values that are written in the files.
    versions : mapping from package to version
    cases : mapping from case to CaseRecord
    """

    format: Literal["vol3dseg.predictions"] = "vol3dseg.predictions"
    version: Literal[1] = 1
    model_sha256: str
    fingerprint: str
    provider: str
    labels: LabelSet
    versions: dict[str, str]
    cases: dict[str, CaseRecord] = {}

    def save(self, folder: Path) -> None:
        """Write `predictions.json` into `folder`, atomically."""
        write_text(folder / RECORD_NAME, self.model_dump_json(indent=1) + "\n")


def load_record(folder: Path) -> Record:
    """Read `predictions.json` of a folder of predictions.

    Raises
    ------
    EvaluationError
        It is missing or damaged.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise EvaluationError(f"{folder}: no {RECORD_NAME}; name the labels with --config")
    try:
        return Record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        raise EvaluationError(f"{path}: damaged ({first['msg']}); predict again") from error


def predict_cases(
    cases: Iterable[Case],
    predictor: Predictor,
    folder: Path,
    keep_probabilities: bool = False,
    draw: Draw | None = None,
    progress: Callable[[str, CaseRecord], None] = lambda case_id, record: None,
) -> dict[str, CaseRecord]:
    """Segment cases into `folder/<id>.nii.gz`; one that fails is recorded and the rest goes on.

    Parameters
    ----------
    cases : iterable of Case
    predictor : Predictor
    folder : Path
    keep_probabilities : bool
        Write `folder/<id>_probabilities.nii.gz` as well: (i, j, k, class) float32.
    draw : callable or None
        Draws each case into `folder/<id>.png`.
    progress : callable
        Called with each case and its record as it comes.
    """
    records = {}
    for case in cases:
        try:
            records[case.id] = _predict_case(case, predictor, folder, keep_probabilities, draw)
        except Vol3dSegError as error:
            records[case.id] = CaseRecord(error=str(error))
        progress(case.id, records[case.id])
    return records


def _predict_case(
    case: Case, predictor: Predictor, folder: Path, keep_probabilities: bool, draw: Draw | None
) -> CaseRecord:
    reset_peak()
    started = time.perf_counter()
    target = folder / f"{case.id}.nii.gz"
    extras = folder / f"{case.id}_probabilities.nii.gz", folder / f"{case.id}.png"
    _require_no_input(case, target, *extras)
    volume = read_volume(case, predictor.manifest.recipe.modalities)
    read = time.perf_counter()
    prediction = predictor(volume)
    segmentation, writing = prediction.segmentation, time.perf_counter()
    values = segmentation.labels.decode(segmentation.array)
    nifti.write(target, values, segmentation.geometry)
    for path in extras:
        if path.is_file():  # of an earlier prediction: nobody shall take it for this one's
            path.unlink()
    if keep_probabilities:
        nifti.write(extras[0], np.asarray(prediction.probabilities), volume.geometry)
    seconds = {"read": read - started, **prediction.seconds, "write": time.perf_counter() - writing}
    ml = segmentation.geometry.voxel_volume_mm3 / 1000
    found = zip(segmentation.labels.names[1:], segmentation.counts()[1:], strict=True)
    record = CaseRecord(
        file=target.name,
        seconds={stage: round(s, 4) for stage, s in seconds.items()},
        peak_mb=peak_mb(),
        volumes_ml={label: round(count * ml, 4) for label, count in found},
    )
    if draw is None:
        return record
    drawn = _draw_case(draw, extras[1], case, volume, segmentation)
    return record.model_copy(update=drawn)


def _require_no_input(case: Case, *outputs: Path) -> None:
    taken = {path.resolve() for path in case.paths}.intersection(p.resolve() for p in outputs)
    if taken:
        raise OutputError(
            f"{min(taken)}: is a file of case {case.id}, which its segmentation would replace; "
            "choose another output folder"
        )


def _draw_case(
    draw: Draw, path: Path, case: Case, volume: Volume, segmentation: Segmentation
) -> dict[str, str]:
    try:
        note = draw(path, case, volume, segmentation)
    except Exception as error:  # noqa: BLE001 - the segmentation is written, whatever ails a picture
        return {"picture_note": f"no picture: {' '.join(str(error).split())}"}
    return {"picture": path.name, "picture_note": note}

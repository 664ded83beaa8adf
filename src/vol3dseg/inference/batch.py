"""Many cases: files in, files and a record out; the next is read while the network runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.checks import flat_modalities, no_contrast, preflight
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.signature import signature
from vol3dseg.errors import FileFormatError, Vol3dSegError
from vol3dseg.files import sha256_file
from vol3dseg.formats.dicom.dicom_file import is_dicom_file
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.dicom.series import Series
from vol3dseg.inference.outputs import Wanted, draw_case, require_no_input, write_outputs
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import CaseRecord, Record
from vol3dseg.machine import peak_mb, reset_peak
from vol3dseg.preprocessing.prepare import Prepared, prepare
from vol3dseg.space.intake import in_words
from vol3dseg.space.volume import Volume


@dataclass(frozen=True, slots=True)
class _Ready:
    """A case that is read and prepared; the scan itself only where it is drawn."""

    prepared: Prepared
    volume: Volume | None
    seconds: dict[str, float]
    intake: dict[str, Any]  # what the record says of how files were read
    series: Series | None  # that a DICOM-SEG refers to
    sources: str


def predict_cases(
    cases: Sequence[Case],
    predictor: Predictor,
    folder: Path,
    record: Record,
    wanted: Wanted | None = None,
    progress: Callable[[str, CaseRecord], None] = lambda case_id, record: None,
) -> Record:
    """Segment cases into `folder/<id>.nii.gz` or the like.

    One that fails is recorded, and the rest goes on. What headers tell is checked of all of them
    before the first is read.

    Parameters
    ----------
    cases : sequence of Case
    predictor : Predictor
    folder : Path
        Gets predictions.json as well, anew after each case.
    record : Record
        What is said of the model; cases in it stay, but for those that are segmented now.
    wanted : Wanted or None
    progress : callable
        Called with each case and its record as it comes.

    Returns
    -------
    Record
        As written.
    """
    wanted = wanted or Wanted()
    refused = preflight(cases, predictor.manifest.recipe.modalities, labelled=False)
    failed = {case_id: CaseRecord(error=why.recorded) for case_id, why in refused.items()}
    record = record.model_copy(update={"cases": {**record.cases, **failed}})
    record.save(folder)
    for case_id, why in refused.items():
        progress(case_id, CaseRecord(error=why.said))
    good = [case for case in cases if case.id not in refused]
    for case, ready in _read_ahead(good, predictor, folder, wanted):
        reset_peak()
        try:
            found = _predict_case(case, ready.result(), predictor, folder, wanted)
        except Vol3dSegError as error:
            found = CaseRecord(error=error.recorded)
        del ready
        record = record.model_copy(update={"cases": {**record.cases, case.id: found}})
        record.save(folder)
        progress(case.id, found)
    return record


def _read_ahead(
    cases: Sequence[Case], predictor: Predictor, folder: Path, wanted: Wanted
) -> "Iterator[tuple[Case, Future[_Ready]]]":
    """Give each case and what will be it when it is read; the following one is on its way."""
    with ThreadPoolExecutor(1) as pool:

        def start(number: int) -> "Future[_Ready] | None":
            if number >= len(cases):
                return None
            return pool.submit(_read, cases[number], predictor, folder, wanted)

        following = start(0)
        for number, case in enumerate(cases):
            ready = following or start(number)
            following = start(number + 1) if wanted.ahead else None
            if ready is not None:
                yield case, ready


def _read(case: Case, predictor: Predictor, folder: Path, wanted: Wanted) -> _Ready:
    started = time.perf_counter()
    require_no_input(case, folder, wanted)
    modalities = predictor.manifest.recipe.modalities
    sources = signature(case, modalities, with_label=False)  # before a file can change
    series = _series(case, modalities[0]) if wanted.seg else None
    volume = read_volume(case, modalities)
    read = time.perf_counter()
    prepared = prepare(volume, predictor.manifest.recipe)
    seconds = {"read": read - started, "prepare": time.perf_counter() - read}
    kept = volume if wanted.draw else None
    return _Ready(prepared, kept, seconds, _intake(volume), series, sources)


def _intake(volume: Volume) -> dict[str, Any]:
    return {
        "replaced": dict(volume.replaced),
        "notes": in_words(volume.notes, repaired=False),
        "repairs": in_words(volume.notes, repaired=True),
        "warnings": tuple(no_contrast(name).found for name in flat_modalities(volume)),
    }


def _series(case: Case, modality: str) -> Series:
    """Return the series that an image is read from."""
    source = case.select([modality]).images[modality]
    if source.series is None and not source.path.is_dir() and not is_dicom_file(source.path):
        raise FileFormatError(
            "is no DICOM series, which a DICOM-SEG must refer to",
            where=source.path,
            expected="a folder with one",
            remedy="choose another --format",
        )
    return DicomVolume(source.path, source.series, case.repair).series


def _predict_case(
    case: Case, ready: _Ready, predictor: Predictor, folder: Path, wanted: Wanted
) -> CaseRecord:
    prepared = ready.prepared
    prediction = predictor.segment(prepared.volume, prepared.source, wanted.probabilities)
    warnings = (*ready.intake["warnings"], *predictor.warnings(prepared.appearance))
    writing = time.perf_counter()
    target = folder / wanted.label_file(case)
    write_outputs(prediction, case, ready.series, target, wanted)
    seconds = {
        **ready.seconds, **prediction.seconds, "write": time.perf_counter() - writing
    }  # fmt: skip
    segmentation = prediction.segmentation
    ml = segmentation.geometry.voxel_volume_mm3 / 1000
    counts = zip(segmentation.labels.names[1:], segmentation.counts()[1:], strict=True)
    record = CaseRecord(
        file=target.name,
        seconds={stage: round(s, 4) for stage, s in seconds.items()},
        peak_mb=peak_mb(),
        plan=str(prediction.plan),
        planned_mb=prediction.planned_mb,
        volumes_ml={label: round(count * ml, 4) for label, count in counts},
        sha256=sha256_file(target),
        sources=ready.sources,
        deidentified=wanted.deidentified,
        **{**ready.intake, "warnings": warnings},
    )
    if wanted.draw is None or ready.volume is None:
        return record
    drawn = draw_case(wanted.draw, case, folder, ready.volume, segmentation)
    return record.model_copy(update=drawn)

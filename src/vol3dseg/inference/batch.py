"""Many cases: files in, files and a record out; the next is read while the network runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.check import flat_modalities, no_contrast, preflight
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.signature import images_digest
from vol3dseg.errors import FileFormatError, OutputError, Vol3dSegError
from vol3dseg.files import sha256_file
from vol3dseg.inference.memory import peak_mb, reset_peak
from vol3dseg.inference.predictor import Prediction, Predictor
from vol3dseg.inference.record import CaseRecord, Record
from vol3dseg.preprocessing.recipe import Prepared, prepare
from vol3dseg.volumes.dicom_files import is_dicom
from vol3dseg.volumes.dicom_folder import Series
from vol3dseg.volumes.dicom_seg import Algorithm, write_seg
from vol3dseg.volumes.dicom_volume import DicomVolume
from vol3dseg.volumes.formats import FORMATS, NIFTI, Format, format_by_name
from vol3dseg.volumes.intake import in_words
from vol3dseg.volumes.labels import Segmentation
from vol3dseg.volumes.volume import Volume

# Draws a case into a file; returns what is missing from the picture, in words, or nothing.
Draw = Callable[[Path, Case, Volume, Segmentation], str]


@dataclass(frozen=True, slots=True)
class DicomSeg:
    """How DICOM-SEG is written.

    Parameters
    ----------
    algorithm : Algorithm
        What the files name as their maker.
    deidentify : bool
        Blank patient and study.
    """

    algorithm: Algorithm
    deidentify: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is done with each case.

    Parameters
    ----------
    probabilities : bool
        Write `<id>_probabilities.nii.gz` as well: (i, j, k, class) float32.
    format : Format or None
        Of what is written; None for that of the case's first image, by its name.
    seg : DicomSeg or None
        Write label maps as DICOM-SEG of the series of the model's first modality; probabilities
        have `format`.
    draw : callable or None
        Draws each case into `<id>.png`.
    ahead : bool
        Read and prepare the next case while the network runs on this one; it has to be held in
        memory beside it.
    """

    probabilities: bool = False
    draw: Draw | None = None
    ahead: bool = True
    format: Format | None = None
    seg: DicomSeg | None = None

    def format_for(self, case: Case) -> Format:
        """Return the format that the label map of a case is written in."""
        first = next(iter(case.images.values()), None)
        return self.format or (format_by_name(first.path) if first else None) or NIFTI

    @property
    def deidentified(self) -> bool:
        """Whether patient and study are blank in a DICOM-SEG."""
        return self.seg is not None and self.seg.deidentify

    def label_file(self, case: Case) -> str:
        """Return the name of the label map of a case."""
        return f"{case.id}{'.dcm' if self.seg else self.format_for(case).suffix}"


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
    _require_no_input(case, folder / wanted.label_file(case), *_extras(case, folder))
    modalities = predictor.manifest.recipe.modalities
    sources = images_digest(case, modalities)  # before a file can change
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
    if source.series is None and not source.path.is_dir() and not is_dicom(source.path):
        raise FileFormatError(
            f"{source.path}: is no DICOM series, which a DICOM-SEG must refer to; expected a "
            "folder with one; choose another --format"
        )
    return DicomVolume(source.path, source.series, case.repair).series


def _predict_case(
    case: Case, ready: _Ready, predictor: Predictor, folder: Path, wanted: Wanted
) -> CaseRecord:
    prediction = predictor.segment(ready.prepared, wanted.probabilities)
    writing = time.perf_counter()
    target = folder / wanted.label_file(case)
    _write(prediction, case, ready.series, target, wanted)
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
        **{**ready.intake, "warnings": (*ready.intake["warnings"], *prediction.warnings)},
    )
    if wanted.draw is None or ready.volume is None:
        return record
    drawn = _draw_case(wanted.draw, _picture(case, folder), case, ready.volume, segmentation)
    return record.model_copy(update=drawn)


def _picture(case: Case, folder: Path) -> Path:
    return folder / f"{case.id}.png"


def _probabilities(case: Case, folder: Path, written: Format) -> Path:
    return folder / f"{case.id}_probabilities{written.suffix}"


def _extras(case: Case, folder: Path) -> list[Path]:
    """Return where all that may stand beside the label map of a case goes, in any format."""
    return [*(_probabilities(case, folder, f) for f in FORMATS), _picture(case, folder)]


def _write(
    prediction: Prediction, case: Case, series: Series | None, target: Path, wanted: Wanted
) -> None:
    segmentation, chosen = prediction.segmentation, wanted.format_for(case)
    if wanted.seg and series:
        algorithm, blanked = wanted.seg.algorithm, wanted.seg.deidentify
        write_seg(target, segmentation, series, algorithm, deidentify=blanked)
    else:
        values = segmentation.labels.decode(segmentation.array)
        chosen.write(target, values, segmentation.geometry)
    for path in _extras(case, target.parent):
        if path.is_file():  # of an earlier prediction: nobody shall take it for this one's
            path.unlink()
    if wanted.probabilities:
        path = _probabilities(case, target.parent, chosen)
        chosen.write(path, np.asarray(prediction.probabilities), segmentation.geometry)


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

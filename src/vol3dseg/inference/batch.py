"""Many cases: files in, files and a record out; the next is read while the network runs."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.checks import flat_modalities, no_contrast, preflight
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.signature import signature
from vol3dseg.errors import FileFormatError, Vol3dSegError, in_memory
from vol3dseg.files import sha256_file
from vol3dseg.formats.dicom.beginning import is_dicom_file
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.dicom.series import Series
from vol3dseg.inference.output_files import (
    PredictOptions,
    draw_case,
    require_no_input,
    write_outputs,
)
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import CaseRecord, Record
from vol3dseg.inference.runtimes.session import one_line
from vol3dseg.machine import peak_mb, reset_peak
from vol3dseg.preprocessing.prepare import Prepared, prepare
from vol3dseg.quality.appearance import rounded
from vol3dseg.space.intake import notes_as_text
from vol3dseg.space.volume import Volume

Progress = Callable[[str, CaseRecord], None]
_DEFAULTS = PredictOptions()


def predict_cases(
    cases: Sequence[Case],
    predictor: Predictor,
    folder: Path,
    record: Record,
    options: PredictOptions = _DEFAULTS,
    progress: Progress = lambda case_id, record: None,
) -> Record:
    """Segment cases into `folder/<id>.nii.gz` or the like.

    One that fails is recorded, and the rest goes on. The headers of all of them are checked before
    the first is read. The next case is read and prepared while the network runs on this one, unless
    memory is limited: it has to be held beside it. Returns the record as it is written, anew after
    each case: that which is given, with these cases over its own.
    """
    refused = preflight(cases, predictor.manifest.recipe.modalities, labelled=False)
    failed = {case_id: CaseRecord(error=why.recorded) for case_id, why in refused.items()}
    record = record.with_cases(failed)
    record.save(folder)
    for case_id, why in refused.items():
        progress(case_id, CaseRecord(error=why.message))
    good = [case for case in cases if case.id not in refused]
    for case, ready in _read_ahead(good, predictor, folder, options):
        reset_peak()
        try:
            with failing_alone(case, "segmenting"):
                found = _predict_case(case, ready.result(), predictor, folder, options)
        except Vol3dSegError as error:
            found = CaseRecord(error=error.recorded)
        del ready
        record = record.with_cases({case.id: found})
        record.save(folder)
        progress(case.id, found)
    return record


@contextmanager
def failing_alone(case: Case, stage: str) -> Iterator[None]:
    """Turn what can go wrong with a single case into a Vol3dSegError; bugs pass through."""
    where = f"case {case.id}"
    try:
        with in_memory(f"scan and results ({stage})", where):
            yield
    except (Vol3dSegError, NotImplementedError, RecursionError):  # the latter two are bugs
        raise
    except (OSError, RuntimeError) as error:  # of a disk or a runtime
        raise Vol3dSegError(
            f"{stage} failed ({type(error).__name__}: {one_line(error)})",
            where=where,
            remedy="try it again with --resume",
        ) from error


@dataclass(frozen=True, slots=True)
class _Ready:
    """A case that is read and prepared."""

    record: CaseRecord  # what reading tells of it
    prepared: Prepared
    volume: Volume | None  # as read, where it is drawn
    series: Series | None  # that a DICOM-SEG refers to


def _read_ahead(
    cases: Sequence[Case], predictor: Predictor, folder: Path, options: PredictOptions
) -> "Iterator[tuple[Case, Future[_Ready]]]":
    """Give each case with its future, while the next one is being read."""
    with ThreadPoolExecutor(1) as pool:
        started = ((case, pool.submit(_read, case, predictor, folder, options)) for case in cases)
        if predictor.max_memory_mb is not None:
            yield from started
            return
        following = next(started, None)
        while following:
            current, following = following, next(started, None)
            yield current


def _read(case: Case, predictor: Predictor, folder: Path, options: PredictOptions) -> _Ready:
    started = time.perf_counter()
    require_no_input(case, folder, options)
    recipe = predictor.manifest.recipe
    sources = signature(case, recipe.modalities, with_label=False)  # before a file can change
    with failing_alone(case, "reading"):
        series = _series(case, recipe.modalities[0]) if options.as_seg else None
        volume = read_volume(case, recipe.modalities)
    read = time.perf_counter()
    with failing_alone(case, "preparing"):
        prepared = prepare(volume, recipe)
    flat = tuple(no_contrast(name).found for name in flat_modalities(volume))
    record = CaseRecord(
        seconds={"read": read - started, "prepare": time.perf_counter() - read},
        sources=sources,
        replaced=dict(volume.replaced),
        notes=notes_as_text(volume.notes, repaired=False),
        repairs=notes_as_text(volume.notes, repaired=True),
        warnings=(*flat, *predictor.warnings(prepared.appearance)),
    )
    return _Ready(record, prepared, volume if options.draw else None, series)


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
    case: Case, ready: _Ready, predictor: Predictor, folder: Path, options: PredictOptions
) -> CaseRecord:
    prepared = ready.prepared
    prediction = predictor.segment(prepared.volume, prepared.source, options.probabilities)
    writing = time.perf_counter()
    target = folder / options.label_file(case)
    with failing_alone(case, "writing"):
        write_outputs(prediction, case, ready.series, target, options, predictor.origin)
    seconds = {**ready.record.seconds, **prediction.seconds, "write": time.perf_counter() - writing}
    segmentation = prediction.segmentation
    ml = segmentation.geometry.voxel_volume_mm3 / 1000
    counts = zip(segmentation.labels.foreground, segmentation.counts()[1:], strict=True)
    facts: dict[str, object] = {
        "file": target.name,
        "seconds": {stage: round(s, 4) for stage, s in seconds.items()},
        "peak_mb": peak_mb(),
        "plan": str(prediction.plan),
        "planned_mb": prediction.planned_mb,
        "volumes_ml": {label: rounded(count * ml) for label, count in counts},
        "sha256": sha256_file(target),
        "deidentified": options.deidentified,
    }
    if options.draw and ready.volume:  # after the peak of memory was read
        facts |= draw_case(options.draw, case, folder, ready.volume, segmentation)
    return ready.record.model_copy(update=facts)

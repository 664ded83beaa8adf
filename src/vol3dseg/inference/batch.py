"""Many cases: files in, files and a record out; the next is read while the network runs."""

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from vol3dseg.datasets.case import Case, begun
from vol3dseg.datasets.checks import preflight
from vol3dseg.datasets.contrast import flat_modalities, no_contrast
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.signature import signature
from vol3dseg.datasets.sources import read_grid
from vol3dseg.errors import (
    EvaluationError,
    FileFormatError,
    MissingExtraError,
    OutputError,
    Vol3dSegError,
    failing_alone,
)
from vol3dseg.files import NowAndThen, remove_ours, trace
from vol3dseg.formats.dicom.beginning import is_dicom_file
from vol3dseg.formats.dicom.dicom_volume import DicomVolume
from vol3dseg.formats.dicom.series import Series
from vol3dseg.inference.allowance import Scan
from vol3dseg.inference.bids_files import write_dataset
from vol3dseg.inference.output_files import (
    PredictOptions,
    claim_outputs,
    draw_case,
    write_outputs,
)
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import (
    RECORD_NAME,
    CaseRecord,
    Record,
    earlier_record,
    list_predictions,
    load_record,
)
from vol3dseg.machine import peak_mb, require_memory, reset_peak, thread_pool
from vol3dseg.many_records import PackedRecords
from vol3dseg.preprocessing.prepare import Prepared
from vol3dseg.quality.appearance import rounded
from vol3dseg.space.intake import notes_as_text
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume
from vol3dseg.written import list_again, sha256_file

Progress = Callable[[str, CaseRecord], None]
Results = Generator[tuple[str, CaseRecord]]
_DEFAULTS = PredictOptions()


def predict_cases(
    cases: Sequence[Case],
    predictor: Predictor,
    folder: Path,
    record: Record,
    options: PredictOptions = _DEFAULTS,
    progress: Progress = lambda case_id, record: None,
    elsewhere: Callable[[Sequence[Case]], Results] | None = None,
) -> Record:
    """Segment cases into `folder/<id>.nii.gz` or the like.

    One that fails is recorded, and the rest goes on. The headers of all of them are checked before
    the first is read. The next case is read and prepared while the network runs on this one, unless
    memory is limited: it has to be held beside it; `elsewhere` has other processes segment them
    instead, in any order. Returns the record as it is written, now and then and in the end: that
    which is given, with these cases over its own. OutputError: an output would replace what is not
    its own, which is known before the first case, or cannot be written.
    """
    before = earlier_record(folder)
    claim_outputs(cases, folder, options, before, predictor.uncertainty.names)
    manifest = predictor.manifest
    refused = preflight(
        cases, manifest.recipe.modalities, labelled=False, optional=manifest.optional
    )
    failed = {
        case_id: CaseRecord(error=why.recorded, traceback=why.traceback)
        for case_id, why in refused.items()
    }
    good = [case for case in cases if case.id not in refused]
    record = record.with_cases(failed)
    if options.in_bids:
        beside = write_dataset(folder, cases, record, predictor.origin, options.probabilities)
        record = record.model_copy(update={"dataset": beside})
    kept = _KeptRecord(record, folder, good)
    for case_id, why in refused.items():
        progress(case_id, CaseRecord(error=why.message))
    here = partial(_here, predictor, folder, options)
    try:
        with closing((elsewhere or here)(good)) as done:
            for case_id, found in done:
                if before and case_id in before.cases:
                    _remove_older(folder, before.cases[case_id], found)
                kept.add(case_id, found)
                progress(case_id, found)
    except BaseException:
        with suppress(OutputError, EvaluationError):
            kept.end()
        raise
    return kept.end()


class _KeptRecord:
    """A record that is written at once, and again now and then as cases end."""

    def __init__(self, record: Record, folder: Path, cases: Sequence[Case]) -> None:
        self._record, self._folder = record, folder
        self._order = [case.id for case in cases]
        self._ended = PackedRecords[CaseRecord]()
        self._now_and_then = NowAndThen()
        self._saved = record.save(folder)

    def add(self, case_id: str, made: CaseRecord) -> None:
        self._ended.add(case_id, made)
        self._now_and_then(self._save)

    def end(self) -> Record:
        """Return the record as it is written in the end, its predictions being listed."""
        self._save()
        made = load_record(self._folder)
        list_predictions(made, self._folder)
        return made

    def _save(self) -> None:
        # Who works elsewhere may have lost the line.
        list_again(self._folder, {RECORD_NAME: self._saved})
        self._saved = self._record.save(self._folder, self._ended.in_order(self._order))


def _here(
    predictor: Predictor, folder: Path, options: PredictOptions, cases: Sequence[Case]
) -> Results:
    with closing(_read_ahead(cases, predictor, folder, options)) as read:
        for case, ready in read:
            found = _segmented(case, ready.result, predictor, folder, options)
            del ready
            yield case.id, found


def predict_one(
    case: Case, predictor: Predictor, folder: Path, options: PredictOptions
) -> CaseRecord:
    """Segment a case as `predict_cases` does, without its record."""
    read = partial(_read, case, predictor, options)
    with trace(folder, begun(case.id)):
        return _segmented(case, read, predictor, folder, options)


def _segmented(
    case: Case,
    ready: "Callable[[], _Ready]",
    predictor: Predictor,
    folder: Path,
    options: PredictOptions,
) -> CaseRecord:
    if predictor.max_memory_mb is None:  # a limit is one of the whole process
        reset_peak()
    try:
        with failing_alone(f"case {case.id}", "segmenting"):
            return _predict_case(case, ready(), predictor, folder, options)
    except (OutputError, MissingExtraError):  # which no other case would be spared
        raise
    except Vol3dSegError as error:
        return CaseRecord.failed(error)


def _remove_older(folder: Path, before: CaseRecord, now: CaseRecord) -> None:
    """Remove what stood beside an older segmentation, lest it be taken for the new one's."""
    for name in before.beside.keys() - now.beside.keys() if now.file else ():
        remove_ours(folder / name)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A case that is read and prepared."""

    record: CaseRecord  # what reading tells of it
    prepared: Prepared
    volume: Volume | None  # as read, where it is drawn
    series: Series | None  # that a DICOM-SEG refers to


def _read_ahead(
    cases: Sequence[Case], predictor: Predictor, folder: Path, options: PredictOptions
) -> "Generator[tuple[Case, Future[_Ready]]]":
    """Give each case with its future, while the next one is being read."""
    several = 1 if predictor.max_memory_mb is not None else 2
    waiting, started = iter(cases), deque[Future[_Ready]]()
    with thread_pool(1) as pool:
        for case in cases:
            with trace(folder, begun(case.id)):
                for each in islice(waiting, several - len(started)):
                    started.append(pool.submit(_read, each, predictor, options))
                yield case, started.popleft()


def _read(case: Case, predictor: Predictor, options: PredictOptions) -> _Ready:
    started = time.perf_counter()
    manifest = predictor.manifest
    recipe, optional = manifest.recipe, manifest.optional
    sources = signature(case, recipe.modalities, with_label=False)  # before a file can change
    with failing_alone(f"case {case.id}", "reading"):
        require_memory()
        scan = require_room(case, predictor, options)
        series = _series(case, recipe.modalities) if options.as_seg else None
        volume = read_volume(case, recipe.modalities, optional)
    read = time.perf_counter()
    with failing_alone(f"case {case.id}", "preparing"):
        prepared = predictor.prepare(volume, scan)
    flat = tuple(no_contrast(name).found for name in flat_modalities(volume))
    record = CaseRecord(
        seconds={"read": read - started, "prepare": time.perf_counter() - read},
        sources=sources,
        missing=manifest.lacking(volume.modalities),
        replaced=dict(volume.replaced),
        notes=(*notes_as_text(volume.notes, repaired=False), *predictor.notes_on(prepared)),
        repairs=notes_as_text(volume.notes, repaired=True),
        warnings=(*flat, *predictor.warnings(prepared.appearance)),
        part=predictor.part_of(prepared.appearance),
    )
    return _Ready(record, prepared, volume if options.draw else None, series)


def require_room(case: Case, predictor: Predictor, options: PredictOptions) -> Scan:
    """Refuse a case that does not fit into memory, from its headers; return what is known of it."""
    manifest = predictor.manifest
    grid = read_grid(case.select(manifest.recipe.modalities, manifest.optional))
    scan = Scan(grid, options.probabilities, held=options.draw is not None)
    predictor.require(scan)
    return scan


def _series(case: Case, modalities: Sequence[str]) -> Series:
    """Return the series that the first image is read from."""
    source = next(case.images[name] for name in modalities if name in case.images)
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
    prediction = predictor.result(prepared, options.probabilities)
    writing = time.perf_counter()
    with failing_alone(f"case {case.id}", "writing"):
        names = write_outputs(prediction, case, ready.series, folder, options, predictor.origin)
    seconds = {**ready.record.seconds, **prediction.seconds, "write": time.perf_counter() - writing}
    segmentation = prediction.segmentation
    facts: dict[str, object] = {
        "file": names[0],
        "seconds": {stage: round(s, 4) for stage, s in seconds.items()},
        "peak_mb": peak_mb(),
        "plan": str(prediction.plan),
        "planned_mb": prediction.planned_mb,
        "notes": (*ready.record.notes, *filter(None, [prediction.plan.warning])),
        "changes": prediction.changes,
        "volumes_ml": volumes_ml(segmentation),
        "sha256": sha256_file(folder / names[0]),
        "deidentified": options.deidentified,
    }
    if options.draw and ready.volume:  # after the peak of memory was read
        picture = options.picture_file(case)
        drawn = draw_case(options.draw, case, folder, picture, ready.volume, segmentation)
        names += filter(None, [drawn.get("picture")])
        facts |= drawn
    facts["beside"] = {name: sha256_file(folder / name) for name in names[1:]}
    return ready.record.model_copy(update=facts)


def volumes_ml(segmentation: Segmentation) -> dict[str, float]:
    """Return the volume of each foreground class [ml]."""
    ml = segmentation.geometry.voxel_volume_mm3 / 1000
    counts = zip(segmentation.labels.foreground, segmentation.counts()[1:], strict=True)
    return {label: rounded(count * ml) for label, count in counts}

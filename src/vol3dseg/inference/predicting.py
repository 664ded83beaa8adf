"""What `vol3dseg predict` does: choose cases, skip complete ones, segment or explain."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import chain
from pathlib import Path

from vol3dseg.datasets.case import Case, allow_repairs, begun, require_distinct
from vol3dseg.datasets.over_cases import worker_processes
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.selection import gather_cases, only_part
from vol3dseg.datasets.splits import PARTS, read_split
from vol3dseg.errors import (
    DatasetError,
    MissingExtraError,
    OutputError,
    Vol3dSegError,
    failing_alone,
)
from vol3dseg.files import remove_leftovers
from vol3dseg.inference.batch import Progress, predict_cases, require_room
from vol3dseg.inference.elsewhere import segment_elsewhere
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.output_files import PredictOptions, output_names
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import (
    RECORD_NAME,
    CaseRecord,
    Record,
    load_record,
)
from vol3dseg.inference.tiling.tile_plan import by
from vol3dseg.working_folder import one_at_a_time
from vol3dseg.written import usable_path

_KILLED = "case {}: the run before was killed while it was worked on, perhaps for want of memory"
_AFTER = "give it more memory, or less to take with --max-memory, and try it again with --resume"
Input = str | Path | Case
Inputs = Input | Sequence[Input]


@one_at_a_time("output")
def predict(
    model: str | Path | Predictor,
    inputs: Inputs,
    output: str | Path,
    options: PredictOptions | None = None,
    tell: Callable[[str], None] = lambda line: None,
    progress: Progress = lambda case_id, record: None,
    begin: Callable[[int], None] = lambda total: None,
    workers: int | Executor | None = 1,
) -> Record:
    """Segment scans from files to files, as `vol3dseg predict` does.

    Parameters
    ----------
    model : str, Path or Predictor
        An ONNX file made by `vol3dseg export-onnx`, or what `load_predictor` has made of it.
    inputs : str, Path or Case, or a sequence of these
        Cases; data sets in a known layout, dataset tables, folders of one case; or, for a model of
        one modality, image files and folders with a DICOM series.
    output : str or Path
        The folder of segmentations; gets predictions.json as well.
    options : PredictOptions or None
    tell : callable
        Called with a line of text now and then.
    progress : callable
        Called with the id of each case and its `CaseRecord`, as it comes. A case that fails does
        not end the others; its record says why.
    begin : callable
        Called with the number of cases, before the first is read.
    workers : int, Executor or None
        Processes that segment cases side by side, None for one for each core; or an executor. They
        share the cores, and each opens the model; limits and threads of `load_predictor` are of
        each.

    Returns
    -------
    Record
        As written to predictions.json.

    Raises
    ------
    ModelError, DeviceError, MissingExtraError
        See `load_predictor`.
    DatasetError
        An input is not understood, or holds no such cases.
    EvaluationError
        The output folder was made by another model or on another provider; with `resume`.
    OutputError
        The output cannot be written.
    """
    predictor = model if isinstance(model, Predictor) else load_predictor(model)
    folder, options = usable_path(output, OutputError), options or PredictOptions()
    chosen = _chosen(predictor, inputs, options)
    cases = list(chain.from_iterable(chosen.values()))
    record = Record.of(predictor.manifest, predictor.origin)
    if options.resume and (folder / RECORD_NAME).exists():
        record, missing = _resumed(record, predictor, cases, folder, options)
        tell(f"{len(cases) - len(missing)} of {len(cases)} cases are complete")
        cases = missing
    record = record.with_parts({p: [case.id for case in of] for p, of in chosen.items() if p})
    begin(len(cases))
    left = remove_leftovers(folder)
    fatal = [case for case in cases if begun(case.id) in left]
    if options.resume:  # of several, one has ended all: these come last
        cases = [*(case for case in cases if case not in fatal), *fatal]
    if len(fatal) == 1:
        (case_id,) = (case.id for case in fatal)
        if options.resume:  # or it would end this run too; the next tries it again
            failed = CaseRecord(error=f"{_KILLED.format(case_id)}; {_AFTER}")
            record = record.with_cases({case_id: failed})
            progress(case_id, failed)
            cases.pop()
        else:
            said = "with --resume the others would be done without it"
            tell(f"note: {_KILLED.format(case_id)}; {said}")
    try:
        with worker_processes(workers, len(cases)) as executor:
            there = partial(segment_elsewhere, predictor, folder, options)
            way = partial(there, executor) if executor else None
            return predict_cases(cases, predictor, folder, record, options, progress, way)
    finally:  # no case is to blame, as it is where this process is killed
        remove_leftovers(folder)


def _chosen(predictor: Predictor, inputs: Inputs, options: PredictOptions) -> dict[str, list[Case]]:
    """Return the cases that are to be segmented, by part of the split; see `predict`."""
    several = [inputs] if isinstance(inputs, str | Path | Case) else inputs
    given = [each for each in several if isinstance(each, Case)]
    paths = [usable_path(each, DatasetError) for each in several if not isinstance(each, Case)]
    recipe = predictor.manifest.recipe
    found = gather_cases(paths, recipe.modalities, numbered=recipe.kind != "vol3dseg")
    cases = allow_repairs([*given, *found], options.repair)
    require_distinct(cases)
    if options.split is None:
        return {"": cases}
    file = Path(options.split)
    split = read_split(file)
    parts = options.parts or [part for part in PARTS if split.part(part)]
    if not parts:
        raise DatasetError("all parts are empty", where=file, expected="ids of cases")
    return {part: only_part(cases, file, part) for part in parts}


def _resumed(
    record: Record, predictor: Predictor, cases: list[Case], folder: Path, options: PredictOptions
) -> tuple[Record, list[Case]]:
    """Return the record with all that is complete, also of other inputs, and what is missing."""
    before, modalities = load_record(folder), predictor.manifest.recipe.modalities
    measures = predictor.uncertainty.names
    before.require_same_model(record, folder)

    def done(case: Case) -> bool:
        return (
            before.is_complete(case, folder, modalities)
            and before.cases[case.id].written.keys() >= set(output_names(case, options, measures))
            and before.cases[case.id].deidentified == options.deidentified
        )

    missing = [case for case in cases if not done(case)]
    again, given = ({case.id for case in several} for several in (missing, cases))
    kept = {
        case_id: made
        for case_id, made in before.cases.items()
        if case_id not in again and (case_id in given or before.is_there(case_id, folder))
    }
    parts = {part: [c for c in cases if c in kept] for part, cases in before.parts.items()}
    return record.with_cases(kept).with_parts(parts), missing


def explain(
    predictor: Predictor, inputs: Inputs, options: PredictOptions
) -> Iterator[tuple[str, CaseRecord]]:
    """Read each case of `predict` and plan how it would be segmented; nothing is written.

    Its record has the plan, time included, and warnings; or the error.
    """
    recipe, optional = predictor.manifest.recipe, predictor.manifest.optional
    for case in chain.from_iterable(_chosen(predictor, inputs, options).values()):
        try:
            with failing_alone(f"case {case.id}", "preparing"):
                scan = require_room(case, predictor, options)
                volume = read_volume(case, recipe.modalities, optional)
                prepared = predictor.prepare(volume, scan)
                del volume
                plan = predictor.plan(prepared.volume.geometry, prepared.source)
                seconds = predictor.expected_seconds(plan)
        except MissingExtraError:
            raise
        except Vol3dSegError as error:
            yield case.id, CaseRecord(error=str(error))
            continue
        described = f"{by(plan.shape)} voxels after preparing: {plan}, about {seconds:.1f} s"
        notes = (plan.warning,) if plan.warning else ()
        warnings = predictor.warnings(prepared.appearance)
        yield case.id, CaseRecord(plan=described, notes=notes, warnings=warnings)

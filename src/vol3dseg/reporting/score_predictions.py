"""Score a folder of predictions against the label maps of a data set."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.over_cases import over_cases, worker_processes
from vol3dseg.datasets.sources import open_label, read_grid
from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import DatasetError, MissingExtraError, OutputError, Vol3dSegError, in_memory
from vol3dseg.evaluation.empty_masks import EmptyRule, require_rule
from vol3dseg.evaluation.judging import TOLERANCE_MM, Judging
from vol3dseg.evaluation.lesions import lesion_rule
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, structures_of, summarise
from vol3dseg.evaluation.surface_distances import SurfaceKind, distance_library
from vol3dseg.formats import open_labels
from vol3dseg.inference.record import RECORD_NAME, load_record
from vol3dseg.model.components import component_library
from vol3dseg.reporting.certainty import certainty
from vol3dseg.reporting.evaluation_page.scores_page import Sources, write_pages
from vol3dseg.reporting.evaluation_page.telling_slices import Exhibit
from vol3dseg.reporting.matching import Folders, match
from vol3dseg.reporting.score_report import WHOLE, Evaluation, claim_report, write_evaluation
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.working_folder import one_at_a_time
from vol3dseg.written import usable_path

_WORTH_WORKERS_S = 5.0  # of work: it takes some two seconds until processes are there
_WORTH_WORKERS = 32  # cases, whatever one takes


@one_at_a_time("output")
def evaluate(
    predictions: str | Path,
    references: str | Path,
    output: str | Path | None = None,
    config: str | Path | None = None,
    empty: EmptyRule = "undefined",
    split: str | Path | None = None,
    repair: bool = False,
    only_common: bool = False,
    surface: SurfaceKind | Literal["none"] | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    tolerances_mm: Mapping[str, float] | None = None,
    lesions: str | None = None,
    workers: int | Executor | None = None,
) -> Evaluation:
    """Score the label maps of a folder against those of a data set.

    Every case must have a prediction and a reference; a case of `predictions.json` that failed has
    no prediction. Where a split is given, or was given to `vol3dseg predict`, it says which cases
    are meant: those of its parts that were predicted.

    Parameters
    ----------
    predictions : str or Path
        A folder of label maps named by case, such as `vol3dseg predict` writes.
    references : str or Path
        A data set in a known layout, a dataset table, or a folder of files with the same names.
    output : str, Path or None
        The folder of the report: report.html, cases.csv, summary.json and summary.md; with a split
        a folder for each part that has predictions, and one summary.md over them. None writes
        nothing.
    config : str, Path or None
        A preset or a YAML file that names the labels; None takes them from predictions.json.
    empty : str
        What counts where one or both of the two have nothing of a structure: "undefined", "one",
        "brats-2020", "brats-2023", "metrics-reloaded" or "diagonal"; docs/metrics.md has a table.
    surface : "area", "voxels", "none" or None
        What surfaces are, for distances and surface Dice; "none": neither is computed. None is
        "area" where the extra [evaluate] is installed, and "none" with a note otherwise.
    tolerance_mm : float
        Of the surface Dice.
    tolerances_mm : mapping from str to float, or None
        Another tolerance for some classes or regions.
    lesions : str or None
        A rule to tell lesions apart, such as "brats-gli"; see `vol3dseg.evaluation.lesions`.
    workers : int, Executor or None
        Processes, or an executor; None: one for each core where cases are many or the first takes
        so long that it is worth it.
    split : str, Path or None
        A split.json: each of its parts is scored by itself.
    repair : bool
        Mend files that have a repair; otherwise they are refused.
    only_common : bool
        Leave out cases that have a prediction or a reference alone, and name them in the report;
        otherwise they are refused.

    Raises
    ------
    ConfigError
        The config is not valid.
    DatasetError
        A folder, a label map of a case or the split file is missing, or there are no label maps.
    EvaluationError
        Predictions and references do not fit, by case or by part of the split, or no case is left;
        or a rule is none.
    MissingExtraError
        What distances or lesions need, which were asked for, is not installed.
    FileFormatError, GridError, LabelError
        A label map cannot be read, lies on another grid, or holds what is not in the label set.
    MemoryLimitError, UnexpectedError, DatasetError
        No case can be scored, for want of memory or what nobody foresaw. Where others can be, the
        report names those that cannot, and goes without them.
    OutputError
        The report cannot be written.
    """
    require_rule(empty)
    rule = lesion_rule(lesions) if lesions else None
    kind, note = _surface(surface)
    if rule:  # each lesion has a distance
        component_library()
        distance_library()
    judging = Judging(empty, kind, tolerance_mm, tolerances_mm or {}, rule)
    folder = usable_path(predictions, DatasetError)
    report = None if output is None else usable_path(output, OutputError)
    record = load_record(folder) if (folder / RECORD_NAME).exists() else None
    given = None if split is None else read_split(Path(split))
    folders = Folders.read(folder, Path(references), record, repair)
    pairs, cohort = match(folders, given, str(split), only_common)
    cohort = replace(cohort, notes=(*cohort.notes, *note))
    labels = (load_config(config) if config else record or load_record(folder)).labels
    judging.require_structures(tuple(structures_of(labels)))
    if report is not None:
        claim_report(report, None if given is None else list(cohort.parts))
    made = (record.labels if record else labels).of_predictions(ours=record is not None)
    maps = labels, made
    whose = [replace(case, id=name) for name, _, case in pairs]
    files = {name: path for name, path, _ in pairs}
    with worker_processes(workers, len(pairs)) as executor:
        score = partial(_scored, files, maps, judging)
        scores, failed, executor = _all_scored(score, whose, executor, [folder], workers is None)
        if not scores:
            raise next(iter(failed.values()))
        cohort = cohort.without(failed)
        groups = {WHOLE: tuple(scores)} if given is None else cohort.parts
        cases = {part: tuple(scores[name] for name in names) for part, names in groups.items()}
        summaries = {part: summarise(of_part) for part, of_part in cases.items()}
        by = record.model_sha256 if record else None
        found = Evaluation(cases, summaries, given, cohort, by)
        if report is not None:
            write_evaluation(report, found)
            exhibits = {
                case.id: Exhibit(case, path, partial(_read_pair, path, case, maps))
                for case, path in zip(whose, files.values(), strict=True)
                if case.id in scores
            }
            sources = Sources(folder, Path(references), record)
            write_pages(report, found, exhibits, sources, executor)
    return found


def _surface(
    asked: SurfaceKind | Literal["none"] | None,
) -> tuple[SurfaceKind | None, tuple[str, ...]]:
    """Return what surfaces are, and why there are no distances that nobody has declined."""
    if asked == "none":
        return None, ()
    try:
        distance_library()
    except MissingExtraError as error:
        if asked is not None:
            raise
        return None, (f"Distances and surface Dice are left out: {error}",)
    return asked or "area", ()


def _all_scored(
    score: Callable[[Case], CaseScores | None],
    cases: Sequence[Case],
    executor: Executor | None,
    reads: Sequence[Path],
    if_worth_it: bool,
) -> tuple[dict[str, CaseScores], dict[str, Vol3dSegError], Executor | None]:
    """Return scores by case, in the order of `cases`, and the executor if it was worth using.

    Cases that failed, and not for their files, have an error instead.
    """
    found: dict[str, CaseScores] = {}
    failed: dict[str, Vol3dSegError] = {}

    def fail(case: Case, error: Vol3dSegError) -> None:
        failed[case.id] = error

    def run(some: Sequence[Case], executor: Executor | None) -> None:
        done = over_cases(score, some, executor, fail, reads)
        found.update((each.case_id, each) for each in done if each)

    left = list(cases)
    if if_worth_it and executor is not None and len(left) < _WORTH_WORKERS:
        started = time.perf_counter()
        run([left.pop(0)], None)
        if (time.perf_counter() - started) * len(left) < _WORTH_WORKERS_S:
            executor = None
    run(left, executor)
    return {case.id: found[case.id] for case in cases if case.id in found}, failed, executor


def _scored(
    predictions: Mapping[str, Path], maps: tuple[LabelSet, LabelSet], judging: Judging, case: Case
) -> CaseScores:
    with in_memory("the two label maps", where=f"case {case.id}"):
        file = predictions[case.id]
        pair = _read_pair(file, case, maps)
        scores = evaluate_case(case.id, *pair, judging)
        sure, notes = certainty(file, *pair)
        notes = scores.notes + notes
        return replace(scores, subject=case.subject, calibration=sure, notes=notes)


def _read_pair(
    prediction: Path, case: Case, labels: tuple[LabelSet, LabelSet]
) -> tuple[Segmentation, Segmentation]:
    """Return the reference and the prediction; a DICOM-SEG comes onto the grid of the other."""
    reference, predicted = open_label(case), open_labels(prediction, case.repair)
    grid = reference.geometry() or predicted.geometry()
    grid = grid or (read_grid(case) if case.images else None)
    return reference.segmentation(labels[0], grid), predicted.segmentation(labels[1], grid)

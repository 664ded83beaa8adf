"""Score a folder of predictions against the label maps of a data set."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case, allow_repairs
from vol3dseg.datasets.selection import label_files, reference_cases
from vol3dseg.datasets.sources import open_label, read_grid
from vol3dseg.datasets.splits import PARTS, Split, read_split
from vol3dseg.errors import EvaluationError, in_memory, some_of
from vol3dseg.evaluation.overlap import EMPTY_RULES, EmptyRule
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.formats import open_labels
from vol3dseg.inference.record import RECORD_NAME, load_record
from vol3dseg.reporting.score_report import Evaluation, write_evaluation
from vol3dseg.space.labels import LabelSet, Segmentation

Pair = tuple[str, Path, Case]


def evaluate(
    predictions: str | Path,
    references: str | Path,
    output: str | Path | None = None,
    config: str | Path | None = None,
    empty: EmptyRule = "undefined",
    split: str | Path | None = None,
    repair: bool = False,
) -> Evaluation:
    """Score the label maps of a folder against those of a data set.

    Every prediction must have a reference. Where the folder has a `predictions.json`, every case of
    it must have a prediction, except those that failed, which must have none that counts.

    Parameters
    ----------
    predictions : str or Path
        A folder of label maps named by case, such as `vol3dseg predict` writes.
    references : str or Path
        A data set in a known layout, a dataset table, or a folder of files with the same names.
    output : str, Path or None
        The folder of the report: cases.csv, summary.json and summary.md; with a split a folder for
        each part that has predictions, and one summary.md over them. None writes nothing.
    config : str, Path or None
        A preset or a YAML file that names the labels; None takes them from predictions.json.
    empty : "undefined" or "one"
        What Dice, IoU, precision and sensitivity are where neither of the two has a class; see
        `vol3dseg.evaluation.overlap`.
    split : str, Path or None
        A split.json: each of its parts is scored by itself.
    repair : bool
        Mend files that have a repair; otherwise they are refused.

    Raises
    ------
    ConfigError
        The config is not valid.
    DatasetError
        A folder, a label map of a case or the split file is missing, or there are no label maps.
    EvaluationError
        Predictions and references do not fit, by case or by part of the split; or `empty` is no
        rule.
    FileFormatError, GridError, LabelError
        A label map cannot be read, lies on another grid, or holds what is not in the label set.
    MemoryLimitError
        The label maps of a case do not fit into memory.
    OutputError
        The report cannot be written.
    """
    if empty not in EMPTY_RULES:
        raise EvaluationError(f"empty={empty!r} is no rule", expected=" or ".join(EMPTY_RULES))
    pairs, labels = _pairs(Path(predictions), Path(references), config, repair)
    parts = None if split is None else read_split(Path(split))
    ids = tuple(case_id for case_id, _, _ in pairs)
    groups = {"all": ids} if parts is None else group_by_part(ids, parts, str(split))
    scores = {case.case_id: case for case in evaluate_pairs(pairs, labels, empty)}
    cases = {part: tuple(scores[name] for name in names) for part, names in groups.items()}
    summaries = {part: summarise(of_part) for part, of_part in cases.items()}
    found = Evaluation(cases, summaries, parts)
    if output is not None:
        write_evaluation(Path(output), found)
    return found


def _pairs(
    folder: Path, references: Path, config: str | Path | None, repair: bool
) -> tuple[list[Pair], LabelSet]:
    """Return what is scored against what, and the labels of both."""
    recorded = load_record(folder) if (folder / RECORD_NAME).exists() else None
    written = {case.file for case in recorded.cases.values()} if recorded else set()
    files = label_files(folder, written)
    known = {c.id: c for c in allow_repairs(reference_cases(references).values(), repair)}
    if recorded is not None:
        # A case that failed must not vanish from the mean, nor count with an older model's file.
        failed = {name for name, case in recorded.cases.items() if case.error}
        files = {name: path for name, path in files.items() if name not in failed}
        known = {name: path for name, path in known.items() if name in recorded.cases}
    source = load_config(config) if config else recorded or load_record(folder)
    return match_cases(files, known, allow_missing=recorded is None), source.labels


def match_cases(
    predictions: Mapping[str, Path], references: Mapping[str, Case], allow_missing: bool = True
) -> list[Pair]:
    """Return predictions with their cases; `allow_missing` allows cases without a prediction."""
    missing = [name for name in references if name not in predictions]
    if missing and not allow_missing:
        raise EvaluationError(
            f"references without a prediction: {', '.join(missing)}",
            remedy="predict them as well, or leave them out of the references",
        )
    unmatched = [name for name in predictions if name not in references]
    if unmatched:
        raise EvaluationError(
            f"predictions without a reference: {', '.join(unmatched)}",
            expected=f"one of {some_of(list(references)) or 'no references at all'}",
            remedy="name both alike, or move what is no prediction to another folder",
        )
    return [(name, path, references[name]) for name, path in predictions.items()]


def group_by_part(cases: Sequence[str], split: Split, source: str) -> dict[str, tuple[str, ...]]:
    """Return the cases in each part of a split that has any, in the order given."""
    part_of = {case: part for part in PARTS for case in split.part(part)}
    stray = [case for case in cases if case not in part_of]
    if stray:
        raise EvaluationError(
            f"predictions that are in no part: {', '.join(stray)}",
            where=source,
            remedy="give the split that they were made by, or evaluate without --split",
        )
    groups = {part: tuple(c for c in cases if part_of[c] == part) for part in PARTS}
    return {part: names for part, names in groups.items() if names}


def evaluate_pairs(
    pairs: Iterable[Pair], labels: LabelSet, empty: EmptyRule = "undefined"
) -> list[CaseScores]:
    """Read and score predictions, repaired as their cases may be, one after the other."""
    scores = []
    for name, prediction, case in pairs:
        with in_memory("the two label maps", where=f"case {name}"):
            scores.append(evaluate_case(name, *_read_pair(prediction, case, labels), empty))
    return scores


def _read_pair(prediction: Path, case: Case, labels: LabelSet) -> tuple[Segmentation, Segmentation]:
    """Return the reference and the prediction; a DICOM-SEG comes onto the grid of the other."""
    reference, predicted = open_label(case), open_labels(prediction, case.repair)
    grid = reference.geometry() or predicted.geometry()
    grid = grid or (read_grid(case) if case.images else None)
    return reference.segmentation(labels, grid), predicted.segmentation(labels, grid)

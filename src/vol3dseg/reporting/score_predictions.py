"""Score a folder of predictions against the label maps of a data set."""

from collections.abc import Iterable
from pathlib import Path

from vol3dseg.config import load_config
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.sources import open_label, read_grid
from vol3dseg.datasets.splits import read_split
from vol3dseg.errors import EvaluationError, in_memory
from vol3dseg.evaluation.overlap import EMPTY_RULES, EmptyRule
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.formats import open_labels
from vol3dseg.inference.record import RECORD_NAME, load_record
from vol3dseg.reporting.matching import Folders, Pair, match
from vol3dseg.reporting.score_report import WHOLE, Evaluation, claim_report, write_evaluation
from vol3dseg.space.labels import LabelSet, Segmentation


def evaluate(
    predictions: str | Path,
    references: str | Path,
    output: str | Path | None = None,
    config: str | Path | None = None,
    empty: EmptyRule = "undefined",
    split: str | Path | None = None,
    repair: bool = False,
    only_common: bool = False,
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
        or `empty` is no rule.
    FileFormatError, GridError, LabelError
        A label map cannot be read, lies on another grid, or holds what is not in the label set.
    MemoryLimitError
        The label maps of a case do not fit into memory.
    OutputError
        The report cannot be written.
    """
    if empty not in EMPTY_RULES:
        raise EvaluationError(f"empty={empty!r} is no rule", expected=" or ".join(EMPTY_RULES))
    folder = Path(predictions)
    record = load_record(folder) if (folder / RECORD_NAME).exists() else None
    given = None if split is None else read_split(Path(split))
    folders = Folders.read(folder, Path(references), record, repair)
    pairs, cohort = match(folders, given, str(split), only_common)
    labels = (load_config(config) if config else record or load_record(folder)).labels
    if output is not None:
        claim_report(Path(output), None if given is None else list(cohort.parts))
    made = (record.labels if record else labels).of_predictions(ours=record is not None)
    scores = {case.case_id: case for case in evaluate_pairs(pairs, labels, empty, made)}
    groups = {WHOLE: tuple(scores)} if given is None else cohort.parts
    cases = {part: tuple(scores[name] for name in names) for part, names in groups.items()}
    summaries = {part: summarise(of_part) for part, of_part in cases.items()}
    found = Evaluation(cases, summaries, given, cohort)
    if output is not None:
        write_evaluation(Path(output), found)
    return found


def evaluate_pairs(
    pairs: Iterable[Pair],
    labels: LabelSet,
    empty: EmptyRule = "undefined",
    predicted: LabelSet | None = None,
) -> list[CaseScores]:
    """Read and score predictions, repaired as their cases may be, one after the other.

    `labels` say what values mean in references, `predicted` in predictions; None: what others' may.
    """
    maps = labels, predicted or labels.of_predictions(ours=False)
    scores = []
    for name, prediction, case in pairs:
        with in_memory("the two label maps", where=f"case {name}"):
            scores.append(evaluate_case(name, *_read_pair(prediction, case, maps), empty))
    return scores


def _read_pair(
    prediction: Path, case: Case, labels: tuple[LabelSet, LabelSet]
) -> tuple[Segmentation, Segmentation]:
    """Return the reference and the prediction; a DICOM-SEG comes onto the grid of the other."""
    reference, predicted = open_label(case), open_labels(prediction, case.repair)
    grid = reference.geometry() or predicted.geometry()
    grid = grid or (read_grid(case) if case.images else None)
    return reference.segmentation(labels[0], grid), predicted.segmentation(labels[1], grid)

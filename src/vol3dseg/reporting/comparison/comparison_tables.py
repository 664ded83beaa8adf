"""The tables of a comparison, once for Markdown and HTML alike: cells as text, the best marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from vol3dseg.evaluation.scoring import Statistics
from vol3dseg.reporting.comparison.comparison import Comparison
from vol3dseg.reporting.comparison.differences import Difference
from vol3dseg.reporting.score_files import CASE_MEAN

UNDEFINED = "-"
MEAN_OF_CLASSES = "mean of classes"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as plain text; whoever writes them escapes them.

    Parameters
    ----------
    columns : tuple of str
    rows : tuple of tuple of str
    bold : frozenset of (row, column)
        Cells that stand out: the best of a column, or an interval that excludes 0.
    words : int
        How many columns, from the left, hold words rather than numbers.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    words: int = 1


def run_table(comparison: Comparison) -> Table:
    """Return the key: letter, name, folder, checkpoint, epochs."""
    rows = []
    for entry in comparison.entries:
        facts = entry.run.manifest.members[0]
        checkpoint = f"{facts.checkpoint}, epoch {facts.epoch}"
        loss = UNDEFINED if facts.val_loss is None else number(facts.val_loss)
        folder = str(entry.run.folder)
        rows.append((entry.letter, entry.name, checkpoint, str(facts.epochs), loss, folder))
    columns = ("run", "what it is", "checkpoint", "epochs trained", "its val_loss", "folder")
    return Table(columns, tuple(rows), words=len(columns))


def parameter_table(comparison: Comparison) -> Table:
    """Return the hyper-parameters that differ, one column for each run."""
    rows = tuple((p.name, *p.values) for p in comparison.parameters if p.differs)
    columns = ("hyper-parameter", *(e.letter for e in comparison.entries))
    return Table(columns, rows, words=len(columns))


def shared_table(comparison: Comparison) -> Table:
    """Return the hyper-parameters that all runs share."""
    rows = tuple((p.name, p.values[0]) for p in comparison.parameters if not p.differs)
    return Table(("hyper-parameter", "all runs"), rows, words=2)


def result_table(comparison: Comparison) -> Table:
    """Return mean Dice ± standard deviation (number of cases), one row for each run."""
    entries = comparison.entries
    structures = (*comparison.foreground, *comparison.regions, CASE_MEAN)
    values = [[entry.statistics[s].mean for s in structures] for entry in entries]
    rows = [[spread(entry.statistics[s]) for s in structures] for entry in entries]
    for entry, numbers, cells in zip(entries, values, rows, strict=True):
        numbers.append(entry.mean_of_classes)
        cells.append(number(entry.mean_of_classes))
    columns = (*structures[:-1], "mean in each case", MEAN_OF_CLASSES)
    return _by_run(comparison, columns, values, rows)


def pooled_table(comparison: Comparison) -> Table:
    """Return the pooled scores, one row for each run."""
    names = tuple(comparison.entries[0].scores.pooled)
    values = [
        [entry.scores.pooled.get(name, float("nan")) for name in names]
        for entry in comparison.entries
    ]
    return _by_run(comparison, names, values, [[number(v) for v in row] for row in values])


def difference_table(comparison: Comparison) -> Table:
    """Return the differences of all pairs; an interval that excludes 0 is bold."""
    columns = ("runs", "class", "cases", "mean difference", "95 % interval", "p", "p (Holm)")
    pairs = [(f"{p.first} − {p.second}", d) for p in comparison.pairs for d in p.differences]
    rows = tuple(_difference_row(pair, difference) for pair, difference in pairs)
    bold = frozenset((n, 4) for n, (_, difference) in enumerate(pairs) if difference.excludes_zero)
    return Table(columns, rows, bold, words=2)


def number(value: float) -> str:
    """Return a score with four digits; a dash where undefined."""
    return UNDEFINED if isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    """Return a difference with four digits and its sign; a dash where undefined."""
    return UNDEFINED if isnan(value) else f"{value:+.4f}".replace("-", "−")


def spread(value: Statistics) -> str:
    """Return mean ± standard deviation (number of cases)."""
    if not value.cases:
        return f"{UNDEFINED} (0)"
    return f"{number(value.mean)} ± {number(value.std)} ({value.cases})"


def probability(value: float) -> str:
    """Return p with four digits, small ones as powers of ten; a dash where undefined."""
    return number(value) if isnan(value) or value >= 0.0001 else f"{value:.1e}"


def _difference_row(pair: str, difference: Difference) -> tuple[str, ...]:
    equal = f" ({difference.equal} equal)" if difference.equal else ""
    undefined = isnan(difference.low)
    interval = UNDEFINED if undefined else f"{signed(difference.low)} to {signed(difference.high)}"
    return (
        pair,
        difference.structure,
        f"{difference.cases}{equal}",
        signed(difference.mean),
        interval,
        probability(difference.p),
        probability(difference.p_holm),
    )


def _by_run(
    comparison: Comparison,
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    cells: Sequence[Sequence[str]],
) -> Table:
    rows = tuple((e.letter, *row) for e, row in zip(comparison.entries, cells, strict=True))
    bold = {
        (row, column + 1)
        for column in range(len(columns))
        for row in _best([each[column] for each in values])
    }
    return Table(("run", *columns), rows, frozenset(bold))


def _best(values: Sequence[float]) -> list[int]:
    """Return the places of the largest value, of all of them where several show the same digits."""
    shown = [round(value, 4) for value in values]
    largest = max((value for value in shown if not isnan(value)), default=None)
    return [place for place, value in enumerate(shown) if value == largest]

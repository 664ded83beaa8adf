"""The tables of a comparison: the best of a column is bold, as is an interval that excludes 0."""

from collections.abc import Mapping, Sequence
from math import isnan, nan

from vol3dseg.evaluation.overlap import METRICS
from vol3dseg.evaluation.scoring import POOLED
from vol3dseg.reporting.comparison.common_cases import Comparison
from vol3dseg.reporting.document import UNDEFINED, Table, number
from vol3dseg.reporting.score_files import CASE_MEAN
from vol3dseg.reporting.score_report import mean_and_std

_FEW_PAIRS = 6  # the table of more is folded away; the picture shows them all
_LOWER_IS_BETTER = {POOLED + metric.name for metric in METRICS if not metric.higher_is_better}


def run_table(comparison: Comparison) -> Table:
    """Return the key: letter, name, checkpoint, epochs, folder."""
    rows = []
    for entry in comparison.entries:
        facts = entry.run.training
        checkpoint = f"{facts.checkpoint_in_words}, epoch {facts.epoch}"
        loss = number(nan if facts.val_loss is None else facts.val_loss)
        cells = (entry.letter, entry.name, checkpoint, facts.epochs, loss, entry.run.folder)
        rows.append(tuple(map(str, cells)))
    columns = ("run", "what it is", "checkpoint", "epochs trained", "its val_loss", "folder")
    return Table(columns, tuple(rows), text_columns=len(columns), kind="key")


def parameter_table(comparison: Comparison) -> Table:
    """Return the hyper-parameters that differ, one column for each run."""
    rows = tuple((p.name, *p.values) for p in comparison.parameters if p.differs)
    columns = ("hyper-parameter", *(e.letter for e in comparison.entries))
    return Table(columns, rows, text_columns=len(columns))


def shared_table(comparison: Comparison) -> Table:
    """Return the hyper-parameters that all runs share."""
    rows = tuple((p.name, p.values[0]) for p in comparison.parameters if not p.differs)
    columns = ("hyper-parameter", "all runs")
    return Table(columns, rows, text_columns=2, folded=f"{len(rows)} that all share")


def result_table(comparison: Comparison) -> Table:
    """Return mean Dice ± standard deviation (number of cases), one row for each run."""
    columns: dict[str, list[tuple[float, str]]] = {}
    for name in comparison.structures:
        found = [entry.statistics[name] for entry in comparison.entries]
        title = "mean in each case" if name == CASE_MEAN else name
        columns[title] = [(s.mean, mean_and_std(s)) for s in found]
    means = [entry.mean_of_classes for entry in comparison.entries]
    columns["mean of classes"] = [(mean, number(mean)) for mean in means]
    return _by_run(comparison, columns)


def pooled_table(comparison: Comparison) -> Table:
    """Return the pooled scores, one row for each run."""
    pooled = [entry.scores.pooled for entry in comparison.entries]
    values = {name: [of_run.get(name, nan) for of_run in pooled] for name in pooled[0]}
    columns = {name: [(v, number(v)) for v in each] for name, each in values.items()}
    return _by_run(comparison, columns)


def difference_table(comparison: Comparison) -> Table:
    """Return the differences of all pairs; an interval that excludes 0 is bold."""
    columns = ("runs", "class", "cases", "mean difference", "95 % interval", "p", "p (Holm)")
    rows: list[tuple[str, ...]] = []
    bold = set()
    for title, d in ((pair.title, d) for pair in comparison.pairs for d in pair.differences):
        cases = f"{d.cases} ({d.equal} equal)" if d.equal else str(d.cases)
        interval = UNDEFINED if isnan(d.low) else f"{signed(d.low)} to {signed(d.high)}"
        if d.excludes_zero:
            bold.add((len(rows), columns.index("95 % interval")))
        ps = map(probability, (d.p, d.p_holm))
        rows.append((title, d.structure, cases, signed(d.mean), interval, *ps))
    pairs = len(comparison.pairs)
    folded = f"Table of all {pairs} pairs" if pairs > _FEW_PAIRS else ""
    return Table(columns, tuple(rows), frozenset(bold), text_columns=2, folded=folded)


def probability(value: float) -> str:
    """Return p with four digits, small ones as powers of ten; a dash where undefined."""
    return number(value) if isnan(value) or value >= 0.0001 else f"{value:.1e}"


def signed(value: float) -> str:
    """Return a difference with its sign and four digits; a dash where undefined."""
    return UNDEFINED if isnan(value) else f"{value:+.4f}".replace("-", "−")


def _by_run(comparison: Comparison, columns: Mapping[str, Sequence[tuple[float, str]]]) -> Table:
    """Return a table from columns of (value, text); what shows the best of a column is bold."""
    bold = set()
    for place, (name, cells) in enumerate(columns.items(), start=1):
        choose = min if name in _LOWER_IS_BETTER else max
        shown = [round(value, 4) for value, _ in cells]
        best = choose((value for value in shown if not isnan(value)), default=None)
        bold |= {(row, place) for row, value in enumerate(shown) if value == best}
    letters = [entry.letter for entry in comparison.entries]
    texts = [[text for _, text in cells] for cells in columns.values()]
    return Table(("run", *columns), tuple(zip(letters, *texts, strict=True)), frozenset(bold))

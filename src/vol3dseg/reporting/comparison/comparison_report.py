"""What is written of a comparison: Markdown and HTML for people, CSV for machines."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from math import isnan
from pathlib import Path

from vol3dseg.files import write_text
from vol3dseg.reporting.comparison import comparison_tables as tables
from vol3dseg.reporting.comparison import comparison_words as words
from vol3dseg.reporting.comparison.comparison import Comparison, Entry
from vol3dseg.reporting.comparison.comparison_page import comparison_page
from vol3dseg.reporting.comparison.comparison_tables import Table
from vol3dseg.reporting.score_files import CASE_MEAN


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write comparison.md, comparison.csv, differences.csv and comparison.html, each atomically.

    Nothing is written before all four are made.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    OutputError
        The folder cannot be written.
    """
    contents = {
        "comparison.md": markdown(comparison),
        "comparison.csv": runs_csv(comparison),
        "differences.csv": differences_csv(comparison),
        "comparison.html": comparison_page(comparison),
    }
    for name, content in contents.items():
        write_text(folder / name, content)


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown tables."""
    parts = [
        f"# {words.title(comparison)}",
        *map(_text, words.cases_note(comparison)),
        _table(tables.run_table(comparison)),
        "## Hyper-parameters that differ",
        _text(words.PARAMETERS),
        _table(tables.parameter_table(comparison)),
        f"Shared by all: {_shared(tables.shared_table(comparison))}.",
        "## Dice per case",
        _text(words.RESULTS),
        _text(words.empty_note(comparison)),
        _table(tables.result_table(comparison)),
        "## Pooled scores",
        _text(words.pooled_note(comparison)),
        _table(tables.pooled_table(comparison)),
        "## Differences per case",
        *map(_text, words.DIFFERENCES),
        _table(tables.difference_table(comparison)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def runs_csv(comparison: Comparison) -> str:
    """Return one row for each run: what it is, its hyper-parameters, its results."""
    heads: list[str] = []
    rows: list[list[str]] = []
    for place, entry in enumerate(comparison.entries):
        cells = {
            "run": entry.letter,
            "name": entry.name,
            "folder": str(entry.run.folder),
            "part": comparison.part,
            "cases": str(len(comparison.cases)),
            **{p.name: p.values[place] for p in comparison.parameters},
            **_results(entry, comparison),
        }
        heads = list(cells)
        rows.append(list(cells.values()))
    return _csv(heads, rows)


def differences_csv(comparison: Comparison) -> str:
    """Return one row for each pair and class; first minus second; empty where undefined."""
    heads = (
        "pair", "first", "second", "structure", "n", "n_equal", "mean_difference",
        "interval_low", "interval_high", "p", "p_holm",
    )  # fmt: skip
    names = {entry.letter: entry.name for entry in comparison.entries}
    rows = [
        (
            f"{pair.first} - {pair.second}", names[pair.first], names[pair.second],
            d.structure, str(d.cases), str(d.equal),
            *map(_number, (d.mean, d.low, d.high)),
            *("" if isnan(p) else f"{p:.6g}" for p in (d.p, d.p_holm)),
        )
        for pair in comparison.pairs
        for d in pair.differences
    ]  # fmt: skip
    return _csv(heads, rows)


def _results(entry: Entry, comparison: Comparison) -> dict[str, str]:
    facts = entry.run.manifest.members[0]
    cells = {
        "checkpoint": facts.checkpoint,
        "checkpoint_epoch": str(facts.epoch),
        "epochs_trained": str(facts.epochs),
        "val_loss": "" if facts.val_loss is None else _number(facts.val_loss),
    }
    for name in (*comparison.foreground, *comparison.regions, CASE_MEAN):
        found = entry.statistics[name]
        cells[f"{name}: dice mean"] = _number(found.mean)
        cells[f"{name}: dice std"] = _number(found.std)
        cells[f"{name}: cases"] = str(found.cases)
    cells["mean of classes: dice"] = _number(entry.mean_of_classes)
    # The columns are those of the first run, so that every row has them.
    names = comparison.entries[0].scores.pooled
    pooled = {name: entry.scores.pooled.get(name, float("nan")) for name in names}
    return cells | {name: _number(value) for name, value in pooled.items()}


def _csv(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float) -> str:
    return "" if isnan(value) else f"{value:.6f}"


def _table(table: Table) -> str:
    lines = [
        "| " + " | ".join(map(_text, table.columns)) + " |",
        "|---" * table.words + "|---:" * (len(table.columns) - table.words) + "|",
    ]
    for number, row in enumerate(table.rows):
        cells = [
            f"**{_text(cell)}**" if (number, column) in table.bold else _text(cell)
            for column, cell in enumerate(row)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shared(table: Table) -> str:
    return ", ".join(f"{_text(name)} {_text(value)}" for name, value in table.rows) or "nothing"


def _text(text: str) -> str:
    """Return plain text so that Markdown shows it as it is, in one line."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(text.split()))

"""What is written of a comparison: Markdown and HTML for people, CSV for machines."""

from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from importlib import resources
from math import isnan
from pathlib import Path

from vol3dseg.errors import some_of
from vol3dseg.evaluation.empty_masks import RULES
from vol3dseg.files import require_writable, write_text
from vol3dseg.reporting.comparison import comparison_figures as figures
from vol3dseg.reporting.comparison import comparison_tables as tables
from vol3dseg.reporting.comparison.common_cases import Comparison, Entry, compare
from vol3dseg.reporting.comparison.runs import read_run
from vol3dseg.reporting.document import Block, Figure, Heading, html, markdown
from vol3dseg.reporting.matching import WORTH
from vol3dseg.reporting.page import html_page
from vol3dseg.reporting.score_files import csv_text
from vol3dseg.reporting.score_report import NOT_COMPARABLE, POOLED_FROM

_NAMES = ("comparison.md", "comparison.csv", "differences.csv", "comparison.html")
_PARAMETERS = "Keys of the config; “none” where a section is switched off."
_RESULTS = (
    "Mean of the Dice per case ± standard deviation (number of cases that define it); best of each "
    "column in bold. “Mean in each case” averages the foreground classes that a case defines, "
    "then the cases; “mean of classes” averages the means of the classes, as vol3dseg evaluate "
    "does."
)
_CASES = "A dot is a case, at the same place in every strip; the black line is the mean."
_DIFFERENCES = (
    "First run minus second, case by case: above 0 the first is better. Cases where either Dice is "
    "undefined are left out; the mean of foreground classes is taken, in each case, over the "
    "classes that both define.",
    "The interval is a 95 % bootstrap interval over cases (BCa, 9999 resamples, fixed seed). Where "
    "it excludes 0, it is bold: other cases like these would hardly turn the sign of the mean "
    "difference; of many such intervals about 5 in 100 miss the true mean. Where it holds 0, these "
    "cases do not show which run is better, which is no proof that both are equal.",
    "p is that of Wilcoxon's signed-rank test, two-sided; cases of equal Dice are left out of the "
    "test (zero method “wilcox”), and without any other p is undefined. p (Holm) is adjusted for "
    "all tests of the table. The intervals are not adjusted.",
    "Each run was trained once: neither interval nor p says anything about the spread between "
    "seeds, so a difference belongs to these two trainings, not to their settings in general.",
)
_INTERVALS = "Mean difference with its 95 % interval; filled and black where it excludes 0."
_CURVES = (
    "Of the validation patches while training, unless whole volumes are named. A dot marks the "
    "epoch that the run's checkpoint holds. Losses can be compared between runs of one loss "
    "function only."
)


def compare_folders(
    runs: Sequence[str | Path], output: str | Path, part: str | None = None
) -> Comparison:
    """Read runs, put them side by side and write what is found.

    Parameters
    ----------
    runs : sequence of str or Path
        Folders made by `vol3dseg train`, with `scores/<part>/` made by `vol3dseg evaluate`.
    output : str or Path
        Gets comparison.md, comparison.csv, differences.csv and comparison.html.
    part : "train", "validation" or "test" or None
        Which part they are scored on; None takes test if all have its scores, else validation.

    Raises
    ------
    RunError
        A folder is no finished run, or the runs cannot be compared.
    MissingExtraError
        SciPy or matplotlib is not installed.
    OutputError
        The folder cannot be written.
    """
    found = [read_run(Path(run)) for run in runs]
    require_writable(Path(output), _NAMES)
    comparison = compare(found, part)
    write_comparison(Path(output), comparison)
    return comparison


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write the four files, each atomically; nothing is written before all four are made."""
    made = (comparison_markdown, runs_csv, differences_csv, comparison_page)
    contents = [make(comparison) for make in made]
    for name, content in zip(_NAMES, contents, strict=True):
        write_text(folder / name, content)


def comparison_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown tables."""
    return markdown(title(comparison), [*_results(comparison), *_shared(comparison)])


def comparison_page(comparison: Comparison) -> str:
    """Return the comparison as one HTML page, with pictures."""
    style = resources.files(__package__).joinpath("comparison.css").read_text("utf-8")
    badges = {entry.letter: _badge(n, entry) for n, entry in enumerate(comparison.entries)}
    blocks = [*_results(comparison), *_curves(comparison), *_shared(comparison)]
    return html_page(title(comparison), html(blocks, badges), style)


def title(comparison: Comparison) -> str:
    """Return what is compared, in a line."""
    count = len(comparison.cases)
    return (
        f"{len(comparison.entries)} runs on {count} case{'s' * (count != 1)} "
        f"of the {comparison.part} part"
    )


def notes_on_cases(comparison: Comparison) -> list[str]:
    """Return what must be known of the cases: the part that they are, and who lacks some."""
    notes = [WORTH[comparison.part]] if comparison.part in WORTH else []
    common, others = set(comparison.cases), dict[tuple[str, ...], list[str]]()
    for entry in comparison.entries:
        extra = tuple(case for case in entry.all_cases if case not in common)
        if extra:
            others.setdefault(extra, []).append(entry.letter)
    if others:
        lists = (f"{some_of(extra)} (in {', '.join(runs)} only)" for extra, runs in others.items())
        notes.append(
            f"The runs were scored on different cases. Only the {len(comparison.cases)} that all "
            f"have are compared; left out: {'; '.join(lists)}."
        )
    return notes + [note for entry in comparison.entries for note in _on_scored(entry)]


def _on_scored(entry: Entry) -> Iterator[str]:
    """Say where a run was scored on other cases than the part has."""
    part, own, strangers = entry.scores.part, entry.without_score, entry.of_no_part
    if strangers:
        yield (
            f"Run {entry.letter} was scored on what is in no part of its split, hence of another "
            f"data set: {some_of(strangers)}."
        )
    if own and len(strangers) < len(entry.all_cases):
        total = len(entry.run.split.part(part))
        yield (
            f"Run {entry.letter} was scored on {total - len(own)} of the {total} cases of its "
            f"{part} part; without a score: {some_of(own)}."
        )


def runs_csv(comparison: Comparison) -> str:
    """Return one row for each run: what it is, its hyper-parameters, its results."""
    rows = [
        {
            "run": entry.letter,
            "name": entry.name,
            "folder": entry.run.folder,
            "part": comparison.part,
            "cases": len(comparison.cases),
            **{p.name: p.values[place] for p in comparison.parameters},
            **_result_cells(entry, comparison),
        }
        for place, entry in enumerate(comparison.entries)
    ]
    return csv_text(rows)


def differences_csv(comparison: Comparison) -> str:
    """Return one row for each pair and class; first minus second; empty where undefined."""
    names = {entry.letter: entry.name for entry in comparison.entries}
    rows = [
        {
            "pair": f"{pair.first} - {pair.second}",
            "first": names[pair.first],
            "second": names[pair.second],
            "structure": d.structure,
            "n": d.cases,
            "n_equal": d.equal,
            "mean_difference": d.mean,
            "interval_low": d.low,
            "interval_high": d.high,
            "p": "" if isnan(d.p) else f"{d.p:.6g}",
            "p_holm": "" if isnan(d.p_holm) else f"{d.p_holm:.6g}",
        }
        for pair in comparison.pairs
        for d in pair.differences
    ]
    return csv_text(rows)


def _results(comparison: Comparison) -> list[Block]:
    """Return what both documents say, pictures included."""
    return [
        *notes_on_cases(comparison),
        Heading("Runs"),
        tables.run_table(comparison),
        Heading("Hyper-parameters that differ"),
        _PARAMETERS,
        tables.parameter_table(comparison),
        Heading("Dice per case"),
        _RESULTS,
        RULES[comparison.entries[0].scores.empty].meaning,
        tables.result_table(comparison),
        Figure("Every case", partial(figures.draw_cases, comparison), _CASES),
        Heading("Pooled scores", 3),
        _note_on_pooled(comparison),
        tables.pooled_table(comparison),
        Heading("Differences per case"),
        *_DIFFERENCES,
        Figure("Mean differences", partial(figures.draw_differences, comparison), _INTERVALS),
        tables.difference_table(comparison),
    ]


def _curves(comparison: Comparison) -> list[Block]:
    found = tuple(
        Figure(caption, partial(figures.draw_curves, comparison, column))
        for column, caption in figures.curve_columns(comparison).items()
    )
    shown: list[Block] = [_CURVES, found] if found else ["No run has validation patches."]
    return [Heading("Learning curves"), *shown]


def _shared(comparison: Comparison) -> list[Block]:
    return [Heading("Hyper-parameters that all share"), tables.shared_table(comparison)]


def _note_on_pooled(comparison: Comparison) -> str:
    """Return what the pooled table is, and which cases are in it."""
    note = f"{POOLED_FROM} {NOT_COMPARABLE}"
    if all(len(entry.all_cases) == len(comparison.cases) for entry in comparison.entries):
        return note
    counts = ", ".join(f"{entry.letter} {len(entry.all_cases)}" for entry in comparison.entries)
    return f"{note} Here each run stands with all its own cases ({counts})."


def _result_cells(entry: Entry, comparison: Comparison) -> dict[str, object]:
    facts, statistics = entry.run.training, entry.statistics
    cells: dict[str, object] = {
        "checkpoint": facts.checkpoint,
        "checkpoint_epoch": facts.epoch,
        "epochs_trained": facts.epochs,
        "chosen_by": facts.chosen_by,
        "val_loss": facts.val_loss,
        "val_volume_dice": facts.val_volume_dice,
    }
    for name in comparison.structures:
        cells[f"{name}: dice mean"] = statistics[name].mean
        cells[f"{name}: dice std"] = statistics[name].std
        cells[f"{name}: cases"] = statistics[name].cases
    cells["mean of classes: dice"] = entry.mean_of_classes
    # The columns are those of the first run, so that every row has them.
    return cells | {p: entry.scores.pooled.get(p) for p in comparison.entries[0].scores.pooled}


def _badge(number: int, entry: Entry) -> str:
    """Return the letter of a run, underlined as its curves are drawn."""
    line = f"{figures.line_style(number)[1]} {figures.colour(number)}"
    return (
        f'<span class="badge" style="border-bottom: 4px {line}" title="{escape(entry.name)}">'
        f"{entry.letter}</span>"
    )

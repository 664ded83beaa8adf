"""The page of a comparison: one self-contained HTML file."""

from html import escape
from importlib import resources

from vol3dseg.reporting.comparison import comparison_figures as pictures
from vol3dseg.reporting.comparison import comparison_tables as tables
from vol3dseg.reporting.comparison import comparison_words as words
from vol3dseg.reporting.comparison.comparison import Comparison
from vol3dseg.reporting.comparison.comparison_tables import Table
from vol3dseg.reporting.page import html_page, image_uri

_FEW_PAIRS = 6  # more are folded away; the picture shows them all
# CSS knows no dash-dotted line.
_CSS_LINES = {"solid": "solid", "dashed": "dashed", "dotted": "dotted", "dash-dotted": "double"}


def comparison_page(comparison: Comparison) -> str:
    """Return the whole page.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    style = (
        resources.files("vol3dseg.reporting.comparison")
        .joinpath("comparison.css")
        .read_text("utf-8")
    )
    body = "\n".join(
        [
            *map(_note, words.cases_note(comparison)),
            _key(comparison),
            _parameters(comparison),
            _results(comparison),
            _differences(comparison),
            _curves(comparison),
        ]
    )
    return html_page(words.title(comparison), body, style)


def _key(comparison: Comparison) -> str:
    return "<h2>Runs</h2>" + _table(comparison, tables.run_table(comparison), "key")


def _parameters(comparison: Comparison) -> str:
    shared = tables.shared_table(comparison)
    return (
        "<h2>Hyper-parameters that differ</h2>"
        + _note(words.PARAMETERS)
        + _table(comparison, tables.parameter_table(comparison), "parameters")
        + _folded(f"{len(shared.rows)} that all share", _table(comparison, shared, "parameters"))
    )


def _results(comparison: Comparison) -> str:
    return (
        "<h2>Dice per case</h2>"
        + _note(words.RESULTS)
        + _note(words.empty_note(comparison))
        + _table(comparison, tables.result_table(comparison))
        + _picture("Every case", pictures.draw_cases(comparison), words.STRIPS)
        + "<h3>Pooled scores</h3>"
        + _note(words.pooled_note(comparison))
        + _table(comparison, tables.pooled_table(comparison))
    )


def _differences(comparison: Comparison) -> str:
    table = _table(comparison, tables.difference_table(comparison))
    many = len(comparison.pairs) > _FEW_PAIRS
    return (
        "<h2>Differences per case</h2>"
        + "".join(map(_note, words.DIFFERENCES))
        + _picture("Mean differences", pictures.draw_differences(comparison), words.FOREST)
        + (_folded(f"Table of all {len(comparison.pairs)} pairs", table) if many else table)
    )


def _curves(comparison: Comparison) -> str:
    figures = [
        _picture(caption, pictures.draw_curves(comparison, column), "")
        for column, caption in pictures.curve_columns(comparison).items()
    ]
    if not figures:
        return "<h2>Learning curves</h2>" + _note("No run has validation patches.")
    note = _note(words.CURVES)
    return f'<h2>Learning curves</h2>{note}<div class="curves">{"".join(figures)}</div>'


def _table(comparison: Comparison, table: Table, kind: str = "") -> str:
    """Return a table; the letters of runs bear their colours."""
    words = [
        f'<th class="words">{_badge(comparison, c)}</th>' for c in table.columns[: table.words]
    ]
    head = "".join(words + [f"<th>{_text(c)}</th>" for c in table.columns[table.words :]])
    rows = "\n".join(
        "<tr>"
        + "".join(_cell(comparison, table, n, c) for c in range(len(table.columns)))
        + "</tr>"
        for n in range(len(table.rows))
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _text(text: str) -> str:
    """Return plain text as HTML: names of keys may break, what follows a mean stands below it."""
    mean, sign, rest = escape(text).partition(" ± ")
    tail = f' <span class="tail">{sign.strip()} {rest}</span>' if sign else ""
    return mean.replace("_", "_<wbr>") + tail


def _cell(comparison: Comparison, table: Table, row: int, column: int) -> str:
    text = table.rows[row][column]
    if table.columns[column] == "run":
        return f"<td>{_badge(comparison, text)}</td>"
    kinds = ["words"] * (column < table.words) + ["bold"] * ((row, column) in table.bold)
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<td{kind}>{_text(text)}</td>"


def _badge(comparison: Comparison, text: str) -> str:
    for number, entry in enumerate(comparison.entries):
        if entry.letter == text:
            line = f"{_CSS_LINES[pictures.line_style_name(number)]} {pictures.colour(number)}"
            return (
                f'<span class="badge" style="border-bottom: 4px {line}" '
                f'title="{escape(entry.name)}">{escape(text)}</span>'
            )
    return _text(text)


def _picture(caption: str, content: bytes, note: str) -> str:
    text = escape(caption)
    image = f'<img src="{image_uri(content)}" alt="{text}">'
    return f"<figure><figcaption>{text}</figcaption>{image}{_note(note)}</figure>"


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>' if text else ""

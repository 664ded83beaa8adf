"""Reports as a list of headings, notes, tables and figures, written as Markdown or as HTML."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from math import isnan

from vol3dseg.reporting.page import image_uri

UNDEFINED = "-"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the second level, or a lower one."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as plain text; whoever writes them escapes them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()  # (row, column)
    text_columns: int = 1  # how many, from the left, hold text rather than numbers
    kind: str = ""  # CSS class
    folded: str = ""  # a line that the table is folded under in HTML; empty shows it


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture, which only HTML shows: what draws it as PNG, and what is said of it."""

    caption: str
    draw: Callable[[], bytes]
    note: str = ""


Block = str | Heading | Table | Figure | tuple[Figure, ...]


def number(value: float) -> str:
    """Return a score with four digits; a dash where it is undefined."""
    return UNDEFINED if isnan(value) else f"{value:.4f}"


def markdown(title: str, blocks: Iterable[Block]) -> str:
    """Return a document as Markdown; text is a paragraph, figures are left out."""
    parts = [f"# {_plain(title)}"]
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Table):
            parts.append(_markdown_table(block))
        elif isinstance(block, str):
            parts.append(_plain(block))
    return "\n\n".join(filter(None, parts)) + "\n"


def html(blocks: Iterable[Block], badges: Mapping[str, str] | None = None) -> str:
    """Return the body of an HTML page; badges stand for texts of heads and the first column."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"<h{block.level}>{escape(block.text)}</h{block.level}>")
        elif isinstance(block, Table):
            parts.append(_html_table(block, badges or {}))
        elif isinstance(block, Figure):
            parts.append(_html_figure(block))
        elif isinstance(block, tuple):
            parts.append(f'<div class="figures">{"".join(map(_html_figure, block))}</div>')
        else:
            parts.append(_html_note(block))
    return "\n".join(parts)


def _markdown_table(table: Table) -> str:
    numbers = len(table.columns) - table.text_columns
    lines = [
        "| " + " | ".join(map(_plain, table.columns)) + " |",
        "|---" * table.text_columns + "|---:" * numbers + "|",
    ]
    for row, texts in enumerate(table.rows):
        cells = [
            f"**{_plain(text)}**" if (row, column) in table.bold else _plain(text)
            for column, text in enumerate(texts)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return text so that Markdown shows it as it is, in one line."""
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _html_table(table: Table, badges: Mapping[str, str]) -> str:
    head, *rows = (_html_row(table, row, badges) for row in range(-1, len(table.rows)))
    body = "\n".join(rows)
    whole = (
        f'<div class="scroll"><table class="{table.kind}"><thead>{head}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )
    if not table.folded:
        return whole
    return f"<details><summary>{escape(table.folded)}</summary>{whole}</details>"


def _html_row(table: Table, row: int, badges: Mapping[str, str]) -> str:
    """Return a row of the table; its head is row -1."""
    head, cells = row < 0, []
    tag, badged = ("th", table.text_columns) if head else ("td", 1)
    for column, text in enumerate(table.columns if head else table.rows[row]):
        kinds = ["text"] * (column < table.text_columns) + ["bold"] * ((row, column) in table.bold)
        found = badges.get(text) if column < badged else None
        cells.append(f'<{tag} class="{" ".join(kinds)}">{found or _html_text(text)}</{tag}>')
    return f"<tr>{''.join(cells)}</tr>"


def _html_text(text: str) -> str:
    """Return plain text as HTML: names of keys may break, what follows a mean stands below it."""
    mean, sign, rest = escape(text).partition(" ± ")
    tail = f' <span class="tail">{sign.strip()} {rest}</span>' if sign else ""
    return mean.replace("_", "_<wbr>") + tail


def _html_figure(figure: Figure) -> str:
    caption = escape(figure.caption)
    image = f'<img src="{image_uri(figure.draw())}" alt="{caption}">'
    return f"<figure><figcaption>{caption}</figcaption>{image}{_html_note(figure.note)}</figure>"


def _html_note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>' if text else ""

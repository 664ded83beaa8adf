"""Options that several commands share, and how progress is shown."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress

PathType = click.Path(path_type=Path)


def output_option(what: str) -> Callable[[Any], Any]:
    """Return the option -o, where `what` goes."""
    return click.option(
        "-o", "--output", type=PathType, required=True, metavar="PATH", help=f"Where {what} goes."
    )


def config_option(help_text: str, required: bool = False) -> Callable[[Any], Any]:
    """Return the option --config."""
    return click.option(
        "-c", "--config", "config", required=required, metavar="NAME_OR_FILE", help=help_text
    )


def progress_bar() -> "Progress":
    """Return a progress bar with the time left; it shows nothing where nobody can see it move."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)

"""Options that several commands share, and how progress is shown."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text


_NAME = 20  # letters of a name that are not folded

# What may not be read is said by who reads it, in our words.
PathType = click.Path(path_type=Path, readable=False)


class Once(click.Command):
    """A command that refuses what is given twice; click would take the last without a word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what is given, once it is seen that nothing is given twice."""
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        for parameter in self.get_params(ctx):
            given = values.get(parameter.name or "")
            if isinstance(given, list | tuple):
                if twice := _twice(given, parameter.type):
                    raise click.UsageError(f"{twice} is given twice; give it once")
            elif order.count(parameter) > 1:
                raise click.UsageError(f"{parameter.opts[-1]} is given twice; it takes one")
        return super().parse_args(ctx, args)


def _twice(given: Sequence[Any], of_type: click.ParamType[Any]) -> str | None:
    """Return the first value that was there before; paths are those that they lead to."""
    named = [os.path.realpath(v) if isinstance(of_type, click.Path) else v for v in map(str, given)]
    return next((str(v) for n, v in enumerate(given) if named[n] in named[:n]), None)


def command(name: str | None = None, **facts: Any) -> Callable[[Any], Once]:
    """Return the decorator of a command."""
    return click.command(name, cls=Once, **facts)


class SizeType(click.ParamType[float]):
    """An amount of memory, as 2GB, 900 MB or 1.5GiB; becomes MiB."""

    name = "size"
    _UNITS: ClassVar[dict[str, float]] = {
        "MB": 1e6, "GB": 1e9, "MIB": 2**20, "GIB": 2**30, "M": 2**20, "G": 2**30,
    }  # fmt: skip

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the amount [MiB]."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)", str(value).strip())
        unit = found and self._UNITS.get(found[2].upper())
        if not found or not unit or float(found[1]) == 0:
            self.fail(f"{value!r} is no amount of memory; expected one as 2GB or 900MB", param, ctx)
        return float(found[1]) * unit / 2**20


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


def workers_option(module: str, default: int | None = None) -> Callable[[Any], Any]:
    """Return what adds the options --workers and --cluster.

    The command gets one value, `workers`: how many processes, by default `default` or, where that
    is None, one for each core; or an executor on the cluster, as long as the command runs.
    `module` has what is done with each case.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(
            *given: Any, workers: int | None, cluster: str | None = None, **chosen: Any
        ) -> None:
            if cluster is None:
                if (workers or default) != 1:
                    from vol3dseg.process_starts import import_ahead

                    import_ahead(module)
                return function(*given, workers=workers, **chosen)
            if workers is not None:
                raise click.UsageError(
                    "--workers are processes of this machine; give --workers or --cluster"
                )
            from vol3dseg.datasets.reaching_cluster import open_cluster

            with open_cluster(cluster) as executor:
                return function(*given, workers=executor, **chosen)

        for option in (
            click.option(
                "--cluster",
                metavar="ADDRESS",
                help="Work on the workers of a Dask scheduler, tcp://HOST:PORT or tls://HOST:PORT, "
                "who must see the same paths; local:N starts one here with N. Needs [cluster].",
            ),
            click.option(
                "-j",
                "--workers",
                type=click.IntRange(min=1),
                default=None,
                help=f"Processes to use; 1 works within this one.  [default: "
                f"{default or 'one per CPU'}]",
            ),
        ):
            run = option(run)
        return run

    return add


def repair_option() -> Callable[[Any], Any]:
    """Return the option --repair."""
    return click.option(
        "--repair",
        is_flag=True,
        help="Read files that are wrong where docs/bad-inputs.md has a repair; each is recorded.",
    )


def about_case(case_id: str, said: str) -> str:
    """Return what is said of a case, with its name unless that is how it begins."""
    return said if said.startswith(f"case {case_id}: ") else f"case {case_id}: {said}"


def progress_bar(*more: "ProgressColumn", transient: bool = False) -> "Progress":
    """Return a progress bar with the time left; it shows nothing where nobody can see it move.

    It has the columns `more` at its end, and vanishes when it ends if it is `transient`.
    """
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
        *more,
        console=console,
        transient=transient,
        disable=not console.is_terminal,
    )


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: Collection[str] = (),
) -> None:
    """Print a table; the first column and those in `words` hold text, the others numbers.

    One whose columns have no names is a list of facts, without lines.
    """
    from rich.console import Console
    from rich.table import Table

    named = any(columns)
    console, table = Console(), Table() if named else Table.grid(padding=(0, 2))
    for number, column in enumerate(columns):
        text = number == 0 or column in words
        # Names are kept whole where other columns can be folded.
        longest = max((len(row[number]) for row in rows), default=0) if number == 0 else 0
        table.add_column(
            _plain(column),
            justify="left" if text else "right",
            overflow="fold",
            min_width=min(longest, _NAME) or None,
        )
    for row in rows:
        table.add_row(*map(_plain, row))
    # A title of the table itself would be wrapped at its width.
    if title:
        console.print(_plain(title), soft_wrap=True)
    console.print(table)


def _plain(text: str) -> "Text":
    """Return what rich shows as it is: names of files may look like its markup."""
    from rich.text import Text

    # A file name that is not UTF-8 holds lone surrogates, which no terminal takes.
    return Text(text.encode(errors="backslashreplace").decode())

"""A training in front of the user: lines, and between them a bar for the epoch that runs."""

import atexit
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from vol3dseg.training.timing import Step


class TrainingBar:
    """Prints lines, and shows a bar on a terminal; may be sent to the process that trains.

    The bar goes when a line comes, and returns with the next step.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._of: tuple[int, str] | None = None

    def line(self, text: str) -> None:
        """Print a line."""
        self.close()
        click.echo(text)

    def step(self, done: "Step") -> None:
        """Move the bar."""
        from vol3dseg.training.timing import duration

        bar = self._bar or self._open()
        if (done.epoch, done.part) != self._of or self._task is None:
            self._of = (done.epoch, done.part)
            if self._task is not None:
                bar.remove_task(self._task)
            judged = ", validation" if done.part == "validation" else ""
            title = f"epoch {done.epoch}/{done.epochs}{judged}"
            self._task = bar.add_task(title, total=done.steps, said="")
        left = "" if done.left_s is None else f"  {duration(done.left_s)} to the end"
        bar.update(self._task, completed=done.number, said=f"loss {done.loss:.4f}{left}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            atexit.unregister(self.close)
        self._bar = self._task = self._of = None

    def _open(self) -> "Progress":
        from rich.progress import TextColumn

        self._bar = progress_bar(TextColumn("{task.fields[said]}"), transient=True)
        self._bar.start()
        atexit.register(self.close)  # or the terminal keeps no cursor
        return self._bar

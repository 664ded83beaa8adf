"""A row of the catalogue of bad inputs: what is given, and all that comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.catalogue.data import DataSet, Make, as_it_is


@dataclass(frozen=True)
class Row:
    """One input and its outcome.

    Parameters
    ----------
    name : str
        Of the row: its group and number, and a word where a number has several.
    given : str
        What the input is, in words.
    make : callable
        Turns a good data set into this one.
    refused : str
        The whole line that refuses it, or several, without the name of the case; empty where it is
        read. `{folder}` stands for the folder of the data set, `{out}` for that of the output.
    said : str
        The line of a note or a warning where it is read; empty where nothing is said.
    repaired : str
        The line where it is read because of --repair; empty where that changes nothing.
    like : callable or None
        Makes the data set that has the same outcome: a good one, as a rule; None if there is none.
    result : str
        What it is read as, in words, where that says more than "read".
    predict : bool
        Whether the row is about `predict`; otherwise it is about `preprocess`.
    options : tuple of str
        What `predict` is given besides.
    evaluate : tuple of str or None
        What `evaluate` is given besides the folders `predictions` and `references`, where the row
        is about that.
    preset : str
        Whose labels the config has.
    needs : tuple of str
        Packages without which nothing can be said.
    checked : bool
        Whether `check` refuses it as well; it knows nothing of the output.
    signed : callable or None
        What becomes of a signed model, by its path; then `predict` is given --trusted trusted.pem.
    check : callable or None
        More that is asked of the folder of the output.
    """

    name: str
    given: str
    make: Make
    refused: str = ""
    said: str = ""
    repaired: str = ""
    like: Make | None = as_it_is
    result: str = ""
    predict: bool = False
    options: tuple[str, ...] = ()
    evaluate: tuple[str, ...] | None = None
    preset: str = "crops32"
    needs: tuple[str, ...] = ()
    checked: bool = True
    signed: Callable[[Path], None] | None = None
    check: Callable[[DataSet], None] | None = None

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class Group:
    """Rows on one subject; `words` stand above them on the page."""

    title: str
    words: str
    rows: tuple[Row, ...]

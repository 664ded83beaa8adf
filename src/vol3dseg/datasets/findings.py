"""What is said of the files of a case when they are checked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vol3dseg.datasets.case import Case
from vol3dseg.errors import Vol3dSegError

Weight = Literal["error", "warning", "note"]
WEIGHTS: tuple[Weight, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a case that its user should know.

    Parameters
    ----------
    weight : "error", "warning" or "note"
        Whether the case is refused, is read but looks wrong, or was harmlessly put right.
    case : str
    where : str
        The file, or the case.
    found, expected, remedy : str
        The last two are empty where there is nothing to be done.
    listed : str
        What there is to choose from, in words of headers: told, never recorded.
    """

    weight: Weight
    case: str
    where: str
    found: str
    expected: str = ""
    remedy: str = ""
    listed: str = ""

    @classmethod
    def of(cls, error: Vol3dSegError, case: Case, weight: Weight = "error") -> "Finding":
        """Return the finding of what was raised about a case."""
        where = error.where or f"case {case.id}"
        parts = (error.found, error.expected, error.remedy, error.listed)
        return cls(weight, case.id, where, *parts)

    @property
    def said(self) -> str:
        """What was found, expected and is to be done, without where."""
        wanted = self.expected and f"expected {self.expected}"
        return "; ".join(filter(None, (self.found, wanted, self.remedy, self.listed)))

    def __str__(self) -> str:
        return f"{self.where}: {self.said}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a case is refused, a line for each error.

    Parameters
    ----------
    said : str
        For whoever stands before the screen.
    recorded : str
        The same without what headers say.
    """

    said: str
    recorded: str

    @classmethod
    def of(cls, errors: Sequence[Finding]) -> "Refusal":
        """Return the refusal for the errors that were found of a case."""
        plain = [replace(finding, listed="") for finding in errors]
        return cls("\n".join(map(str, errors)), "\n".join(map(str, plain)))

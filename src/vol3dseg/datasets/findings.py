"""What a check of the files of a case found."""

from dataclasses import dataclass, replace
from typing import Literal

from vol3dseg.datasets.case import Case
from vol3dseg.errors import Vol3dSegError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a case that its user should know.

    Parameters
    ----------
    severity : "error", "warning" or "note"
        Whether the case is refused, is read but looks wrong, or was corrected without harm.
    case : str
    where : str
        The file, or the case.
    found, expected, remedy, listed : str
        Parts of the message; see `Vol3dSegError`.
    """

    severity: Severity
    case: str
    where: str
    found: str
    expected: str = ""
    remedy: str = ""
    listed: str = ""

    @classmethod
    def of(cls, error: Vol3dSegError, case: Case, severity: Severity = "error") -> "Finding":
        """Return the finding of what was raised about a case."""
        where = error.where or f"case {case.id}"
        parts = (error.found, error.expected, error.remedy, error.listed)
        return cls(severity, case.id, where, *parts)

    def __str__(self) -> str:
        parts = {"expected": self.expected, "remedy": self.remedy, "listed": self.listed}
        return str(Vol3dSegError(self.found, where=self.where, **parts))

    @property
    def message(self) -> str:
        """The message without where it was found."""
        return str(replace(self, where=""))

    @property
    def recorded(self) -> str:
        """The message without what headers say."""
        return str(replace(self, listed=""))

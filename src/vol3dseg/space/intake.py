"""What was found in a file and put right: harmless things always, others where it is allowed.

Not what the network sees, which is the recipe's: the same scan is the same volume whatever it is
read for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vol3dseg.errors import Vol3dSegError


@dataclass(frozen=True, slots=True)
class Note:
    """What was found in a file, and what was made of it.

    Parameters
    ----------
    found, done : str
    repaired : bool
        It would have been refused if repairs had not been allowed.
    """

    found: str
    done: str
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.found}; {self.done}"


def notes_as_text(notes: Mapping[str, Sequence[Note]], repaired: bool) -> tuple[str, ...]:
    """Return notes of one kind, each behind what it is about: "flair: has 4 axes, ..."."""
    return tuple(
        f"{what}: {note}" for what, of in notes.items() for note in of if note.repaired == repaired
    )


@dataclass(slots=True)
class Intake:
    """Whether repairs are allowed, and what was found while a file was read.

    Parameters
    ----------
    repair : bool
    notes : list of Note
        Each once, however often the file is asked.
    """

    repair: bool = False
    notes: list[Note] = field(default_factory=list)

    def note(self, found: str, done: str) -> None:
        """Say what was harmlessly put right."""
        self._add(Note(found, done))

    def mend(self, error: Vol3dSegError, done: str) -> None:
        """Repair what is wrong if that is allowed, and raise `error` if it is not.

        Parameters
        ----------
        error : Vol3dSegError
            Gets the repair as another remedy.
        done : str
            What the repair is, as "read from byte 352".
        """
        if not self.repair:
            error.remedy = f"{error.remedy}, or give --repair: it is then {done}"
            raise error
        self._add(Note(error.found, done, repaired=True))

    def _add(self, note: Note) -> None:
        if note not in self.notes:
            self.notes.append(note)

"""What was found in a file and put right: harmless things always, others where it is allowed.

Not what the network sees, which is the recipe's: the same scan is the same volume whatever it is
read for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vol3dseg.errors import Vol3dSegError, some_of


@dataclass(frozen=True, slots=True)
class Note:
    """What was found in a file and what was done; if `repaired`, only as repairs were allowed."""

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


def by_note(notes: Mapping[str, Iterable[str]], total: int) -> list[str]:
    """Return what is noted of cases, each note once with the cases: often all of a data set."""
    cases: dict[str, list[str]] = {}
    for case, of in notes.items():
        for note in of:
            cases.setdefault(note, []).append(case)
    return [
        f"{len(ids)} of {total} cases ({some_of(ids)}): {note}"
        if len(ids) > 1
        else f"case {ids[0]}: {note}"
        for note, ids in cases.items()
    ]


@dataclass(slots=True)
class Intake:
    """Whether repairs are allowed, and what was found while a file was read, each once."""

    repair: bool = False
    notes: list[Note] = field(default_factory=list)

    def note(self, found: str, done: str, repaired: bool = False) -> None:
        """Say what was put right, harmlessly if it is not `repaired`."""
        note = Note(found, done, repaired)
        if note not in self.notes:
            self.notes.append(note)

    def mend(self, error: Vol3dSegError, done: str) -> None:
        """Repair what is wrong if that is allowed, else raise `error` with this as another remedy.

        `done` says what the repair is, as "read from byte 352".
        """
        if not self.repair:
            error.remedy = f"{error.remedy}, or give --repair: it is then {done}"
            raise error
        self.note(error.found, done, repaired=True)

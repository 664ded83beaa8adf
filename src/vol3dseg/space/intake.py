"""How a file is taken in: what is harmlessly put right, and what only where repairs are allowed.

Not what the network sees, which is the recipe's: the same scan, taken in, is the same volume
whatever it is read for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vol3dseg.errors import FileFormatError, Vol3dSegError


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


def in_words(notes: Mapping[str, Sequence[Note]], repaired: bool) -> tuple[str, ...]:
    """Return notes of one kind in words, each behind what it is about: "flair: has 4 axes, ..."."""
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


def without_single_volumes(shape: tuple[int, ...], intake: Intake) -> tuple[int, ...]:
    """Return a shape without the axes of one voxel behind the third, and note that."""
    axes = len(shape)
    while axes > 3 and shape[axes - 1] == 1:
        axes -= 1
    if axes < len(shape):
        intake.note(f"has {len(shape)} axes, of which the last are single", f"read as {axes}")
    return shape[:axes]


def unfit_shape(shape: tuple[int, ...], channel: int | None, path: Path) -> FileFormatError:
    """Return the error of a file that does not hold the volume that is asked for."""
    wanted, remedy = "three axes", "choose another file"
    if channel is not None:
        wanted, remedy = f"a file of four axes with a volume {channel}", "name a volume that it has"
    elif len(shape) == 4:
        remedy = (
            f"name one of its {shape[3]} volumes, from 0, in the column <modality>_volume of a "
            "dataset table, or split the file"
        )
    return FileFormatError(f"has shape {shape}", where=path, expected=wanted, remedy=remedy)

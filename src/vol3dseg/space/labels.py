"""Labels by name, and the integers that stand for them in files and in the network."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, Strict, model_validator

from vol3dseg.errors import GridError, LabelError, some_of
from vol3dseg.schema import Count, Frozen, Name, Once, differences
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note
from vol3dseg.space.label_values import distinct, whole_numbers
from vol3dseg.space.memory_layout import in_portions

IGNORED = 255  # class index of voxels that nobody judges; no class has it
_MOST_CLASSES = 254  # besides the background
Region = Annotated[tuple[str, ...], Field(min_length=1), Once]
Value = Annotated[int, Strict(), Field(ge=-(2**31), lt=2**32)]  # in a file


class Code(NamedTuple):
    """A concept of a terminology, such as SNOMED CT (scheme SCT), in DICOM's lengths."""

    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    value: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]


class Codes(Frozen):
    """What a class is, for DICOM-SEG: an edema, of the morphologically altered structures."""

    category: Code
    type: Code


class Label(Frozen):
    """One class: its name and the integers that stand for it in files.

    Attributes
    ----------
    name : str
    read : tuple of int
        Values that mean this class, all of them.
    read_either : tuple of int
        In place of `read`: alternatives between files. A file that holds two of them is refused,
        since the two must then mean different things.
    write : int
        The value written into predictions, 0 to 255.
    codes : Codes or None
        What it is called in DICOM-SEG; None calls it tissue.
    """

    name: Name
    read: tuple[Value, ...] = Field(default=(), max_length=4096)
    read_either: tuple[Value, ...] = Field(default=(), max_length=4096)
    write: Annotated[Count, Field(le=255)]
    codes: Codes | None = None

    @model_validator(mode="after")
    def _read_in_one_way(self) -> "Label":
        if bool(self.read) == bool(self.read_either):
            raise ValueError(
                f"class {self.name!r} needs one of read (values that all mean it) and read_either "
                "(alternatives between files)"
            )
        return self

    @property
    def values(self) -> tuple[int, ...]:
        """Values in files that stand for this class."""
        return self.read + self.read_either

    @property
    def values_in_words(self) -> str:
        """The same for people: "1, 2" of values that all mean it, "4 or 3" of alternatives."""
        return (" or " if self.read_either else ", ").join(map(str, self.values))


class LabelSet(Frozen):
    """The classes of a task, in the order of the network's outputs.

    Attributes
    ----------
    classes : tuple of Label
        The first is the background: it reads 0, perhaps beside other values, and is written as 0.
    ignore : tuple of int
        Values that mean "do not judge here": such voxels count in no loss and no score.
    regions : mapping from str to tuple of str
        Unions of classes that are judged as well, such as BraTS' whole tumour.
    required : tuple of str
        Classes that a case must have to be prepared.
    """

    classes: tuple[Label, ...] = Field(min_length=2, max_length=255)
    ignore: tuple[Value, ...] = Field(default=(), max_length=4096)
    regions: dict[Name, Region] = Field(default={}, max_length=255)
    required: Annotated[tuple[str, ...], Once] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "LabelSet":
        used_once = {
            "names": self.names,
            "values to read": [*(v for c in self.classes for v in c.values), *self.ignore],
            "values to write": [label.write for label in self.classes],
        }
        for what, used in used_once.items():
            if twice := [str(each) for each, times in Counter(used).items() if times > 1]:
                raise ValueError(f"{what} are used twice: {some_of(twice)}")
        if 0 not in self.classes[0].read or self.classes[0].write != 0:
            raise ValueError(
                "the first class must be the background, with 0 among what it reads and write: 0"
            )
        named = {n for members in self.regions.values() for n in members} | set(self.required)
        if unknown := sorted(named - set(self.names)):
            raise ValueError(f"unknown classes {unknown} in regions or required")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all classes, background first."""
        return tuple(label.name for label in self.classes)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of all classes but the background."""
        return self.names[1:]

    @property
    def by_value(self) -> dict[int, int]:
        """The class index that each value in a file stands for, `IGNORED` among them."""
        classes = {v: n for n, label in enumerate(self.classes) for v in label.values}
        return classes | dict.fromkeys(self.ignore, IGNORED)

    def of_predictions(self, ours: bool) -> "LabelSet":
        """Return the labels that predictions are read by: ours hold the values to write.

        Others may hold either, if no class reads what another writes.
        """
        read = {} if ours else {label.name: label.values for label in self.classes}
        taken = {value for values in read.values() for value in values}
        classes = tuple(
            c.model_copy(
                update={
                    "read": read.get(c.name, ()) + ((c.write,) if c.write not in taken else ()),
                    "read_either": (),
                }
            )
            for c in self.classes
        )
        return self.model_copy(update={"classes": classes, "ignore": () if ours else self.ignore})

    def index(self, name: str) -> int:
        """Return the class index of `name`."""
        return self.names.index(name)

    def indices(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the class indices of `names`."""
        return tuple(map(self.index, names))

    def differences(self, other: "LabelSet", *aspects: Literal["order", "read", "regions"]) -> str:
        """Return in words how two label sets differ in what matters; empty where they do not.

        Beside the names of classes, `aspects` matter: their order, hence the class indices; the
        values that are read for each; the regions that are judged.
        """
        return differences(self._facts(aspects), other._facts(aspects))

    def _facts(self, aspects: Iterable[str]) -> dict[str, Any]:
        names = list(self.names) if "order" in aspects else sorted(self.names)
        facts: dict[str, Any] = {"classes": names}
        if "read" in aspects:
            either = {c.name: sorted(c.read_either) for c in self.classes if c.read_either}
            facts["values"] = {c.name: sorted(c.read) for c in self.classes if c.read} | either
            facts["alternatives"] = sorted(either)
            facts["ignore"] = sorted(self.ignore)
        if "regions" in aspects:
            facts["regions"] = {name: sorted(members) for name, members in self.regions.items()}
        return facts

    def encode(self, values: NDArray[np.generic], source: str) -> NDArray[np.uint8]:
        """Turn values of a file, floats too if they are whole up to 1e-3, into class indices.

        `source` is named in errors. LabelError: a value is not whole, not among the values to read,
        or a second one of alternatives.
        """
        whole = whole_numbers(values, source)
        found, table = distinct(whole), self.by_value
        unexpected = [v for v in found if v not in table]
        if unexpected:
            strangers = np.count_nonzero(np.isin(whole, unexpected))
            raise LabelError(
                f"holds label values {some_of(list(map(str, unexpected)))} ({strangers} voxels)",
                where=source,
                expected=f"the values that the config reads, {sorted(table)}",
                remedy=_hint(unexpected),
            )
        self.require_one_of_alternatives(found, source)
        result = np.zeros_like(whole, dtype=np.uint8)
        for part, place in in_portions(whole, result):
            for value in found:
                np.putmask(place, part == value, np.uint8(table[value]))
        return result

    def require_one_of_alternatives(self, found: Collection[int], source: object = "") -> None:
        """Raise LabelError where a file holds two values of which one stands for a class."""
        for label in self.classes:
            both = [v for v in label.read_either if v in found]
            if len(both) > 1:
                raise LabelError(
                    f"holds {both}, of which either is {label.name!r}",
                    where=source,
                    expected="one of them",
                    remedy="give each its own class in labels.classes (BraTS 2024 uses 4 for a "
                    "resection cavity and 3 for enhancing tumour), or give both to its `read`",
                )

    def decode(self, indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn class indices into the values to write."""
        return np.array([label.write for label in self.classes], dtype=np.uint8)[indices]


def numbered_labels(
    kind: str, numbers: Collection[int], remedy: str, where: object = ""
) -> LabelSet:
    """Return a class "kind n" for each number; `remedy` is for a file that holds too many."""
    if not 0 < len(numbers) <= _MOST_CLASSES:
        wanted = f"1 to {_MOST_CLASSES} besides the background"
        found = f"holds {len(numbers)} {kind}s"
        raise LabelError(found, where=where, expected=wanted, remedy=remedy)
    own = [
        Label(name=f"{kind} {number}", read=(number,), write=index)
        for index, number in enumerate(sorted(numbers), start=1)
    ]
    return LabelSet(classes=(Label(name="background", read=(0,), write=0), *own))


def _hint(unexpected: list[int]) -> str:
    if unexpected == [4]:
        return (
            "4 is enhancing tumour up to BraTS 2022 (use the brats2020 preset) and a resection "
            "cavity in BraTS 2024 (use the brats2024 preset)"
        )
    return "add them to `read` of the class that they mean, or to labels.ignore, or mend the file"


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A label map on its grid.

    Parameters
    ----------
    array : (i, j, k) array of uint8
        Class indices, in the order of `labels.classes`; `IGNORED` where nothing is judged.
    geometry : Geometry
    labels : LabelSet
    notes : tuple of Note
        What was found in the file and put right.
    unannotated : tuple of str
        Classes that nobody has looked for: what is background here may be one of them.

    Raises
    ------
    GridError
        The array's shape is not the geometry's.
    """

    array: NDArray[np.uint8]
    geometry: Geometry
    labels: LabelSet
    notes: tuple[Note, ...] = ()
    unannotated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            wanted = f"{self.geometry.shape}, as its grid has"
            found, remedy = f"an array of {self.array.shape}", "give the grid that it has"
            raise GridError(found, expected=wanted, remedy=remedy)

    def counts(self) -> tuple[int, ...]:
        """Return the voxels of each class, background first; those that are ignored are in none."""
        counts = np.zeros(256, dtype=np.int64)
        for (part,) in in_portions(self.array):  # the whole would be turned into eight bytes each
            if part.min() == part.max():  # most is background
                counts[part[0]] += part.size
            else:
                counts += np.bincount(part, minlength=256)
        counts[IGNORED] = 0
        last = int(counts.nonzero()[0].max(initial=-1)) + 1
        return tuple(counts[: max(last, len(self.labels.classes))].tolist())


def is_labelled(array: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where class indices are those of a foreground class."""
    return np.asarray((array > 0) & (array != IGNORED))

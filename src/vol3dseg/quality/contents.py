"""What can be read of one case, and what cannot, in words."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_segmentation
from vol3dseg.datasets.sources import SourceFile, open_label
from vol3dseg.errors import DatasetError, MissingExtraError, Vol3dSegError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note, notes_as_text
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.volume import differing_grids

Image = NDArray[np.float32]
Classes = NDArray[np.uint8]

MASK = "the mask"  # its name in messages, and among the modalities it is compared with


@dataclass(frozen=True, slots=True)
class Contents:
    """What could be read of a case."""

    geometry: Geometry | None  # of most images; of the label map where there is no image
    images: Mapping[str, Image]  # (i, j, k) arrays, all on `geometry`
    # An (i, j, k) array: 0 is background, n the class `names[n - 1]`; `IGNORED` where none counts.
    classes: Classes | None
    names: tuple[str, ...]
    problems: tuple[str, ...]  # what cannot be read, and what was repaired to be read
    notes: tuple[str, ...] = ()  # what was harmlessly put right, or passed over
    unannotated: tuple[str, ...] = ()  # classes that nobody has looked for


def read_contents(
    case: Case,
    modalities: tuple[str, ...],
    labels: LabelSet | None,
    optional: Collection[str] = (),
) -> Contents:
    """Read what can be read of a case; what cannot is said in words.

    `modalities` are those that it should have, but for `optional` ones. Without `labels`, classes
    are named by their values, or the numbers of their segments.
    """
    problems: list[str] = []
    notes: dict[str, Sequence[Note]] = {}
    wanted = tuple(name for name in modalities if name in case.images or name not in optional)
    found = _read_images(case, wanted, problems, notes)
    grids = [grid for _, grid in found.values()]
    # The grid that most others fit; the first of equals.
    geometry = max(grids, key=lambda g: sum(g.fits(other) for other in grids), default=None)
    images = {n: array for n, (array, grid) in found.items() if geometry and geometry.fits(grid)}
    if geometry is not None:
        elsewhere = {name: found[name][1] for name in found if name not in images}
        compared = {next(iter(images)): geometry, **elsewhere}
        problems += [e.recorded for e in differing_grids(compared, f"case {case.id}", case.files)]
    if case.label is not None:
        with _noting(problems):
            if geometry is None:
                mask = open_label(case).segmentation(labels, None)
            else:
                mask = read_segmentation(case.select(images), labels, geometry)
            problems += _repairs(mask.notes, case.label)
            said = notes_as_text({**notes, "label": mask.notes}, repaired=False)
            # An empty map has no values to name its classes by.
            names = mask.labels.foreground if labels or mask.array.any() else ()
            found_wrong, unannotated = tuple(problems), mask.unannotated
            return Contents(
                mask.geometry, images, mask.array, names, found_wrong, said, unannotated
            )
    said = notes_as_text(notes, repaired=False)
    return Contents(geometry, images, None, (), tuple(problems), said)


def _read_images(
    case: Case,
    modalities: tuple[str, ...],
    problems: list[str],
    notes: dict[str, Sequence[Note]],
) -> dict[str, tuple[Image, Geometry]]:
    found: dict[str, tuple[Image, Geometry]] = {}
    if not case.images:
        there = f"no image; found {case.label.name if case.label else 'nothing'}"
        error = DatasetError(there, where=f"case {case.id}", remedy="add the scans")
        problems.append(error.recorded)
    file: SourceFile | None = None
    for name in modalities if case.images else ():
        with _noting(problems):
            source = case.select([name]).images[name]
            if file is None or file.opened != source.opened:
                file = None  # let go of it before the next is unpacked
                file = SourceFile(source, case.repair)
            found[name] = file.read(source)[:2]
            notes[name] = file.notes
            problems += _repairs(file.notes, source.path)
    return found


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Put an error of ours among the problems, once."""
    try:
        yield
    except MissingExtraError:  # is nothing about this case
        raise
    except Vol3dSegError as error:
        # A damaged file that should hold several modalities is one problem.
        if error.recorded not in problems:
            problems.append(error.recorded)


def _repairs(notes: Iterable[Note], path: Path) -> list[str]:
    return [f"{path}: {note} (repaired)" for note in notes if note.repaired]

"""Images of one or several modalities on one grid."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import GridError
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.intake import Note

RESAMPLE = (
    "bring {other} onto that of {first} with yes in the column {other}_resample of a dataset "
    "table, or mend the header"
)


@dataclass(frozen=True, slots=True)
class Volume:
    """A multimodal image on its grid.

    Parameters
    ----------
    array : (i, j, k, c) array of float32
    geometry : Geometry
    modalities : (c,) tuple of str
        What each channel is.
    replaced : mapping from modality to int
        How many voxels were NaN or infinite and were replaced, where that was asked for and there
        were any.
    notes : mapping from modality to tuple of Note
        What was found in files and put right; on a file of several, under the first of them.

    Raises
    ------
    GridError
        The array's shape is not what geometry and modalities say.
    """

    array: NDArray[np.float32]
    geometry: Geometry
    modalities: tuple[str, ...]
    replaced: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, tuple[Note, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (*self.geometry.shape, len(self.modalities))
        if self.array.shape != expected:
            found, wanted = f"an array of {self.array.shape}", f"{expected} (i, j, k, c)"
            remedy = "give the grid and the modalities that it has"
            raise GridError(found, expected=wanted, remedy=remedy)

    @classmethod
    def stack(cls, images: dict[str, tuple[NDArray[np.float32], Geometry]]) -> "Volume":
        """Join images of one modality each.

        The channels lie one after the other in memory, so that `array[..., c]` is contiguous.

        Parameters
        ----------
        images : mapping from modality to ((i, j, k) array of float32, Geometry)

        Raises
        ------
        GridError
            The images lie on different grids.
        """
        geometry = one_grid({name: grid for name, (_, grid) in images.items()})
        arrays = [array for array, _ in images.values()]
        channels = arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
        return cls(np.moveaxis(channels, 0, -1), geometry, tuple(images))


def one_grid(
    grids: Mapping[str, Geometry],
    where: object = "",
    files: Mapping[str, object] | None = None,
    remedy: str = RESAMPLE,
) -> Geometry:
    """Return the grid that all lie on, the first one; raise the first of `differing_grids`."""
    for error in differing_grids(grids, where, files, remedy):
        raise error
    return next(iter(grids.values()))


def differing_grids(
    grids: Mapping[str, Geometry],
    where: object = "",
    files: Mapping[str, object] | None = None,
    remedy: str = RESAMPLE,
) -> Iterator[GridError]:
    """Give an error for each that lies on another grid than the first.

    `where` is the case; `files` says "path has ..." instead of "name has ..."; `remedy` may name
    the two: "{first}" and "{other}".
    """
    files = files or {}
    (first, grid), *others = grids.items()
    for name, other in others:
        if not grid.fits(other):
            yield GridError(
                f"{first} and {name} lie on different grids: {files.get(first, first)} has "
                f"{grid.placed()}, {files.get(name, name)} has {other.placed()}",
                where=where,
                expected="one grid",
                remedy=remedy.format(first=first, other=name),
            )

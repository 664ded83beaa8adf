"""What a step of post-processing would move in a confusion matrix, for each component or hole.

Found once for a case, this tells the scores after any choice of components, without labelling
anything anew.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.model.components import components, crop_to, holes, not_largest, smaller
from vol3dseg.model.postprocessing import FillHoles, KeepLargest, Step
from vol3dseg.space.labels import IGNORED

Kind = Literal["components", "holes"]
Matrix = NDArray[np.int64]
_CLASSES = 256


@dataclass(frozen=True, slots=True)
class Moves:
    """The components of a structure, or the background in its holes, as counts of voxels.

    Rows of `component`, `reference`, `predicted` and `voxels` say how many voxels of a component
    are of a class in each map; what nobody judges is in none.
    """

    sizes: NDArray[np.int64]  # of all components, ignored voxels included; that of none is first
    component: NDArray[np.int64]
    reference: NDArray[np.int64]
    predicted: NDArray[np.int64]
    voxels: NDArray[np.int64]

    def applied(self, matrix: Matrix, chosen: NDArray[np.bool_], becomes: int) -> Matrix:
        """Return the matrix of `confusion` after the chosen components have become a class."""
        rows = chosen[self.component]
        reference, voxels = self.reference[rows], self.voxels[rows]
        moved = matrix.copy()
        np.subtract.at(moved, (reference, self.predicted[rows]), voxels)
        np.add.at(moved, (reference, np.full_like(reference, becomes)), voxels)
        return moved

    def chosen_by(self, step: Step, voxel_ml: float) -> NDArray[np.bool_]:
        """Return which components a step changes."""
        if isinstance(step, FillHoles):
            every = np.ones(self.sizes.size, dtype=np.bool_)
            every[0] = False
            return every
        if self.sizes.size == 1:
            return np.zeros(1, dtype=np.bool_)
        if isinstance(step, KeepLargest):
            return not_largest(self.sizes)
        return smaller(self.sizes, voxel_ml, step.volume_ml)

    def false_sizes(self, members: tuple[int, ...]) -> NDArray[np.int64]:
        """Return the sizes of the components in which the reference has nothing of a structure."""
        true = np.zeros(self.sizes.size, dtype=np.bool_)
        true[self.component[np.isin(self.reference, members)]] = True
        true[0] = True
        return self.sizes[~true]


def moves_of(
    kind: Kind,
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    members: tuple[int, ...],
) -> Moves:
    """Return what can be moved of the structure that some classes of a prediction make."""
    found = crop_to(prediction, members)
    if found is None:
        nothing = np.zeros(0, dtype=np.int64)
        return Moves(np.zeros(1, dtype=np.int64), nothing, nothing, nothing, nothing)
    box, mask = found
    if kind == "components":
        numbers, sizes = components(mask)
    else:
        numbers, enclosed = holes(mask)
        sizes = enclosed.astype(np.int64)
    keys, voxels = [], []
    maps = (numbers, reference[box.slices], prediction[box.slices])
    for plane, truth, label in zip(*maps, strict=True):
        inside = (plane > 0) & (truth != IGNORED)
        if kind == "holes":
            inside &= enclosed[plane] & (label == 0)
        row = plane[inside].astype(np.int64) * _CLASSES + truth[inside]
        of_plane, counts = np.unique(row * _CLASSES + label[inside], return_counts=True)
        keys.append(of_plane)
        voxels.append(counts)
    every, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.bincount(place, np.concatenate(voxels), minlength=every.size).astype(np.int64)
    rest, predicted = np.divmod(every, _CLASSES)
    component, classes = np.divmod(rest, _CLASSES)
    return Moves(sizes, component, classes, predicted, total)

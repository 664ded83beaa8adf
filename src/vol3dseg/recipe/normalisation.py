"""What every normalisation can do: run, and write itself into an ONNX graph."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vol3dseg.schema import Frozen
from vol3dseg.space.box import Box
from vol3dseg.space.memory_layout import copy_voxels, in_portions

if TYPE_CHECKING:
    from vol3dseg.recipe.graph_values import Value

Image: TypeAlias = NDArray[np.float32]
# Normalises voxels of one image, one by one; they may have any shape.
Scale = Callable[[Image], Image]


class NormalisationStep(Frozen):
    """Base of normalisations: a file with a subclass, and a line in the union of `definition`."""

    @property
    @abstractmethod
    def ignores_zeros(self) -> bool:
        """Whether an image may be cropped to what is not zero first, without any other result."""

    @abstractmethod
    def fitted(self, image: Image) -> Scale:
        """Return what normalises this (i, j, k) image."""

    @abstractmethod
    def write(self, fitted: "Value", image: "Value") -> "Value":
        """Append `fitted` to a graph: normalise `image` as an image of which it is a part."""

    @abstractmethod
    def example(self, normalised: Image) -> Image:
        """Return raw intensities that come out much like `normalised`, for proofs of graphs."""

    def apply(self, box: Box, image: Image, target: Image) -> None:
        """Put the part of an image inside `box` into `target`, normalised as the whole image is."""
        copy_voxels(target, image[box.slices])
        scale = self.fitted(target if self.ignores_zeros else image)
        for (voxels,) in in_portions(target):
            voxels[:] = scale(voxels)

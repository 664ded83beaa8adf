"""How far an adopted model's labels agree with those of the framework that it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.evaluation.overlap import DICE, confusion, counts_of
from vol3dseg.inference.prediction import Prediction
from vol3dseg.inference.predictor import Predictor
from vol3dseg.model.adopted import Proof, most_differing
from vol3dseg.model.provenance import installed_versions
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.volume import Volume

_MOST_PROBABILITIES = 2**28  # numbers
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino", "numpy")


@dataclass(slots=True)
class Agreement:
    """What has been counted of a model with these labels, case after case."""

    labels: LabelSet
    differing_of: dict[str, int] = field(default_factory=dict)  # voxels, by case
    apart: float | None = None  # the largest difference of probabilities; None where none is known
    _matrix: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._matrix = np.zeros((len(self.labels.classes),) * 2, dtype=np.int64)

    def count(self, case: str, theirs: NDArray[np.uint8], ours: NDArray[np.uint8]) -> str:
        """Count the class indices of a case; returns what there is to tell."""
        matrix = confusion(theirs, ours, len(self._matrix))
        self._matrix += matrix
        self.differing_of[case] = int(matrix.sum() - matrix.trace())
        return f"case {case}: {differ(self.differing_of[case], theirs.size)}"

    def saw_apart(self, difference: float) -> None:
        """Take note of a difference of probabilities."""
        self.apart = max(self.apart or 0.0, min(1.0, difference))

    @property
    def voxels(self) -> int:
        """Of all cases."""
        return int(self._matrix.sum())

    @property
    def differing(self) -> int:
        """Voxels with another label, of all cases."""
        return sum(self.differing_of.values())

    @property
    def enough(self) -> bool:
        """Whether no more differ than rounding explains."""
        return self.differing <= self.most

    @property
    def most(self) -> int:
        """How many may differ."""
        return most_differing(self.voxels)

    @property
    def worst(self) -> str:
        """The case of which most differ."""
        return max(self.differing_of, key=lambda case: self.differing_of[case])

    def proof(
        self,
        predictor: Predictor,
        framework: str,
        packages: Sequence[str],
        against: Literal["label maps", "run"] = "run",
    ) -> Proof:
        """Return what the manifest says of it; `packages` are those of the framework."""
        return Proof(
            against=against,
            framework=framework,
            cases=len(self.differing_of),
            voxels=self.voxels,
            differing=self.differing,
            dice=self._dice(),
            max_abs_difference=self.apart,
            mirror=predictor.manifest.tiling.mirror,
            provider=predictor.origin.provider,
            versions=installed_versions(*packages, *_RUNTIMES),
        )

    def _dice(self) -> dict[str, float | None]:
        members = {name: self.labels.indices([name]) for name in self.labels.foreground}
        members |= {name: self.labels.indices(of) for name, of in self.labels.regions.items()}
        found = {name: DICE(counts_of(self._matrix, of)) for name, of in members.items()}
        return {name: None if isnan(value) else value for name, value in found.items()}


def predicted(predictor: Predictor, volume: Volume, with_probabilities: bool = True) -> Prediction:
    """Return what a model gives; probabilities only where they are not too many to be held."""
    numbers = volume.array[..., 0].size * len(predictor.manifest.outputs.channels)
    return predictor(volume, with_probabilities and numbers <= _MOST_PROBABILITIES)


def differ(differing: int, voxels: int) -> str:
    """Say how many voxels differ."""
    return f"{differing} of {voxels} voxels differ"


def largest_difference(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Return how far two arrays of one shape are apart."""
    return float(np.abs(ours.astype(np.float32) - theirs).max(initial=0))

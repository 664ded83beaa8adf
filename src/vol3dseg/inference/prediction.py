"""What comes of a scan, and which predictor it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference.tiling.tile_plan import Plan
from vol3dseg.inference.uncertainty import Uncertainty
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.postprocessing import Change
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Segmentation


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result of a predictor for one scan.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of the scan, after post-processing.
    probabilities : (i, j, k, channel) array of float32, or None
        On the grid of the scan, where they were asked for; channels as `manifest.outputs` has them.
        They are what the network says: post-processing changes labels alone.
    uncertainty : mapping from measure to (i, j, k) array of float32
        Where it was asked for [nat], 0 where the network did not look. "entropy" is Shannon's of
        the probabilities (1948), of independent regions the sum of the binary ones;
        "mutual_information" of several networks is the entropy of the mean of their probabilities
        minus the mean of their entropies (Smith and Gal 2018).
    plan : Plan
        How the network was run.
    planned_mb : float or None
        Peak memory of the process that was expected of it [MB]; None where that is not known.
    seconds : mapping from stage to float
        Time of "infer" and "restore", and of "postprocess" if there is any [s]; of "prepare" too,
        where a `Volume` was given.
    warnings : tuple of str
        In which ways the scan differs from the training data; where a `Volume` was given.
    changes : tuple of Change
        What each step of post-processing has changed.
    """

    segmentation: Segmentation
    probabilities: NDArray[np.float32] | None
    plan: Plan
    planned_mb: float | None
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    uncertainty: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a predictor comes from, for records."""

    name: str = ""  # of the model's file, without its suffix
    sha256: str = ""  # of the file
    provider: str = ""  # runtime, device and precision
    trusted_by: str = ""  # the SHA-256 of the key that signed the model, where that was asked for


def background(
    source: Geometry,
    manifest: Manifest,
    plan: Plan,
    keep_probabilities: bool,
    uncertainty: Uncertainty,
) -> Prediction:
    """Return the result of a scan in which there is nothing, as sure as can be."""
    labels = np.zeros(source.shape, np.uint8)
    probabilities = None
    if keep_probabilities:
        outputs = manifest.outputs
        probabilities = np.zeros((*source.shape, len(outputs.channels)), np.float32)
        if outputs.kind == "softmax":
            probabilities[..., 0] = 1
    segmentation = Segmentation(labels, source, manifest.labels)
    sure = {name: np.zeros(source.shape, np.float32) for name in uncertainty.names}
    seconds = {"infer": 0.0, "restore": 0.0}
    return Prediction(segmentation, probabilities, plan, None, seconds, uncertainty=sure)

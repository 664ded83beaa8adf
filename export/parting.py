"""At which step a deployed model and the framework that trained it part, where labels differ."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.export.agreement import largest_difference
from vol3dseg.inference.predictor import Predictor
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.space.volume import Volume

_IMAGE = 1e-4  # largest difference of a prepared voxel, as a share of the largest
_NETWORK = 1e-3  # of logits, likewise

Array = NDArray[Any]


def step_where_they_part(
    predictor: Predictor, volume: Volume, theirs: Callable[[str], Array], sure: float
) -> str:
    """Return in words the first step whose results differ by more than rounding explains.

    Parameters
    ----------
    predictor : Predictor
    volume : Volume
        The scan as read.
    theirs : callable
        Gives what the framework had by then: "image", the prepared scan; "patch", a part of it;
        "patch_logits", what the network gives of that; "logits", of the whole. All are (channel, i,
        j, k), with channels in the order of the model.
    sure : float
        Difference of probabilities beyond that of sums over tiles.
    """
    prepared = prepare(volume, predictor.manifest.recipe).volume
    own, image = np.moveaxis(prepared.array, -1, 0), theirs("image")
    if own.shape != image.shape:
        return f"in the prepared image, of {own.shape[1:]} voxels and not {image.shape[1:]}"
    if (apart := largest_difference(own, image)) > _IMAGE * _largest(image):
        return f"in the prepared image, by up to {apart:.2g}"
    given, logits = _outputs(predictor, theirs("patch")), theirs("patch_logits")
    if (apart := largest_difference(given, logits)) > _NETWORK * _largest(logits):
        return f"in the network, by up to {apart:.2g} in a logit"
    there = prepared.geometry  # as if the scan lay on the grid that the network sees
    found = predictor.segment(prepared, there, keep_probabilities=True).probabilities
    blended = theirs("logits").astype(np.float32)
    predictor.manifest.outputs.make_probabilities(blended)
    ours = np.empty_like(blended) if found is None else np.moveaxis(found, -1, 0)
    if (apart := largest_difference(ours, blended)) > sure:
        return f"in the blending of tiles, by up to {apart:.2g} in probability"
    return "in resampling to the grid of the scan, or in the choice of the label"


def _largest(values: Array) -> float:
    return max(1.0, float(np.abs(values).max()))


def _outputs(predictor: Predictor, patch: Array) -> Array:
    """Return the (channel, i, j, k) outputs of a patch; of several networks, their mean."""
    given, head = predictor.backend(np.ascontiguousarray(patch[None]))[0], predictor.head
    apart = predictor.manifest.tiling.members_apart
    if head is not None:
        given = np.concatenate([head.apply(given, group) for group in head.groups(head.outputs)])
    return np.asarray(given.reshape(apart, -1, *given.shape[1:]).mean(axis=0))

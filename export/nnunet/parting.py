"""At which step a deployed model and nnU-Net part, where their labels differ: stage by stage."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.export.agreement import largest_difference
from vol3dseg.export.nnunet.own_run import OwnResults
from vol3dseg.export.nnunet.plans import Plans
from vol3dseg.inference.predictor import Predictor
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.space.volume import Volume

_IMAGE = 1e-3  # largest difference of a prepared voxel, in deviations
_NETWORK = 1e-3  # of logits, as a share of the largest
_SURE = 0.05  # of probabilities, which float16 sums change by less

Array = NDArray[Any]


def step_where_they_part(
    predictor: Predictor, volume: Volume, theirs: OwnResults, case: str, plans: Plans
) -> str:
    """Return in words the first step whose results differ by more than rounding explains."""
    prepared = prepare(volume, predictor.manifest.recipe)
    own = np.moveaxis(prepared.volume.array, -1, 0)
    image = _along_file(theirs.array(case, "image"), plans)
    if own.shape != image.shape:
        return f"in the prepared image, of {own.shape[1:]} voxels and not {image.shape[1:]}"
    if (apart := largest_difference(own, image)) > _IMAGE:
        return f"in the prepared image, by up to {apart:.2g}"
    patch, logits = (_along_file(theirs.array(case, n), plans) for n in ("patch", "patch_logits"))
    given = _outputs(predictor, np.ascontiguousarray(patch[None]))
    if (apart := largest_difference(given, logits)) > _NETWORK * max(
        1.0, float(np.abs(logits).max())
    ):
        return f"in the network, by up to {apart:.2g} in a logit"
    there = prepared.volume.geometry  # as if the scan lay on the grid that the network sees
    found = predictor.segment(prepared.volume, there, keep_probabilities=True).probabilities
    blended = _along_file(theirs.array(case, "logits"), plans).astype(np.float32)
    predictor.manifest.outputs.make_probabilities(blended)
    ours = np.empty_like(blended) if found is None else np.moveaxis(found, -1, 0)
    if (apart := largest_difference(ours, blended)) > _SURE:
        return f"in the blending of tiles, by up to {apart:.2g} in probability"
    return "in resampling to the grid of the scan, or in the choice of the largest"


def _outputs(predictor: Predictor, patch: Array) -> Array:
    """Return the (channel, i, j, k) outputs of a patch; of several networks, their mean."""
    given, head = predictor.backend(patch)[0], predictor.head
    apart = predictor.manifest.tiling.members_apart
    if head is not None:
        given = np.concatenate([head.apply(given, group) for group in head.groups(head.outputs)])
    return np.asarray(given.reshape(apart, -1, *given.shape[1:]).mean(axis=0))


def _along_file(array: Array, plans: Plans) -> Array:
    """Bring (channel, ...) from the network's axes to i, j, k."""
    return array.transpose(0, *plans.along_file((1, 2, 3)))

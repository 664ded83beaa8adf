"""The proof that an adopted model gives the labels that MONAI gives, on whole scans.

Both compute in float32, so that only voxels between two classes may fall to either. Beyond a few in
a million nothing is written, and the step is named where the two part.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.selection import gather_cases
from vol3dseg.errors import DatasetError, ParityError
from vol3dseg.export.agreement import Agreement, differ, largest_difference
from vol3dseg.export.monai.monai_run import FRAMEWORK, OwnModel, OwnResults, monai_says
from vol3dseg.inference.predictor import Prediction, Predictor
from vol3dseg.model.adopted import Proof
from vol3dseg.model.outputs import bring
from vol3dseg.model.replay_case import ReplayCase, cropped, pack, small_part
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.space.box import Box
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

_SUFFIXES = (".nii.gz", ".nii")  # whose axes and places MONAI reads as we do
_PACKAGES = ("monai", "torch")
_IMAGE = 1e-4  # largest difference of a prepared voxel, as a share of the largest
_NETWORK = 1e-3  # of logits, likewise
_BLENDED = 1e-2  # of probabilities
Array = NDArray[Any]


def prove(
    predictor: Predictor,
    inputs: Sequence[Path],
    own: OwnModel,
    keep: bool,
    tell: Callable[[str], None],
) -> tuple[Proof, ReplayCase | None]:
    """Compare with MONAI on all cases.

    Raises
    ------
    ParityError
        More labels differ than rounding explains.
    DatasetError
        There are no such cases, or none that MONAI can read itself.
    ModelError
        MONAI fails.
    """
    manifest = predictor.manifest
    cases = gather_cases(inputs, manifest.recipe.modalities, numbered=True)
    agreement, replay = Agreement(manifest.labels), None
    with monai_says(own, {case.id: _files(case, predictor) for case in cases}) as results:
        for case in cases:
            volume = read_volume(case, manifest.recipe.modalities)
            theirs = _labels(results.array(case.id, "result"), predictor, own)
            ours = predictor(volume, keep_probabilities=True)
            if theirs.shape != ours.segmentation.array.shape:
                where = f"{theirs.shape} voxels, not those of the scan"
                raise ParityError(f"not written: MONAI's labels of {case.id} have {where}")
            tell(agreement.count(case.id, theirs, ours.segmentation.array))
            values = results.array(case.id, "values")
            agreement.saw_apart(_apart(ours, values, predictor, own))
            if keep and replay is None:
                replay = _packed(predictor, volume, theirs)
        if not agreement.enough:
            worst = next(case for case in cases if case.id == agreement.worst)
            step = _step_where_they_part(predictor, worst, results, own)
            found = differ(agreement.differing, agreement.voxels)
            raise ParityError(
                f"not written: {found} from {FRAMEWORK}'s; they part at {step}",
                expected=f"at most {agreement.most}",
                remedy="please report it with the bundle's configs",
            )
    return agreement.proof(predictor, FRAMEWORK, _PACKAGES), replay


def _files(case: Case, predictor: Predictor) -> list[Path]:
    """Return the files of a case that MONAI can read, in order of the channels."""
    names = predictor.manifest.recipe.modalities
    sources = [case.select(names).images[name] for name in names]
    paths = list(dict.fromkeys(source.path for source in sources))
    whole = len(paths) == 1 and [source.channel for source in sources] == list(range(len(names)))
    apart = len(paths) == len(names) and all(source.channel is None for source in sources)
    strange = [path for path in paths if not path.name.endswith(_SUFFIXES)]
    if strange or not (whole or apart):
        raise DatasetError(
            "is not what can be compared with MONAI",
            where=(strange or paths)[0],
            expected="NIfTI: a file for each channel, or all channels of one file in their order",
            remedy="convert it",
        )
    return paths


def _labels(result: Array, predictor: Predictor, own: OwnModel) -> NDArray[np.uint8]:
    """Return MONAI's result as class indices; regions are painted in our order."""
    manifest = predictor.manifest
    found = np.zeros(result.shape[1:], dtype=np.uint8)
    if manifest.outputs.kind == "softmax":
        found[:] = result[0]
        return found
    for region, channel in zip(manifest.outputs.regions, own.order, strict=True):
        found[result[channel] > 0] = manifest.labels.index(region.paints)
    return found


def _apart(found: Prediction, values: Array, predictor: Predictor, own: OwnModel) -> float:
    """Return the largest difference of probabilities, where MONAI has any on the scan's grid."""
    outputs, ours = predictor.manifest.outputs, found.probabilities
    if ours is None or values.shape[1:] != ours.shape[:3]:
        return 0.0
    theirs = values[list(own.order)].astype(np.float32)
    known = theirs.any(axis=0)  # not cropped
    if outputs.brought == "values":
        outputs.make_probabilities(theirs)
    return float(np.abs(np.moveaxis(ours, -1, 0) - theirs)[:, known].max(initial=0))


def _packed(predictor: Predictor, volume: Volume, theirs: NDArray[np.uint8]) -> ReplayCase:
    """Return a case, or the part of it that is small enough, with the labels that must come."""
    said = Segmentation(theirs, volume.geometry, predictor.manifest.labels)
    box = small_part(volume, said)
    if box == Box.whole(volume.geometry.shape):
        return pack(volume, said, "framework")
    part = cropped(volume, box)
    return pack(part, predictor(part).segmentation, "vol3dseg")


def _step_where_they_part(
    predictor: Predictor, case: Case, results: OwnResults, own: OwnModel
) -> str:
    """Return in words the first step whose results differ by more than rounding."""
    manifest, order = predictor.manifest, list(own.order)
    prepared = prepare(read_volume(case, manifest.recipe.modalities), manifest.recipe).volume
    image, ours = results.array(case.id, "image"), np.moveaxis(prepared.array, -1, 0)
    if ours.shape != image.shape:
        return f"the prepared image: {ours.shape[1:]} voxels here, {image.shape[1:]} in MONAI"
    if (apart := largest_difference(ours, image)) > _IMAGE * max(1.0, float(np.abs(image).max())):
        return f"the prepared image, by up to {apart:.2g}"
    logits = results.array(case.id, "patch_logits")[order]
    given = predictor.backend(results.array(case.id, "patch")[None])[0]
    if (apart := largest_difference(given, logits)) > _NETWORK * max(
        1.0, float(np.abs(logits).max())
    ):
        return f"the network, by up to {apart:.2g} in a logit"
    found = predictor.segment(prepared, prepared.geometry, keep_probabilities=True).probabilities
    blended = results.array(case.id, "logits")[order].astype(np.float32)
    bring(manifest.outputs, blended)
    if manifest.outputs.brought == "values":
        manifest.outputs.make_probabilities(blended)
    if (
        found is not None
        and (apart := largest_difference(np.moveaxis(found, -1, 0), blended)) > _BLENDED
    ):
        return f"the blending of tiles, by up to {apart:.2g} in probability"
    return "the way to the grid of the scan, or the choice of the class"

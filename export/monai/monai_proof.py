"""The proof that an adopted model gives the labels that MONAI gives, on whole scans.

Both compute in float32, so that only voxels between two classes may fall to either. Beyond a few in
a million nothing is written, and the step is named where the two part.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.selection import gather_cases
from vol3dseg.errors import DatasetError, ParityError
from vol3dseg.export.agreement import Agreement, differ, predicted
from vol3dseg.export.kept_case import Smallest, files_of
from vol3dseg.export.monai.monai_run import FRAMEWORK, OwnModel, OwnResults, monai_says
from vol3dseg.export.parting import step_where_they_part
from vol3dseg.inference.prediction import Prediction
from vol3dseg.inference.predictor import Predictor
from vol3dseg.model.adopted import Proof
from vol3dseg.model.replay_case import ReplayCase
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

_SUFFIXES = (".nii.gz", ".nii")  # whose axes and places MONAI reads as we do
_PACKAGES = ("monai", "torch")
_SURE = 1e-2  # of probabilities, which sums over tiles change by less
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
    agreement, small = Agreement(manifest.labels), Smallest()
    with monai_says(own, {case.id: _files(case, predictor) for case in cases}) as results:
        for case in cases:
            volume = read_volume(case, manifest.recipe.modalities)
            theirs = _labels(results.array(case.id, "result"), predictor, own)
            ours = predicted(predictor, volume)
            if theirs.shape != ours.segmentation.array.shape:
                where = f"{theirs.shape} voxels, not those of the scan"
                raise ParityError(f"not written: MONAI's labels of {case.id} have {where}")
            tell(agreement.count(case.id, theirs, ours.segmentation.array))
            values = results.array(case.id, "values")
            if (apart := _apart(ours, values, predictor, own)) is not None:
                agreement.saw_apart(apart)
            small.offer(volume, Segmentation(theirs, volume.geometry, manifest.labels))
        if not agreement.enough:
            worst = next(case for case in cases if case.id == agreement.worst)
            volume = read_volume(worst, manifest.recipe.modalities)
            theirs_at = partial(_in_order, results, worst.id, own)
            step = step_where_they_part(predictor, volume, theirs_at, _SURE)
            found = differ(agreement.differing, agreement.voxels)
            raise ParityError(
                f"not written: {found} from {FRAMEWORK}'s, and first {step}",
                expected=f"at most {agreement.most}",
                remedy="please report it with the bundle's configs",
            )
    ask = partial(_said_of, predictor=predictor, own=own)
    replay = small.packed(predictor, ask) if keep else None
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


def _apart(found: Prediction, values: Array, predictor: Predictor, own: OwnModel) -> float | None:
    """Return the largest difference of probabilities, if MONAI has any on the scan's grid."""
    outputs, ours = predictor.manifest.outputs, found.probabilities
    if ours is None or values.shape[1:] != ours.shape[:3]:
        return None
    theirs = values[list(own.order)].astype(np.float32)
    known = theirs.any(axis=0)  # what was cropped is 0, or by softmax one number for all channels
    known &= (theirs.min(axis=0) < theirs.max(axis=0)) | (len(theirs) == 1)
    if not any(each.name == "Activations" for each in own.after):
        outputs.make_probabilities(theirs)
    return float(np.abs(np.moveaxis(ours, -1, 0) - theirs)[:, known].max(initial=0))


def _said_of(part: Volume, predictor: Predictor, own: OwnModel) -> Segmentation:
    """Return MONAI's labels of a part of a scan, as a scan of its own."""
    with files_of(part) as files, monai_says(own, {"part": files}) as results:
        found = _labels(results.array("part", "result"), predictor, own)
    return Segmentation(found, part.geometry, predictor.manifest.labels)


def _in_order(results: OwnResults, case: str, own: OwnModel, stage: str) -> Array:
    """Return a stage of a case with channels in our order."""
    found = results.array(case, stage)
    return found[list(own.order)] if "logits" in stage else found

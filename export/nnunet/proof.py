"""The proof that an adopted model gives the labels that nnU-Net gives, on whole scans.

nnU-Net sums logits in float16, so that voxels between two classes may fall to either: a few in a
million differ, and no more may. Beyond that nothing is written, and the step is named where the two
part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.selection import gather_cases, label_files
from vol3dseg.errors import DatasetError, ParityError, some_of
from vol3dseg.export.agreement import Agreement, differ, largest_difference, predicted
from vol3dseg.export.kept_case import Smallest, files_of
from vol3dseg.export.nnunet.model_folder import ModelFolder
from vol3dseg.export.nnunet.own_run import OwnResults, along_file, nnunet_says
from vol3dseg.export.nnunet.plans import Plans
from vol3dseg.export.parting import step_where_they_part
from vol3dseg.formats import read_labels
from vol3dseg.inference.prediction import Prediction
from vol3dseg.inference.predictor import Predictor
from vol3dseg.model.adopted import Proof, most_differing
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.replay_case import ReplayCase
from vol3dseg.space.labels import LabelSet, Segmentation
from vol3dseg.space.resampling import reoriented
from vol3dseg.space.volume import Volume

FRAMEWORK = "nnU-Net"
_SURE = 0.05  # of probabilities, which float16 sums change by less
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
_PACKAGES = ("nnunetv2", "torch")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a model is proven on.

    Parameters
    ----------
    cases : sequence of Path
        What `vol3dseg predict` takes.
    against : Path or None
        Label maps that nnU-Net has written of them; None runs nnU-Net.
    keep : bool
        Whether a small part of a case goes into the model file, to be replayed elsewhere.
    """

    cases: Sequence[Path]
    against: Path | None = None
    keep: bool = True


def prove(
    predictor: Predictor, evidence: Evidence, folder: ModelFolder, plans: Plans, tell: Tell
) -> tuple[Proof, ReplayCase | None]:
    """Compare with nnU-Net on all cases.

    Raises
    ------
    ParityError
        More labels differ than rounding explains.
    DatasetError
        There are no such cases, or no label maps of theirs.
    ModelError, MissingExtraError
        nnU-Net fails, or is not installed.
    """
    manifest = predictor.manifest
    cases = gather_cases(evidence.cases, manifest.recipe.modalities, numbered=True)
    with _their_labels(cases, evidence, folder, manifest) as (labels, own):
        found, small = Agreement(manifest.labels), Smallest()
        for case in cases:
            volume = read_volume(case, manifest.recipe.modalities)
            theirs = _theirs(labels[case.id], volume, manifest.labels)
            ours = predicted(predictor, volume, own is not None)
            tell(found.count(case.id, theirs.array, ours.segmentation.array))
            if own is not None and ours.probabilities is not None:
                probabilities = own.array(case.id, "probabilities")
                found.saw_apart(_apart(ours, probabilities, manifest, volume))
            small.offer(volume, theirs)
        if not found.enough:
            case = next(each for each in cases if each.id == found.worst)
            step, remedy = _parting(predictor, case, own, labels[case.id], folder, plans)
            raise ParityError(
                f"not written: {differ(found.differing, found.voxels)} from {FRAMEWORK}'s, {step}",
                where=folder.path,
                expected=f"at most {found.most}",
                remedy=remedy,
            )
        ask = partial(_said_of, manifest=manifest, folder=folder) if own is not None else None
        replay = small.packed(predictor, ask) if evidence.keep else None
    against: Literal["label maps", "run"] = "label maps" if evidence.against else "run"
    return found.proof(predictor, FRAMEWORK, _PACKAGES, against), replay


def _theirs(file: Path, volume: Volume, labels: LabelSet) -> Segmentation:
    """Return nnU-Net's label map of a scan, which must lie on its grid."""
    theirs = read_labels(file, labels.of_predictions(ours=True))
    if not volume.geometry.fits(theirs.geometry):
        raise DatasetError(
            f"lies on {theirs.geometry}",
            where=file,
            expected=f"the grid of the scan, {volume.geometry}",
            remedy="give the label maps that nnU-Net wrote of these very cases",
        )
    return theirs


@contextmanager
def _their_labels(
    cases: Sequence[Case], evidence: Evidence, folder: ModelFolder, manifest: Manifest
) -> Iterator[tuple[Mapping[str, Path], OwnResults | None]]:
    """Give the label maps of nnU-Net by case, and what else it has written."""
    if evidence.against is not None:
        labels = label_files(evidence.against)
        if lacking := [case.id for case in cases if case.id not in labels]:
            raise DatasetError(
                f"has no label map of {some_of(lacking)}",
                where=evidence.against,
                expected="<id>.nii.gz of each case, as nnUNetv2_predict writes them",
                remedy="give the cases that it was run on",
            )
        yield labels, None
        return
    mirror, files = bool(manifest.tiling.mirror), {c.id: _files(c, manifest) for c in cases}
    with nnunet_says(folder, files, mirror) as own:
        yield {case.id: own.labels(case.id) for case in cases}, own


def _files(case: Case, manifest: Manifest) -> list[Path]:
    """Return the files of a case that nnU-Net can read, in order of the channels."""
    sources = case.select(manifest.recipe.modalities).images
    files = [sources[name].path for name in manifest.recipe.modalities]
    strange = [file for file in files if not file.name.endswith(_SUFFIXES)]
    if strange or any(source.channel is not None for source in sources.values()):
        raise DatasetError(
            "is not what nnU-Net can read itself",
            where=(strange or files)[0],
            expected=f"a file of its own for each channel: {', '.join(_SUFFIXES)}",
            remedy="convert it, or compare with --against",
        )
    return files


def _apart(found: Prediction, theirs: NDArray[Any], manifest: Manifest, volume: Volume) -> float:
    """Return the largest difference of probabilities; theirs have the axes channel, k, j, i."""
    source, worst = volume.geometry, 0.0
    there = source if manifest.recipe.orientation == "stored" else source.canonical()
    for channel, array in enumerate(theirs):
        ours = found.probabilities[..., channel]  # type: ignore[index]
        seen = ours if there is source else reoriented(ours, source, there)
        worst = max(worst, largest_difference(seen, array.T))
    return worst


def _parting(
    predictor: Predictor,
    case: Case,
    own: OwnResults | None,
    labels: Path,
    folder: ModelFolder,
    plans: Plans,
) -> tuple[str, str]:
    """Return in words where the two part on the case that differs most, and what to do."""
    manifest = predictor.manifest
    volume = read_volume(case, manifest.recipe.modalities)
    if own is not None:
        mirror, files = bool(manifest.tiling.mirror), {case.id: _files(case, manifest)}
        with nnunet_says(folder, files, mirror, stages=True) as stages:
            theirs_at = partial(along_file, stages, case.id, plans)
            step = step_where_they_part(predictor, volume, theirs_at, _SURE)
        return f"and first {step}", "please report it with plans.json and dataset.json"
    theirs = read_labels(labels, manifest.labels.of_predictions(ours=True)).array
    tiling = manifest.tiling
    axes = () if tiling.mirror else tiling.mirrorable
    other = manifest.model_copy(update={"tiling": tiling.model_copy(update={"mirror": axes})})
    found = Predictor(predictor.backend, other, head=predictor.head)(volume).segmentation.array
    if np.count_nonzero(found != theirs) <= most_differing(theirs.size):
        option = "--mirror" if axes else "--no-mirror"
        made = "with mirrored views" if axes else "without mirrored views (--disable_tta)"
        return f"which were made {made}", f"adopt it with {option}"
    others = "see that they are of these folds and this checkpoint, with a step size of 0.5"
    return "with mirrored views and without", f"{others}; --verify says at which step they part"


def _said_of(part: Volume, manifest: Manifest, folder: ModelFolder) -> Segmentation:
    """Return nnU-Net's labels of a part of a scan, as a scan of its own."""
    mirror = bool(manifest.tiling.mirror)
    with files_of(part) as files, nnunet_says(folder, {"part": files}, mirror) as own:
        found = read_labels(own.labels("part"), manifest.labels.of_predictions(ours=True))
    return replace(found, geometry=part.geometry, labels=manifest.labels)

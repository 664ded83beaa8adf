"""What every contestant is given, and how near its answer is to one pass of the twin in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg import formats
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.reading import read_volume
from vol3dseg.errors import ModelError
from vol3dseg.inference.runtimes.footprint import footprint
from vol3dseg.model.manifest import Manifest
from vol3dseg.preprocessing.prepare import Prepared, prepare, prepare_labels
from vol3dseg.recipe import Recipe
from vol3dseg.recipe.zscore import ZScore
from vol3dseg.space.box import Shape
from vol3dseg.space.labels import Segmentation

# Largest difference in probability between two runtimes that compute the same in float32.
TOLERANCE = 1e-4
_CLOSE = 1e-3  # of normalised intensities, which are computed in float32 or float64


@dataclass(frozen=True, slots=True)
class Referee:
    """The case as the network sees it, and the folder that holds it for the workers.

    Parameters
    ----------
    case : Case
    manifest : Manifest
        Of the model that all run.
    prepared : Prepared
    folder : Path
        Has `prepared.npy`, the (i, j, k, c) image, and `patch.npy`, (1, c, i, j, k) from its
        middle; gets `reference.npy` and `reference-patch.npy`, what the twin says of them.
    """

    case: Case
    manifest: Manifest
    prepared: Prepared
    folder: Path

    def network_agreement(self, answer: Path) -> float | None:
        """Return the share of voxels of the prepared image with the reference's class."""
        return self._share(np.load(answer))

    def file_agreement(self, file: Path, classes_in_file: bool) -> float | None:
        """Return the share of voxels of the prepared image with the reference's class.

        Parameters
        ----------
        file : Path
            A label map on the grid of the scan.
        classes_in_file : bool
            Whether it holds class indices and not the values of the label set.
        """
        labels = self.manifest.labels
        values, geometry = formats.open_volume(file).labels()
        known = values if classes_in_file else labels.encode(values, str(file))
        found = Segmentation(np.asarray(known, dtype=np.uint8), geometry, labels)
        return self._share(prepare_labels(found, self.prepared).array)

    def patch_difference(self, answer: Path) -> float | None:
        """Return the largest difference from the twin in probability, on the patch."""
        path = self.folder / "reference-patch.npy"
        return float(np.abs(np.load(answer) - np.load(path)).max()) if path.exists() else None

    def image_agreement(self, file: Path) -> float:
        """Return the share of voxels that another preprocessing brings to the same number.

        0 where it comes to another shape.
        """
        theirs, ours = np.load(file), self.prepared.volume.array
        if theirs.shape != ours.shape:
            return 0.0
        return float(np.mean(np.abs(theirs - ours) < _CLOSE))

    def _share(self, found: NDArray[Any]) -> float | None:
        path = self.folder / "reference.npy"
        return float(np.mean(found == np.load(path))) if path.exists() else None


def prepare_case(case: Case, manifest: Manifest, folder: Path) -> Referee:
    """Prepare a case for the network part; write what workers read.

    Raises
    ------
    ModelError
        The recipe has steps that the other contestants' pipelines do not have.
    """
    _require_common_steps(manifest.recipe)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("reference*.npy"):
        old.unlink()
    prepared = prepare(read_volume(case, manifest.recipe.modalities), manifest.recipe)
    image = prepared.volume.array
    np.save(folder / "prepared.npy", np.ascontiguousarray(image))
    patch = image[tuple(_middle(image.shape[:3], manifest.recipe.patch_size))]
    np.save(folder / "patch.npy", np.ascontiguousarray(np.moveaxis(patch, -1, 0))[None])
    return Referee(case, manifest, prepared, folder)


def gflop(model: onnx.ModelProto, divisor: Shape, shape: Sequence[int]) -> float:
    """Return the arithmetic of one pass over a volume, padded to what the network takes [GFLOP].

    Convolutions only: a multiplication and an addition for each weight and output voxel.
    """
    voxels = float(np.prod([d * -(-n // d) for n, d in zip(shape, divisor, strict=True)]))
    return 2 * footprint(model, divisor).multiplications * voxels / 1e9


def _middle(shape: Sequence[int], size: Shape) -> list[slice]:
    starts = [max(0, (extent - side) // 2) for extent, side in zip(shape, size, strict=True)]
    return [slice(start, start + side) for start, side in zip(starts, size, strict=True)]


def _require_common_steps(recipe: Recipe) -> None:
    plain = ZScore(mask="nonzero")
    others = [name for name, step in recipe.normalisation.items() if step != plain]
    if recipe.crop != "nonzero" or recipe.spacing_mm is not None or others:
        raise ModelError(
            "the pipelines that are compared crop to what is not zero and take z-scores inside it, "
            f"without resampling; the model's recipe is {recipe.model_dump(mode='json')}"
        )

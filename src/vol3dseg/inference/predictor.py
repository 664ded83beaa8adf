"""From a scan to its segmentation: the predictor that validates in training and is deployed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vol3dseg.inference.manifest import Manifest
from vol3dseg.inference.model_file import read_model
from vol3dseg.inference.session import Backend, Device, OnnxBackend
from vol3dseg.inference.tiling import sliding_window
from vol3dseg.preprocessing.recipe import prepare, restore_probabilities
from vol3dseg.volumes.labels import Segmentation
from vol3dseg.volumes.volume import Volume


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a predictor says of one scan.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of the scan.
    probabilities : (i, j, k, class) array of float32
        On the grid of the scan.
    seconds : mapping from stage to float
        Time of "prepare", "infer" and "restore" [s].
    """

    segmentation: Segmentation
    probabilities: NDArray[np.float32]
    seconds: dict[str, float]


class Predictor:
    """A network with everything that must be done before and after it.

    Parameters
    ----------
    backend : Backend
        Patches in, probabilities out: an `OnnxBackend`, a Keras model, a lambda in tests.
    manifest : Manifest
        Recipe, labels and tiling.
    """

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        self.backend = backend
        self.manifest = manifest

    def __call__(
        self, volume: Volume, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Prediction:
        """Segment a scan.

        Parameters
        ----------
        volume : Volume
            As read from its files; it may have more modalities than the model needs, in any order.
        progress : callable
            Called with the tiles done and their number.

        Raises
        ------
        DatasetError
            A modality of the model is missing.
        """
        times = [time.perf_counter()]
        prepared = prepare(volume, self.manifest.recipe)
        times.append(time.perf_counter())
        probabilities = self.infer(prepared.volume.array, progress)
        times.append(time.perf_counter())
        home = restore_probabilities(probabilities, prepared.volume.geometry, volume.geometry)
        labels = home.argmax(axis=3).astype(np.uint8)
        times.append(time.perf_counter())
        stages = zip(("prepare", "infer", "restore"), np.diff(times).tolist(), strict=True)
        segmentation = Segmentation(labels, volume.geometry, self.manifest.labels)
        return Prediction(segmentation, home, {name: round(s, 4) for name, s in stages})

    def infer(
        self,
        image: NDArray[np.float32],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> NDArray[np.float32]:
        """Return the (i, j, k, class) probabilities of a prepared (i, j, k, c) image."""
        return sliding_window(
            image,
            self.backend,
            len(self.manifest.labels.classes),
            self.manifest.recipe.patch_size,
            self.manifest.overlap,
            progress,
        )


def load_predictor(path: str | Path, device: Device = "auto", threads: int = 0) -> Predictor:
    """Make a predictor of an exported model.

    Parameters
    ----------
    path : str or Path
        An ONNX file made by `vol3dseg export-onnx`.
    device : "auto", "cpu", "cuda" or "openvino"
    threads : int
        Threads on the CPU; 0 leaves the number to onnxruntime.

    Raises
    ------
    ModelError
        The file is not such a model.
    DeviceError
        The device is not there.
    MissingExtraError
        No onnxruntime is installed.
    """
    model = read_model(Path(path))
    return Predictor(OnnxBackend(model.content, device, threads), model.manifest)

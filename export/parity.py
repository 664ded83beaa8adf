"""The proof that an ONNX graph computes what its Keras model computes, at any size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import ModelError
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.model.manifest import Manifest
from vol3dseg.training.backend import keras

# Softmax in float32 over a handful of classes.
_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two networks agree.

    `max_abs_difference` is of probabilities, NaN if either network gives NaN; `label_agreement` the
    share of voxels with the same label.
    """

    patches: int
    max_abs_difference: float
    label_agreement: float


def measure_parity(
    network: Callable[[NDArray[np.float32]], Any],
    onnx_bytes: bytes,
    patches: NDArray[np.float32],
    manifest: Manifest,
) -> Agreement:
    """Run both networks on the same (n, i, j, k, c) patches, one by one, and compare.

    `network` makes probabilities of (1, i, j, k, c) images; the file runs in onnxruntime on the
    CPU. The manifest tells how outputs become labels.
    """
    if len(patches) == 0:
        raise ModelError("parity: found no patches to compare on", expected="at least one")
    session = OnnxBackend(onnx_bytes, "cpu")
    differences, agreements = [], []
    for patch in patches[:, None]:
        expected = keras.ops.convert_to_numpy(network(patch))
        found = np.moveaxis(session(np.ascontiguousarray(np.moveaxis(patch, -1, 1))), 1, -1)
        if found.shape != expected.shape:
            raise ModelError(
                f"parity: ONNX gives {found.shape}, Keras {expected.shape}",
                expected="equal shapes",
            )
        differences.append(np.abs(found - expected).max())
        labels, expected_labels = (
            manifest.outputs.decide(np.moveaxis(each, -1, 0), manifest.labels)
            for each in (found, expected)
        )
        agreements.append(np.mean(labels == expected_labels))
    # Not the built-in max, which may lose a NaN.
    return Agreement(len(patches), float(np.max(differences)), float(np.mean(agreements)))


def check_other_sizes(onnx_bytes: bytes, manifest: Manifest) -> None:
    """Run a graph at two sizes that it was not traced with, one of them with a batch of two."""
    session = OnnxBackend(onnx_bytes, "cpu")
    (i, j, k), (di, dj, dk) = manifest.recipe.patch_size, manifest.network.divisor
    rng, channels = np.random.default_rng(0), len(manifest.recipe.modalities)
    for batch, size in ((1, (i + di, j + 2 * dj, k)), (2, (i, j + dj, k + 3 * dk))):
        image = rng.standard_normal((batch, channels, *size), dtype=np.float32)
        expected = (batch, len(manifest.outputs.channels), *size)
        _check_probabilities(_run(session, image), expected, manifest)


def _run(session: OnnxBackend, image: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        return session(image)
    except Exception as error:  # onnxruntime's classes share no base but Exception
        raise ModelError(
            f"the graph does not run on {image.shape}: {' '.join(str(error).split())}",
            expected="a graph for any batch and any multiple of the divisor",
        ) from error


def _check_probabilities(
    output: NDArray[np.float32], expected: tuple[int, ...], manifest: Manifest
) -> None:
    if output.shape != expected:
        raise ModelError(
            f"the graph gives {output.shape}, as if the traced size were baked into it",
            expected=f"{expected}, with the channels {', '.join(manifest.outputs.channels)}",
        )
    if not np.isfinite(output).all():
        raise ModelError(
            "the graph gives values that are not finite", remedy="train with a lower rate"
        )
    softmax = manifest.outputs.kind == "softmax"
    worst = float(np.abs(output.sum(axis=1) - 1).max()) if softmax else float(output.max() - 1)
    if worst > _SUM_TOLERANCE or output.min() < 0:
        raise ModelError(
            f"the graph's outputs are no probabilities (off by {worst:.2g})",
            expected="outputs that sum to one over classes" if softmax else "outputs from 0 to 1",
            remedy=f"let the network end in a {manifest.outputs.kind}",
        )

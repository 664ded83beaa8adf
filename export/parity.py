"""The proof that an ONNX graph computes what its Keras model computes, at any size."""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import ModelError
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend

# Softmax in float32 over a handful of classes.
_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two networks agree.

    Parameters
    ----------
    patches : int
    max_abs_difference : float
        Of probabilities, over all voxels and classes; NaN if either network gives NaN.
    label_agreement : float
        Share of voxels with the same most probable class, 0 to 1.
    """

    patches: int
    max_abs_difference: float
    label_agreement: float


def measure_parity(
    model: keras.Model, onnx_bytes: bytes, patches: NDArray[np.float32]
) -> Agreement:
    """Run both networks on the same patches, one by one, and compare.

    Parameters
    ----------
    model : keras.Model
    onnx_bytes : bytes
        The file, run by onnxruntime on the CPU.
    patches : (n, i, j, k, c) array
        Prepared voxels.

    Returns
    -------
    Agreement

    Raises
    ------
    ModelError
        There are no patches, onnxruntime cannot load the model, or the shapes of the two
        outputs differ.
    """
    if len(patches) == 0:
        raise ModelError("parity: found no patches to compare on; expected at least one")
    session = OnnxBackend(onnx_bytes, "cpu")
    differences, agreements = [], []
    for patch in patches[:, None]:
        expected = np.asarray(model(patch, training=False))
        found = np.moveaxis(session(np.ascontiguousarray(np.moveaxis(patch, -1, 1))), 1, -1)
        if found.shape != expected.shape:
            raise ModelError(
                f"parity: ONNX gives {found.shape}, Keras {expected.shape}; expected equal shapes"
            )
        differences.append(np.abs(found - expected).max())
        agreements.append(np.mean(found.argmax(-1) == expected.argmax(-1)))
    # Not the built-in max, which may lose a NaN.
    return Agreement(len(patches), float(np.max(differences)), float(np.mean(agreements)))


def check_other_sizes(
    onnx_bytes: bytes, channels: int, patch_size: tuple[int, int, int], divisor: int
) -> None:
    """Run a graph at two sizes that it was not traced with, one of them with a batch of two.

    Parameters
    ----------
    onnx_bytes : bytes
    channels : int
        Modalities.
    patch_size : (3,) tuple of int
        [voxels]
    divisor : int
        What every side must be a multiple of [voxels].

    Raises
    ------
    ModelError
        A run fails, or its output is not one probability for each voxel and class.
    """
    session = OnnxBackend(onnx_bytes, "cpu")
    i, j, k = patch_size
    rng = np.random.default_rng(0)
    for batch, size in (
        (1, (i + divisor, j + 2 * divisor, k)),
        (2, (i, j + divisor, k + 3 * divisor)),
    ):
        image = rng.standard_normal((batch, channels, *size), dtype=np.float32)
        _check_probabilities(_run(session, image), batch, size)


def _run(session: OnnxBackend, image: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        return session(image)
    except Exception as error:  # onnxruntime's classes share no base but Exception
        raise ModelError(
            f"the graph does not run on {image.shape}: {' '.join(str(error).split())}; expected a "
            "graph for any batch and any multiple of the divisor"
        ) from error


def _check_probabilities(
    output: NDArray[np.float32], batch: int, size: tuple[int, int, int]
) -> None:
    if output.ndim != 5 or (output.shape[0], *output.shape[2:]) != (batch, *size):
        raise ModelError(
            f"the graph gives {output.shape}; expected ({batch}, class, "
            f"{', '.join(map(str, size))}); the traced size is baked into it"
        )
    if not np.isfinite(output).all():
        raise ModelError("the graph gives values that are not finite; train with a lower rate")
    worst = float(np.abs(output.sum(axis=1) - 1).max())
    if worst > _SUM_TOLERANCE or output.min() < 0:
        raise ModelError(
            f"the graph's outputs do not sum to one over classes (off by {worst:.2g}); expected "
            "probabilities; the network must end in a softmax"
        )

"""The proof that a standalone graph labels a scan as the network does behind our own steps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vol3dseg.errors import ParityError
from vol3dseg.model.manifest import Manifest
from vol3dseg.preprocessing.prepare import prepare
from vol3dseg.recipe import own_recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume

_REPORT = "please report this with config.yaml"
# Where probabilities are nearer to another decision, rounding may make it.
CLEAR = 1e-4
# Zeros round a patch, so that crop and padding have something to do; odd, to fit no divisor.
_BEFORE, _AFTER = (3, 1, 5), (2, 7, 4)


def check_standalone(
    standalone: bytes, network: bytes, manifest: Manifest, patches: NDArray[np.float32]
) -> None:
    """Compare a standalone graph with prepare, network and decision, on scans of real patches.

    Both are ONNX files, run by onnxruntime on the CPU; `patches` are (n, i, j, k, c) prepared
    voxels. ParityError: labels differ where probabilities are more than 1e-4 from another decision,
    or a scan of zeros is not all background.
    """
    inner, whole = _session(network), _session(standalone)
    for patch in patches:
        scan = _as_scanned(patch, manifest)
        expected, clear = one_pass(scan, manifest, inner)
        found = _label(scan, whole)
        wrong = int(((found != expected) & clear).sum())
        if wrong:
            raise ParityError(
                f"the standalone graph gives other labels to {wrong} of {found.size} voxels than "
                "vol3dseg does",
                expected="none",
                remedy=_REPORT,
            )
    nothing = Volume(np.zeros_like(scan.array), scan.geometry, scan.modalities)
    if _label(nothing, whole).any():
        raise ParityError(
            "the standalone graph gives labels to a scan of zeros",
            expected="background",
            remedy=_REPORT,
        )


def one_pass(
    scan: Volume, manifest: Manifest, network: Any
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Label a scan, in axes closest to RAS, in one pass of an onnxruntime session.

    Returns the (i, j, k) values to write, background everywhere if the scan is zero everywhere, and
    where probabilities are more than 1e-4 from another decision.
    """
    prepared = prepare(scan, manifest.recipe)
    image = np.moveaxis(prepared.volume.array, -1, 0)
    axes = zip(image.shape[1:], manifest.network.divisor, strict=True)
    behind = [(0, -n % divisor) for n, divisor in axes]
    padded = np.pad(image, [(0, 0), *behind])[None]
    probabilities = network.run(["probabilities"], {"image": padded})[0][0]
    i, j, k = image.shape[1:]
    inside = probabilities[:, :i, :j, :k]
    values = np.zeros(scan.geometry.shape, dtype=np.uint8)
    if scan.array.any():
        decided = manifest.outputs.decide(inside, manifest.labels)
        values[prepared.box.slices] = manifest.labels.decode(decided)
    clear = np.ones(scan.geometry.shape, dtype=bool)
    clear[prepared.box.slices] = manifest.outputs.margin(inside) > CLEAR
    return values, clear


def _as_scanned(patch: NDArray[np.float32], manifest: Manifest) -> Volume:
    """Return a scan whose prepared voxels are much like a patch, with zeros round it."""
    recipe = own_recipe(manifest.recipe, "a standalone graph")
    margins = [*zip(_BEFORE, _AFTER, strict=True), (0, 0)]
    raw = [
        recipe.normalisation[modality].example(patch[..., channel])
        for channel, modality in enumerate(recipe.modalities)
    ]
    array = np.pad(np.stack(raw, axis=-1), margins)
    return Volume(array, Geometry(array.shape[:3], np.eye(4)), recipe.modalities)


def _label(scan: Volume, standalone: Any) -> NDArray[np.uint8]:
    channels = (np.ascontiguousarray(scan.array[..., c]) for c in range(len(scan.modalities)))
    found = standalone.run(["labels"], dict(zip(scan.modalities, channels, strict=True)))
    return np.asarray(found[0], dtype=np.uint8)


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

"""From an exported model to a predictor, on the device that was asked for or none at all."""

import math
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from vol3dseg.errors import DeviceError, ModelError
from vol3dseg.inference import Device, Precision, Tiles
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.footprint import footprint
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend, has_cuda
from vol3dseg.inference.runtimes.openvino_backend import OpenVinoBackend, is_installed
from vol3dseg.inference.runtimes.session import Session, require_values
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.inference.uncertainty import SURE, Uncertainty
from vol3dseg.machine import give_back_at_once, reset_peak
from vol3dseg.model.components import component_library
from vol3dseg.model.ensemble import tell_apart
from vol3dseg.model.exact_norms import write_exact_norms
from vol3dseg.model.head import Head, take_head
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.model_file import ModelFile, read_model
from vol3dseg.model.signing_keys import Trusted, load_keys
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.recipe import Recipe

_LAID_OUT = 4.0  # times the weights: runtimes lay them out for their kernels, size by size
_GPU_MB = 4096.0  # of a GPU's own memory, unless a limit is given
_FLOAT = 4  # bytes
_MB = 2**20


def load_predictor(
    path: str | Path,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "float32",
    max_memory_mb: float | None = None,
    tiles: Tiles = "exact",
    overlap: float | None = None,
    mirror: bool | None = None,
    postprocess: bool = True,
    uncertainty: bool = False,
    trusted: Trusted | None = None,
) -> Predictor:
    """Make a predictor of an exported model.

    Parameters
    ----------
    path : str or Path
        An ONNX file made by `vol3dseg export-onnx`.
    device : "auto", "cpu", "cuda", "tensorrt" or "openvino"
        "auto" takes CUDA if onnxruntime has it and it works, else OpenVINO if its package is
        installed, else onnxruntime's CPU provider. `Predictor.origin` says which.
    threads : int
        Threads on the CPU; 0 takes one for each core that this process may use.
    precision : "float32" or "bfloat16"
        What convolutions compute in. bfloat16 is for OpenVINO, on processors that have it.
    max_memory_mb : float or None
        What the process may take in all [MB]; None takes most of what is free.
    tiles : "exact", "close" or "any"
        What may be taken where one pass over the whole volume does not fit, of a network whose
        outputs depend on their receptive field alone: tiles whose result equals one pass; also
        some with a narrower halo; also blended ones, down to the smallest. `Plan.cost` says what
        makes labels differ. Other networks take their training patch, whatever there is.
    overlap : float or None
        Share of a side that blended tiles have in common, from 0 to below 1; None takes the
        model's own.
    mirror : bool or None
        Average over views mirrored along all axes that training mirrored: 2, 4 or 8 times the work.
        None does as the model says of itself: no views, unless it was adopted from a framework that
        mirrors.
    postprocess : bool
        Do the model's post-processing of labels; False leaves them as the network says.
    uncertainty : bool
        Measure the entropy of each voxel, and of several networks their mutual information.
    trusted : str or Path, or a sequence of these, or None
        Public keys in PEM, and folders of them. Unless one of them has signed the very bytes of the
        file, as the signature beside it says, nothing of it is parsed. None asks for no signature.

    Returns
    -------
    Predictor
        Called with a `Volume`, it returns a `Prediction` on the grid of that volume.

    Raises
    ------
    ModelError
        The file is not such a model, or the runtime cannot load it; or views are to be mirrored
        and training mirrored none; as a TrustError, no trusted key has signed it.
    DeviceError
        The device is not there or lacks the precision, or the runtime fell back to another.
    MissingExtraError
        The runtime, what the model's recipe or a signature needs, is not installed.

    Examples
    --------
    >>> predictor = load_predictor("model.onnx")  # doctest: +SKIP
    >>> predictor(volume).segmentation.array  # doctest: +SKIP
    """
    path = Path(path)
    lean = max_memory_mb is not None
    if lean:
        give_back_at_once()
        reset_peak()  # what loading takes counts as well
    model = read_model(path, keys=None if trusted is None else load_keys(trusted))
    try:
        model = replace(model, manifest=_as_asked(model.manifest, overlap, mirror, postprocess))
        if model.manifest.postprocessing:
            component_library()
        made = predictor_of(model, device, threads, precision, max_memory_mb, tiles, uncertainty)
    except ModelError as error:
        raise error.at(path) from error
    made.origin = replace(made.origin, name=path.stem)
    asked = device, threads, precision, max_memory_mb, tiles
    more = overlap, mirror, postprocess, uncertainty
    made.again = partial(load_predictor, path, *asked, *more)
    return made


def predictor_of(
    model: ModelFile,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "float32",
    max_memory_mb: float | None = None,
    tiles: Tiles = "exact",
    uncertainty: bool = False,
) -> Predictor:
    """Make a predictor of a model that is read; see `load_predictor`. Its origin has no name."""
    measured = SURE
    if uncertainty:
        model, measured = _measured(model)
    (model, head), lean = _without_head(model), max_memory_mb is not None
    model = _with_exact_norms(model, device, precision)
    session = open_session(model.content, device, threads, precision, lean)
    require_values(session, model.manifest, head.features if head else None, measured)
    made = make_predictor(model, session, max_memory_mb, threads, tiles, head, measured)
    made.origin = Origin("", model.sha256, session.provider, model.trusted_by)
    if model.locator is not None:
        made.locator = predictor_of(model.locator, device, threads, precision, max_memory_mb)
    return made


def make_predictor(
    model: ModelFile,
    session: Session,
    max_memory_mb: float | None = None,
    threads: int = 0,
    tiles: Tiles = "exact",
    head: Head | None = None,
    uncertainty: Uncertainty = SURE,
) -> Predictor:
    """Make a predictor of a model that is read and loaded; see `load_predictor`.

    `head` is what has been taken off the model; of `uncertainty`, members are told by it.
    """
    model.manifest.recipe.require_extras()
    graph, manifest = onnx.load_model_from_string(model.content), model.manifest
    each = session.bytes_per_voxel(footprint(graph, manifest.network.divisor))
    if manifest.tiling.mirror:  # a mirrored input, the sum of the outputs and a view turned back
        outputs = uncertainty.graph_channels(manifest)
        given = head.features if head else outputs
        each += 2 * _FLOAT * (given + len(manifest.recipe.modalities))
    most_mb = _GPU_MB if session.on_gpu and max_memory_mb is None else math.inf
    fixed_mb = _LAID_OUT * len(model.content) / _MB
    planner = Planner(manifest, each, most_mb, fixed_mb, tiles, head is not None, uncertainty)
    return Predictor(
        session,
        manifest,
        planner,
        max_memory_mb,
        threads,
        session.release,
        measurable=not session.on_gpu,
        head=head,
        uncertainty=uncertainty,
    )


def _measured(model: ModelFile) -> tuple[ModelFile, Uncertainty]:
    """Let the networks of a model be told apart, where there are several; and say how many are."""
    several, apart = len(model.manifest.members), model.manifest.tiling.members_apart
    if several < 2 or apart > 1:
        return model, Uncertainty(True, apart if apart > 1 else 0)
    graph = onnx.load_model_from_string(model.content)
    if not tell_apart(graph, several):
        return model, Uncertainty(True)
    return replace(model, content=graph.SerializeToString()), Uncertainty(True, several)


def _without_head(model: ModelFile) -> tuple[ModelFile, Head | None]:
    """Take the last layer off where blended tiles take less without it; none is left out there."""
    tiling = model.manifest.tiling
    if model.manifest.network.local or tiling.skip_empty:
        return model, None
    graph = onnx.load_model_from_string(model.content)
    head = take_head(graph, tiling.members_apart)
    return (replace(model, content=graph.SerializeToString()) if head else model), head


def _with_exact_norms(model: ModelFile, device: Device, precision: Precision) -> ModelFile:
    """Write norms as arithmetic where those of the runtime would not do.

    OpenVINO's own add up the voxels of a channel in as many parts as it has threads, so that one
    thread gives other bits than two. Those of an adopted model must be as exact as torch's. Where
    less than float32 is computed in, arithmetic would lose more than either.
    """
    on_gpu = device in ("cuda", "tensorrt") or (device == "auto" and has_cuda())
    by_parts = device == "openvino" or (device == "auto" and is_installed())
    coarse = precision != "float32" or model.manifest.quantisation is not None
    if on_gpu or coarse or (isinstance(model.manifest.recipe, Recipe) and not by_parts):
        return model
    graph = onnx.load_model_from_string(model.content)
    written = write_exact_norms(graph)
    return replace(model, content=graph.SerializeToString()) if written else model


def _as_asked(
    manifest: Manifest, overlap: float | None, mirror: bool | None, postprocess: bool
) -> Manifest:
    """Return what a model says of itself with the tiling and post-processing that is asked for."""
    changes: dict[str, Any] = {}
    if overlap is not None:
        changes["step"] = Tiling.of(manifest.recipe.patch_size, overlap).step
        if manifest.tiling.spread is not None:
            changes["spread"] = 1 - overlap
    if mirror is False:
        changes["mirror"] = ()
    elif mirror:
        changes["mirror"] = manifest.tiling.mirrorable
        if not changes["mirror"]:
            raise ModelError(
                "its training mirrored no axis, so it knows no mirrored views",
                expected="axes in training.augment.flip_axes",
                remedy="leave out --mirror",
            )
    asked: dict[str, Any] = {"tiling": manifest.tiling.model_copy(update=changes)}
    if not postprocess:
        asked["postprocessing"] = ()
    return manifest.model_copy(update=asked)


def open_session(
    content: bytes,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "float32",
    lean: bool = False,
) -> Session:
    """Load the bytes of an ONNX model; see `load_predictor`.

    With `lean` little memory is kept, rather than time saved; this holds for the whole process.
    """
    if lean:
        give_back_at_once()
    if device == "auto":
        if has_cuda() and precision == "float32":
            with suppress(DeviceError):
                return OnnxBackend(content, "cuda", threads)
        device = "openvino" if precision == "bfloat16" or is_installed() else "cpu"
    if device == "openvino":
        return OpenVinoBackend(content, threads, precision)
    if precision != "float32":
        raise DeviceError(
            f"computes in float32, not in {precision}",
            where=f"device {device!r}",
            remedy=f"use --device openvino for {precision}",
        )
    return OnnxBackend(content, device, threads, lean)

"""From an exported model to a predictor that knows what the runtime takes."""

import math
from pathlib import Path

import onnx

from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.footprint import footprint
from vol3dseg.inference.runtimes.openvino_backend import Precision
from vol3dseg.inference.runtimes.session import Device, Session, open_session
from vol3dseg.inference.tiling.planner import Planner
from vol3dseg.model.model_file import ModelFile, read_model

_LAID_OUT = 4.0  # times the weights: runtimes lay them out for their kernels, size by size
_GPU_MB = 4096.0  # of a GPU's own memory, unless a limit is given
_MB = 2**20


def make_predictor(
    model: ModelFile,
    session: Session,
    max_memory_mb: float | None = None,
    threads: int = 0,
    only_exact: bool = False,
    overlap: float | None = None,
) -> Predictor:
    """Make a predictor of a model that is read and loaded; see `load_predictor`."""
    model.manifest.recipe.require_extras()
    graph = onnx.load_model_from_string(model.content)
    taken = footprint(graph, model.manifest.network.divisor)
    each = session.bytes_per_voxel(taken)
    most_mb = _GPU_MB if session.on_gpu and max_memory_mb is None else math.inf
    fixed_mb = _LAID_OUT * len(model.content) / _MB
    manifest = model.manifest
    if overlap is not None:
        tiling = manifest.tiling.model_copy(update={"overlap": overlap})
        manifest = manifest.model_copy(update={"tiling": tiling})
    if manifest.tiling.mirror:  # the sum over the views, and one of them turned back
        each += 2 * 4 * (len(manifest.outputs.channels) + len(manifest.recipe.modalities))
    planner = Planner(manifest, each, most_mb, fixed_mb, only_exact)
    return Predictor(session, manifest, planner, max_memory_mb, threads, session.release)


def load_predictor(
    path: str | Path,
    device: Device = "auto",
    threads: int = 0,
    precision: Precision = "float32",
    max_memory_mb: float | None = None,
    only_exact: bool = False,
    overlap: float | None = None,
) -> Predictor:
    """Make a predictor of an exported model.

    Parameters
    ----------
    path : str or Path
        An ONNX file made by `vol3dseg export-onnx`.
    device : "auto", "cpu", "cuda", "tensorrt" or "openvino"
    threads : int
        Threads on the CPU; 0 takes one for each core that this process may use.
    precision : "float32" or "bfloat16"
    max_memory_mb : float or None
        What the process may take in all [MB]; None takes most of what is free.
    only_exact : bool
        Whether to take no plan but those that equal one pass over the whole volume.
    overlap : float or None
        Share of a side that blended tiles have in common, from 0 to below 1; None takes the
        model's own.

    Raises
    ------
    ModelError
        The file is not such a model, or has no exact tiles.
    DeviceError
        The device is not there, or cannot compute in this precision.
    MissingExtraError
        The runtime, or what the model's recipe needs, is not installed.
    """
    model = read_model(Path(path))
    lean = max_memory_mb is not None
    session = open_session(model.content, device, threads, precision, lean)
    return make_predictor(model, session, max_memory_mb, threads, only_exact, overlap)

"""The model that a training starts from, a run or an ONNX file of ours, as a Keras network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ValidationError

from vol3dseg.config import ModelConfig
from vol3dseg.errors import ModelError, RunError
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.model.adopted import AdoptedFacts
from vol3dseg.model.manifest import Manifest, read_run_manifest
from vol3dseg.model.model_file import ModelFile, read_model
from vol3dseg.training.backend import keras
from vol3dseg.training.checkpoints import load_checkpoint
from vol3dseg.training.networks.building import probabilities
from vol3dseg.training.networks.unet import build_unet
from vol3dseg.written import sha256_file

_WANTED = "the folder of a finished run, or a model that vol3dseg export-onnx wrote of one"
_TOLERANCE = 1e-4  # of probabilities, as for the proof of an export
_SIDES = 4  # of the patch that is tried, in multiples of the divisor
_NORM, _SPELLED_OUT = "InstanceNormalization", "ReduceMean"


@dataclass(frozen=True, slots=True)
class ParentModel:
    """A trained network and what is known of it.

    `folded` says that its batch norms are part of its convolutions, as in ONNX, so that their
    statistics are unknown: they are 0 and 1 in `network`, which computes the same.
    """

    name: str
    sha256: str  # of the ONNX file, or of the checkpoint
    manifest: Manifest
    network: Any
    folded: bool


def parent_sha256(path: Path) -> str:
    """Return the checksum that `read_parent` gives, without reading the network.

    Raises
    ------
    ModelError, RunError
        There is no such file or folder, or it is no run.
    """
    return read_model(path).sha256 if path.is_file() else sha256_file(_checkpoint(path)[0])


def read_parent(path: Path) -> ParentModel:
    """Read the network of a run's deployed checkpoint, or of an ONNX file.

    The network that is made of a file is compared with it on a patch.

    Raises
    ------
    ModelError, RunError
        It is neither, or holds no network that a training can go on with.
    """
    if path.is_file():
        return _of_file(read_model(path), path)
    checkpoint, manifest = _checkpoint(path)
    network = load_checkpoint(checkpoint)
    return ParentModel(
        path.resolve().name, sha256_file(checkpoint), manifest, network, folded=False
    )


def _checkpoint(run: Path) -> tuple[Path, Manifest]:
    if not (run / "manifest.json").is_file():
        found = "is no finished run" if run.is_dir() else "there is no such file or folder"
        raise RunError(found, where=run, expected=_WANTED)
    manifest = read_run_manifest(run)
    _require_one(manifest, run)
    return run / f"{manifest.trained[0].checkpoint}.keras", manifest


def _require_one(manifest: Manifest, where: Path) -> None:
    if len(manifest.members) > 1:
        raise ModelError(
            f"is the average of {len(manifest.members)} networks",
            where=where,
            expected="one, to go on with",
            remedy="name the run of one fold, such as CV/fold-1, or its file of export-onnx --each",
        )


def _of_file(file: ModelFile, path: Path) -> ParentModel:
    manifest = file.manifest
    _require_one(manifest, path)
    if manifest.quantisation is not None:
        raise ModelError(
            f"is an {manifest.quantisation.precision} model",
            where=path,
            expected="weights in float32",
            remedy="name the run or the float32 model that it was made of",
        )
    if any(isinstance(facts, AdoptedFacts) for facts in manifest.members):
        raise ModelError(
            "is adopted, and its network is not one that vol3dseg trains",
            where=path,
            expected=_WANTED,
            remedy="train one here, or go on with it in the framework that it comes from",
        )
    network = _network_of(manifest, file, path)
    return ParentModel(path.resolve().name, file.sha256, manifest, network, manifest.network.local)


def _network_of(manifest: Manifest, file: ModelFile, path: Path) -> Any:
    """Build the U-Net that a manifest describes, with the weights of its graph."""
    try:
        config = ModelConfig.model_validate(manifest.network.architecture)
    except ValidationError as error:
        raise ModelError(
            "holds a network of its maker's own, which its graph alone cannot be trained from",
            where=path,
            expected="a U-Net of vol3dseg",
            remedy="name the run that it was exported from",
        ) from error
    channels, outputs = len(manifest.recipe.modalities), len(manifest.outputs.channels)
    network = build_unet(config, channels, outputs)
    try:
        _fill(network, onnx.load_model_from_string(file.content).graph)
        difference = _difference(network, file, manifest)
    except (StopIteration, ValueError, KeyError):  # other nodes, sizes or names
        difference = np.inf
    if not difference <= _TOLERANCE:
        raise ModelError(
            "its graph is not that of the U-Net which its manifest describes",
            where=path,
            expected="a file as vol3dseg export-onnx writes it",
            remedy="export the run again, or name the run itself",
        )
    return network


def _fill(network: Any, graph: onnx.GraphProto) -> None:
    """Give a network the weights of a graph, convolution by convolution."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    left = [node for node in graph.node if node.op_type in {"Conv", "ConvTranspose"}]
    for layer in network.layers:
        if not hasattr(layer, "kernel"):
            continue
        # Where two ways part their order may differ; the kernel's shape tells them apart.
        node = next(n for n in left if _kernel(n, constants).shape == layer.kernel.shape)
        left.remove(node)
        layer.kernel.assign(_kernel(node, constants))
        bias = [constants[name] for name in node.input[2:3]]
        if layer.use_bias:
            layer.bias.assign(bias[0])
        norm = _norm_after(layer)
        if isinstance(norm, keras.layers.BatchNormalization):
            norm.gamma.assign(np.ones(norm.gamma.shape))
            norm.beta.assign(bias[0])
            norm.moving_mean.assign(np.zeros(norm.gamma.shape))
            norm.moving_variance.assign(np.full(norm.gamma.shape, 1 - norm.epsilon))
        elif norm is not None:
            scale, shift = _scale_and_shift(node, graph)
            norm.scale.assign(constants[scale].ravel())
            norm.shift.assign(constants[shift].ravel())


def _kernel(node: onnx.NodeProto, constants: dict[str, NDArray[np.float32]]) -> Any:
    """Return a kernel as Keras has it: places, then channels in and out of a convolution."""
    return constants[node.input[1]].transpose(2, 3, 4, 1, 0)


def _norm_after(layer: Any) -> Any:
    """Return the norm that takes what a layer gives; None where another layer does."""
    taking = (node.operation for node in layer._outbound_nodes)
    return next((each for each in taking if each.name.endswith("_norm")), None)


def _scale_and_shift(convolution: onnx.NodeProto, graph: onnx.GraphProto) -> tuple[str, str]:
    """Return the names of an instance norm's constants, as one node or spelled out."""
    for node in (each for each in graph.node if convolution.output[0] in each.input):
        if node.op_type == _NORM:
            return node.input[1], node.input[2]
        if node.op_type == _SPELLED_OUT:
            prefix = node.name.rsplit("_mean_", 1)[0]
            return f"{prefix}_scale", f"{prefix}_shift"
    raise ValueError("a convolution without its norm")


def _difference(network: Any, file: ModelFile, manifest: Manifest) -> float:
    """Return by how much probabilities of network and file differ on a patch of noise, at most."""
    size = [_SIDES * step for step in manifest.network.divisor]
    image = np.random.default_rng(0).normal(size=(1, *size, network.input_shape[-1]))
    image = image.astype(np.float32)
    ours = keras.ops.convert_to_numpy(probabilities(network, manifest.outputs.kind)(image))
    theirs = OnnxBackend(file.content, "cpu")(np.ascontiguousarray(np.moveaxis(image, -1, 1)))
    return float(np.abs(np.moveaxis(theirs, 1, -1) - ours).max())

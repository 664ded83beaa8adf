"""Small whole ONNX files with their manifests, and what is done with one."""

import zlib
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.conftest import make_graph, make_manifest, make_small_unet
from tests.fuzzing.promise import BrokenPromise
from tests.fuzzing.record_samples import PROVENANCE, STEPS
from tests.fuzzing.sample import Sample
from vol3dseg.config import load_config
from vol3dseg.errors import MemoryLimitError, ModelError
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.ensemble import average
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.model_file import describe, with_manifest
from vol3dseg.model.outputs import Region, Sigmoid
from vol3dseg.recipe import Recipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume
from vol3dseg.training.auditing import audit

_DEVICES = ("cpu", "openvino")
_SHAPE = (18, 12, 14)


def model_samples() -> tuple[Sample, ...]:
    """Networks of every kind of layer: plain, normed, averaged, of regions, in integers."""
    made = {
        "one layer": make_graph(2, 4),
        "U-Net": _unet(),
        "average": average([_unet(), _unet(1)]),
        "layers": _many_layers(),
        "integers": _integers(),
    }
    samples = [_sample(name, graph, _manifest(graph)) for name, graph in made.items()]
    regions = make_graph(2, 3)
    regions.graph.node[1].CopyFrom(helper.make_node("Sigmoid", ["logits"], ["probabilities"]))
    return (*samples, _sample("regions", regions, _manifest(regions, of_regions=True)))


def segment(path: Path) -> None:
    """Say what a model is and what is wrong with it, load it, segment a scan in some runtime.

    Raises
    ------
    BrokenPromise
        What comes of it is no segmentation.
    Vol3dSegError
    """
    refused = audit(path).findings
    describe(path)
    device = _DEVICES[zlib.crc32(path.read_bytes()) % len(_DEVICES)]
    try:
        predictor = load_predictor(path, device, threads=1)
        found = predictor(_scan(predictor.manifest), keep_probabilities=True)
    except MemoryLimitError as error:
        if error.__cause__ is not None:  # it was taken, not only asked for
            raise
        raise ModelError(error.found, where=path) from None
    if refused:
        raise BrokenPromise(f"is read, and said to be refused: {refused[0].found}")
    labels, probabilities = found.segmentation, found.probabilities
    if labels.array.shape != _SHAPE or labels.array.max() >= len(labels.labels.classes):
        raise BrokenPromise(f"a segmentation of {labels.array.shape}, to {labels.array.max()}")
    if probabilities is None or not np.isfinite(probabilities).all():
        raise BrokenPromise("probabilities that are not finite")


def _scan(manifest: Manifest) -> Volume:
    names = manifest.recipe.modalities
    voxels = np.random.default_rng(0).normal(100, 20, (*_SHAPE, len(names)))
    return Volume(voxels.astype(np.float32), Geometry(_SHAPE, np.diag([1.0, 1, 2, 1])), names)


def _manifest(graph: onnx.ModelProto, of_regions: bool = False) -> Manifest:
    channels = graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    names = ("flair", "t1")[:channels]
    recipe = Recipe(modalities=names, normalisation={"method": "zscore"}, patch_size=(8, 8, 8))
    made = make_manifest(recipe, _labels())
    local = "InstanceNormalization" not in {node.op_type for node in graph.graph.node}
    network = {"divisor": (2, 2, 2), "receptive_field": (6, 6, 6), "local": local}
    facts: dict[str, object] = {"provenance": PROVENANCE, "postprocessing": STEPS}
    facts |= {"network": made.network.model_copy(update=network)}
    if of_regions:
        regions = [Region(name=n, members=(n,), paints=n) for n in _labels().foreground]
        facts["outputs"] = Sigmoid(threshold=0.5, regions=regions)
    return made.model_copy(update=facts)


@cache
def _labels():
    return load_config("crops32").labels


def _sample(name: str, graph: onnx.ModelProto, manifest: Manifest) -> Sample:
    return Sample(name, {"model.onnx": with_manifest(graph, manifest)}, "model.onnx")


def _unet(seed: int = 0) -> onnx.ModelProto:
    return make_small_unet(np.random.default_rng(seed))


def _many_layers() -> onnx.ModelProto:
    """One layer after the other, of kinds that the others do not have."""
    one, two = np.ones(4, np.float32), np.full(4, 2, np.float32)
    return _chain(
        ("Conv", [_weights(4, 1, 3)], {"pads": [1] * 6, "kernel_shape": [3] * 3}),
        ("InstanceNormalization", [one, one], {"epsilon": 1e-5}),
        ("Elu", [], {"alpha": 0.5}),
        ("AveragePool", [], {"kernel_shape": [3] * 3, "pads": [1] * 6, "count_include_pad": 1}),
        ("BatchNormalization", [one, one, one, two], {"epsilon": 1e-3}),
        ("Clip", [np.float32(-1), np.float32(6)], {}),
        ("Pad", [np.array([0, 0, 1, 1, 1] * 2)], {}),
        ("Slice", [np.array([1] * 3), np.array([-1] * 3), np.array([2, 3, 4])], {}),
        ("PRelu", [np.full((4, 1, 1, 1), 0.1, np.float32)], {}),
        ("Conv", [_weights(4, 2, 3)], {"strides": [2] * 3, "pads": [1] * 6, "group": 2}),
        ("ConvTranspose", [_weights(4, 2, 4)], {"strides": [2] * 3, "pads": [1] * 6, "group": 2}),
        ("ReduceMean", [], {"axes": [1], "keepdims": 1}),
        ("Mul", [np.full((1, 4, 1, 1, 1), 0.5, np.float32)], {}),
        ("Softmax", [], {"axis": 1}),
    )


def _integers() -> onnx.ModelProto:
    scale, zero = np.float32(0.02), np.uint8(128)
    model = _chain(
        ("QuantizeLinear", [scale, zero], {}),
        ("DequantizeLinear", [scale, zero], {}),
        ("Conv", [_weights(4, 1, 1)], {}),
        ("Softmax", [], {"axis": 1}),
    )
    graph = model.graph
    scales = numpy_helper.from_array(np.full(4, 0.01, np.float32), "scales")
    kept = numpy_helper.from_array(np.full((4, 1, 1, 1, 1), 9, np.int8), "kept")
    graph.initializer.extend([scales, kept])
    graph.node.insert(
        2, helper.make_node("DequantizeLinear", ["kept", "scales"], ["weights"], axis=0)
    )
    graph.node[3].input[1] = "weights"
    return model


def _weights(outputs: int, inputs: int, side: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.3, (outputs, inputs, *[side] * 3)).astype("f4")


def _chain(*layers: tuple[str, list, dict]) -> onnx.ModelProto:
    nodes, constants, value = [], [], "image"
    for number, (kind, arrays, facts) in enumerate(layers):
        names = [f"c{number}_{n}" for n in range(len(arrays))]
        constants += map(numpy_helper.from_array, map(np.asarray, arrays), names)
        made = "probabilities" if number == len(layers) - 1 else f"v{number}"
        nodes.append(helper.make_node(kind, [value, *names], [made], **facts))
        value = made
    ends = [
        helper.make_tensor_value_info(name, 1, ["n", channels, "i", "j", "k"])
        for name, channels in (("image", 1), ("probabilities", 4))
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

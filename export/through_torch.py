"""A Keras model as torch.onnx writes it, channels first: the way out that needs no tf2onnx.

Keras' layers compute channels last, and under torch each convolution turns its input and its output
around. onnxruntime's first level of optimisation, which keeps to standard operators, cancels all of
these Transposes against each other. Norms stay spelled out as arithmetic.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnx import version_converter

from vol3dseg.extras import load_extra
from vol3dseg.recipe.graph_values import OPSET
from vol3dseg.training.networks.building import Head, probabilities

torch = load_extra("torch", "torch")
load_extra("onnxscript", "torch")
onnxruntime = load_extra("onnxruntime", "cpu")

EXPORTERS = ("torch", "onnxscript")  # named in the manifest
_OPSET = 18  # the oldest that torch.onnx writes
_AXES = (0, 2, 3, 4)  # of any size


def trace(model: Any, patch_size: tuple[int, int, int], head: Head) -> onnx.ModelProto:
    """Convert from (n, c, i, j, k) images to probabilities in the same layout."""
    network = probabilities(model, head)

    class ChannelsFirst(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model  # whose weights become those of the graph

        def forward(self, image: Any) -> Any:
            return network(image.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)

    # A side of one, as of the batch or at the lowest level, would be taken for one that stays.
    image = torch.zeros((2, model.input_shape[-1], *(2 * side for side in patch_size)))
    shapes = (dict.fromkeys(_AXES, torch.export.Dim.DYNAMIC),)
    with _quiet(), TemporaryDirectory() as folder:
        program = torch.onnx.export(
            ChannelsFirst().eval(),
            (image,),
            dynamo=True,
            dynamic_shapes=shapes,
            opset_version=_OPSET,
            verbose=False,
        )
        program.optimize()
        return _in_our_opset(_without_transposes(program.model_proto, Path(folder)))


def _without_transposes(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Let onnxruntime cancel changes of layout."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "model.onnx")
    content = model.SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def _in_our_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:  # an attribute of later opsets, which the converter leaves
        kept = [each for each in node.attribute if each.name != "noop_with_empty_axes"]
        del node.attribute[:]
        node.attribute.extend(kept)
    converted: onnx.ModelProto = version_converter.convert_version(model, OPSET)
    return converted


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch says of its own parts while it exports."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)

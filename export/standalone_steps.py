"""What is done before and after a network, as nodes of ONNX: crop, pad, and the way back to labels.

The same as `vol3dseg.recipe` does with numpy; `vol3dseg.export.standalone_check` and
the tests hold the two together. Names of values are str; the operators are those of opset 17.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from vol3dseg.export.graph_builder import GraphBuilder
from vol3dseg.export.standalone_normalise import nonzero, normalise
from vol3dseg.recipe import Recipe
from vol3dseg.space.box import Shape

OUTPUT = "labels"
_AXES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class CropBox:
    """Where a scan holds something: names of values.

    Parameters
    ----------
    start, stop : str
        (3,) int64, half-open.
    found : str
        (1,) bool: whether any voxel is not zero.
    """

    start: str
    stop: str
    found: str


def crop_box(build: GraphBuilder, recipe: Recipe) -> CropBox:
    """Find the box over the non-zero boxes of all modalities; the whole scan where `crop` is none.

    The graph's inputs bear the modalities' names. A scan with NaN or infinity stops the runtime
    here, before the network is run.
    """
    boxes = [_outline(build, modality) for modality in recipe.modalities]
    found = build.add("ReduceMax", build.add("Concat", *(b.found for b in boxes), axis=0), axes=[0])
    if recipe.crop == "nonzero":
        start = build.add("Min", *(box.start for box in boxes))
        stop = build.add("Max", *(box.stop for box in boxes))
    else:
        start, stop = build.integers(0, 0, 0), build.add("Shape", recipe.modalities[0])
    for modality in recipe.modalities:
        start = build.add("Add", start, _refuse_not_finite(build, modality))
    return CropBox(start, stop, build.add("Cast", found, to=TensorProto.BOOL))


def _outline(build: GraphBuilder, image: str) -> CropBox:
    """Find the non-zero box of one modality; `found` is uint8 here.

    The first and the last largest of the marks along an axis are its ends, and also the ends of
    the whole axis where all marks are 0: so numpy's rule for an image of zeros comes by itself.
    """
    marks = build.add("Cast", nonzero(build, image), to=TensorProto.UINT8)
    first, last = [], []
    for axis in _AXES:
        others = [a for a in _AXES if a != axis]
        along = build.add("ReduceMax", marks, axes=others, keepdims=0)
        first.append(build.add("ArgMax", along, axis=0, keepdims=1))
        last.append(build.add("ArgMax", along, axis=0, keepdims=1, select_last_index=1))
    stop = build.add("Add", build.add("Concat", *last, axis=0), build.integers(1))
    found = build.add("ReduceMax", along, axes=[0], keepdims=1)
    return CropBox(build.add("Concat", *first, axis=0), stop, found)


def _refuse_not_finite(build: GraphBuilder, image: str) -> str:
    """Return a (1,) zero, or stop the runtime: ONNX has no assertion, but an index too large fails.

    Without it NaN would spread over the whole scan and come out as background.
    """
    size = build.add("Abs", image)
    finite = build.add("Less", size, build.constant(np.inf, np.float32))
    worst = build.add("ReduceMin", build.add("Cast", finite, to=TensorProto.UINT8), keepdims=0)
    wrong = build.add("Sub", build.integers(1), build.add("Cast", worst, to=TensorProto.INT64))
    return build.add("Gather", build.integers(0), wrong, name=f"{image} holds NaN or infinity")


def prepare(build: GraphBuilder, recipe: Recipe, box: CropBox) -> str:
    """Crop and normalise all modalities; returns a (1, c, i, j, k) float32 value."""
    channels = []
    for modality in recipe.modalities:
        cropped = build.add("Slice", modality, box.start, box.stop, build.integers(*_AXES))
        scaled = normalise(build, recipe.normalisation[modality], modality, cropped)
        channels.append(build.add("Unsqueeze", scaled, build.integers(0, 1)))
    return build.add("Concat", *channels, axis=1)


def pad_at_end(build: GraphBuilder, image: str, divisor: Shape, output: str) -> str:
    """Put zeros behind a (1, c, i, j, k) image until sides are multiples of the divisor.

    The result bears the name `output`. Returns the (3,) sides before.
    """
    sides = build.add("Slice", build.add("Shape", image), build.integers(2), build.integers(5))
    negative = build.add("Sub", build.integers(0), sides)
    missing = build.add("Mod", negative, build.integers(*divisor))
    pads = build.add("Concat", build.integers(*[0] * 7), missing, axis=0)
    build.add("Pad", image, pads, build.constant(0, np.float32), output=output)
    return sides


def labels(
    build: GraphBuilder,
    probabilities: str,
    sides: str,
    box: CropBox,
    whole: str,
    values: tuple[int, ...],
) -> None:
    """Turn probabilities into `OUTPUT`, the (i, j, k) uint8 labels of the whole scan.

    Parameters
    ----------
    build : GraphBuilder
    probabilities : str
        (1, class, i, j, k), padded.
    sides : str
        (3,) int64, without padding.
    box : CropBox
    whole : str
        An image of the size of the scan.
    values : tuple of int
        What stands for each class in files. A scan of zeros gets 0 everywhere, as does what lies
        outside the box.
    """
    best = build.add("ArgMax", probabilities, axis=1, keepdims=0)
    one = build.add("Squeeze", best, build.integers(0))
    cut = build.add("Slice", one, build.integers(0, 0, 0), sides, build.integers(*_AXES))
    background = build.constant(0, np.uint8)
    table = build.add("Where", box.found, build.constant(values, np.uint8), background)
    named = build.add("Gather", table, cut)
    after = build.add("Sub", build.add("Shape", whole), box.stop)
    pads = build.add("Concat", box.start, after, axis=0)
    build.add("Pad", named, pads, background, output=OUTPUT)

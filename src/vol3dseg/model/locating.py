"""A model that is a pair: a small network finds where to look, the other sees only that box."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import onnx
from pydantic import Field

from vol3dseg.schema import Amount, Count, Frozen, Share
from vol3dseg.space.labels import Label, LabelSet

INITIALIZER = "vol3dseg.locator"  # of a graph: the bytes of the first network's file
ANYTHING = "anything"  # its only class
LABELS = LabelSet(
    classes=(
        Label(name="background", read=(0,), write=0),
        Label(name=ANYTHING, read=(1,), write=1),
    )
)
Nothing = Literal["whole", "empty"]


class Found(Frozen):
    """`locating.json` of a run: how well a locator finds what there is.

    Attributes
    ----------
    margin_mm : float
        By which the box is made larger along each axis, each way, so that it held all foreground of
        the cases that it was measured on [mm].
    cases : int
        With foreground, that were not learned from where there are such.
    missed : int
        Of these, in which it found nothing.
    share : float
        Of the voxels of a scan that its box holds, in the mean.
    """

    format: Literal["vol3dseg.locating"] = "vol3dseg.locating"
    version: Literal[1] = 1
    margin_mm: Annotated[Amount, Field(le=1e4)]
    cases: Count
    missed: Count
    share: Share


class Locating(Frozen):
    """What the manifest of a pair says of its first network.

    Attributes
    ----------
    sha256 : str
        Of its file, which is a model by itself and carries a manifest of its own.
    found : Found
        How well it finds what there is, with the margin that is kept.
    nothing : "whole" or "empty"
        Where it finds nothing: the whole scan is segmented, or all of it is background.
    """

    sha256: str
    found: Found
    nothing: Nothing


def put_locator(model: onnx.ModelProto, content: bytes) -> None:
    """Put the file of a locator into a graph, as numbers that no layer uses."""
    tensor = onnx.numpy_helper.from_array(np.frombuffer(content, np.uint8), INITIALIZER)
    model.graph.initializer.append(tensor)


def take_locator(model: onnx.ModelProto) -> bytes | None:
    """Take the file of a locator out of a graph; None where there is none."""
    kept: Sequence[onnx.TensorProto] = [t for t in model.graph.initializer if t.name != INITIALIZER]
    if len(kept) == len(model.graph.initializer):
        return None
    content = next(bytes(t.raw_data) for t in model.graph.initializer if t.name == INITIALIZER)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return content

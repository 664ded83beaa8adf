"""How nnU-Net resamples an image or a network's outputs: what plans.json says of it."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from vol3dseg.schema import Frozen
from vol3dseg.space.geometry import Spacing
from vol3dseg.space.stretched_axes import Way

Ratio = Annotated[float, Strict(), Field(ge=1, le=1e6)]
Order = Literal[0, 1, 3]
_WAYS: dict[int, Way] = {0: "nearest", 1: "linear", 3: "cubic"}


class SplineResampling(Frozen):
    """`resample_data_or_seg_to_shape`: B-splines.

    Attributes
    ----------
    order : 0, 1 or 3
        Of the spline: nearest, linear, cubic.
    order_z : 0, 1 or 3
        Of the spline along an axis that is treated by itself.
    separate_z : bool or None
        Whether the axis of the largest spacing is treated by itself. None: where that is more than
        `separate_beyond` times the smallest, on the grid that is left or on the one that is made.
    separate_beyond : float
    """

    method: Literal["spline"]
    order: Order
    order_z: Order = 0
    separate_z: bool | None = None
    separate_beyond: Ratio = 3.0


class TorchResampling(Frozen):
    """`resample_torch_fornnunet`: linear, and nearest along an axis that is treated by itself.

    Attributes
    ----------
    separate_z, separate_beyond
        As those of `SplineResampling`.
    """

    method: Literal["torch"]
    separate_z: bool | None = None
    separate_beyond: Ratio = 3.0


class NoResampling(Frozen):
    """`no_resampling_hack`: each scan keeps its own spacing."""

    method: Literal["none"]


Resampling = Annotated[
    SplineResampling | TorchResampling | NoResampling, Field(discriminator="method")
]


def axis_alone(
    step: SplineResampling | TorchResampling, now_mm: Spacing, then_mm: Spacing
) -> int | None:
    """Return the axis that is treated by itself, from one spacing to another; None for none.

    The spacing that is left decides; that which is made only where the former is not far from
    cubic. Where the largest spacing is that of two axes, none is treated by itself.
    """
    for spacing_mm in (now_mm, then_mm):
        far = max(spacing_mm) / min(spacing_mm) > step.separate_beyond
        if far if step.separate_z is None else step.separate_z:
            largest = [a for a, length in enumerate(spacing_mm) if max(spacing_mm) / length == 1]
            return largest[0] if len(largest) == 1 else None
    return None


def ways_of(step: SplineResampling | TorchResampling, alone: int | None) -> tuple[Way, Way, Way]:
    """Return how each axis is interpolated, if one is treated by itself."""
    usual: Way = "torch linear"
    other: Way = "torch nearest"
    if isinstance(step, SplineResampling):
        usual, other = _WAYS[step.order], _WAYS[step.order_z]
    i, j, k = (other if axis == alone else usual for axis in range(3))
    return i, j, k

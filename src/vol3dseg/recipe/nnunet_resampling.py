"""How nnU-Net resamples an image or a network's outputs: what plans.json says of it."""

from typing import Annotated, Literal

from pydantic import Field, Strict

from vol3dseg.schema import Frozen

Ratio = Annotated[float, Strict(), Field(ge=1, le=1e6)]
Order = Literal[0, 1, 3]


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

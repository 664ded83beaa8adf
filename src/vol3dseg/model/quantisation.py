"""What the manifest says of a quantised graph; `vol3dseg.export.quantise` makes such graphs."""

from typing import Literal

from vol3dseg.schema import Frozen


class Quantisation(Frozen):
    """How a graph computes in integers, and what that cost against the float32 graph it came from.

    Attributes
    ----------
    precision : "int8"
    patches : int
        Of training cases, on which the ranges of activations were found.
    provider : str
        Runtime and device on which both graphs were judged.
    cases : int
        Whole prepared volumes of the validation part, through the predictor that is deployed.
    mean_dice : float
        Of the quantised graph on them.
    dice_drop : float
        By how much that is below the float32 graph's; negative if it is above.
    tolerance : float
        Largest drop that would have been accepted.
    label_agreement : float
        Share of voxels with the same label from both graphs.
    """

    precision: Literal["int8"]
    patches: int
    provider: str
    cases: int
    mean_dice: float
    dice_drop: float
    tolerance: float
    label_agreement: float

"""The section `training.grow_patch`: small patches first, the whole patch last."""

from typing import Annotated, Literal

from pydantic import Field

from vol3dseg.schema import Frozen, Positive, Share

Sides = tuple[int, int, int]


class GrowPatchConfig(Frozen):
    """A curriculum over the size of training patches: S. Fischer et al., arXiv:2510.23241, 2025.

    Attributes
    ----------
    start : float
        Share of each side of `recipe.patch_size` in the first stage, rounded up to what the network
        takes.
    stages : int
        Sizes from the first to the whole patch, which is the last.
    epochs : float
        Share of all epochs until the whole patch is reached; the stages before it share them
        evenly, and a stage that gets no epoch is left out.
    batch : "patches" or "voxels"
        What stays the same in a batch: the number of patches, which saves time, or that of voxels,
        so that there are more patches while they are small.
    """

    start: Annotated[Share, Field(gt=0, lt=1)] = 0.4
    stages: Annotated[Positive, Field(ge=2, le=100)] = 4
    epochs: Annotated[Share, Field(gt=0, lt=1)] = 0.75
    batch: Literal["patches", "voxels"] = "patches"

    def sides(self, stage: int, whole: Sides, divisor: Sides) -> Sides:
        """Return the voxels along i, j, k of a patch in a stage, multiples of `divisor`."""
        share = 1 - (1 - self.start) * (self.stages - 1 - stage) / (self.stages - 1)
        # A share of exactly so many multiples may come out a rounding error above them.
        i, j, k = (
            -int(-(share * n / d - 1e-9) // 1) * d for n, d in zip(whole, divisor, strict=True)
        )
        return i, j, k

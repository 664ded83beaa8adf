"""How tiles are laid, blended and mirrored, as a manifest says it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.schema import Amount, Frozen, Once, Share, Sides
from vol3dseg.space.box import Shape

Axis = Literal["i", "j", "k"]


class Tiling(Frozen):
    """How a volume that does not go through the network at once is put together again.

    Attributes
    ----------
    step : (3,) tuple of int
        From one blended tile to the next [voxels]; a tile is as large as the training patch.
    sigma : float
        Standard deviation of the Gaussian that tiles are weighted by, as a share of their side. The
        default is nnU-Net's choice (Isensee et al. 2021).
    floor : float
        The smallest weight of a voxel; the largest is near 1.
    padding : "zeros"
        What a tile holds beyond the volume.
    mirrorable : tuple of "i", "j", "k"
        Axes of the working grid that training mirrored, so that the network knows such views.
    mirror : tuple of "i", "j", "k"
        Those that a tile is mirrored along; outputs are averaged over all combinations of them.
    """

    step: Sides
    sigma: Annotated[Amount, Field(ge=1e-3, le=1e3)] = 0.125
    floor: Annotated[Share, Field(ge=1e-6)] = 1e-3
    padding: Literal["zeros"] = "zeros"
    mirrorable: Annotated[tuple[Axis, ...], Once] = ()
    mirror: Annotated[tuple[Axis, ...], Once] = ()

    @model_validator(mode="after")
    def _known_views(self) -> "Tiling":
        if unknown := sorted(set(self.mirror) - set(self.mirrorable)):
            raise ValueError(f"tiles cannot be mirrored along {unknown}, which training never was")
        return self

    @classmethod
    def of(cls, patch: Shape, overlap: float = 0.5, mirrorable: tuple[Axis, ...] = ()) -> "Tiling":
        """Return the tiling by patches, neighbours of which share `overlap` of their sides."""
        i, j, k = (max(1, round(n * (1 - overlap))) for n in patch)
        return cls(step=(i, j, k), mirrorable=mirrorable)

    @property
    def views(self) -> int:
        """How often the network runs on each tile."""
        return int(2 ** len(self.mirror))

    def step_of(self, size: Shape, patch: Shape) -> Shape:
        """Return the step for tiles of another size than the patch: the same share of it."""
        steps = zip(size, self.step, patch, strict=True)
        i, j, k = (max(1, round(n * step / side)) for n, step, side in steps)
        return i, j, k

"""How tiles are laid, blended and mirrored, as a manifest says it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vol3dseg.schema import Amount, Frozen, Once, Positive, Share, Sides
from vol3dseg.space.box import Shape

Axis = Literal["i", "j", "k"]


class Tiling(Frozen):
    """How a volume that does not go through the network at once is put together again.

    Attributes
    ----------
    step : (3,) tuple of int
        From one blended tile to the next [voxels]; a tile is as large as the training patch.
    spread : float or None
        The most that tiles may be apart, as a share of their side, where they are spread evenly
        from one end of the volume to the other. None puts them `step` apart, and the last one back.
    sigma : float
        Standard deviation of the Gaussian that tiles are weighted by, as a share of their side. The
        default is nnU-Net's choice (Isensee et al. 2021).
    floor : float
        The smallest weight of a voxel; the largest is near 1.
    weights : "centred" or "nnunet"
        The Gaussian's middle and its smallest values: in the middle of the tile, and no less than
        `floor`; or at voxel n // 2, in float16, where the smallest that is not zero stands for
        zeros.
    order : (3,) tuple of "i", "j", "k"
        Axes from the slowest to the fastest: tiles are run, and outputs added up, in this order.
    sums : "float32" or "float16"
        What sums of weighted outputs, and means, are rounded to. nnU-Net's float16 leaves whole
        numbers of logits near the corners of a volume, where weights are small.
    members_apart : int
        How many networks give their outputs side by side, channels of one after those of the other;
        each is blended by itself, and what is finished is averaged. 1 of a single network, and of
        several whose graph averages them.
    skip_empty : bool
        Whether a tile with nothing but zeros in it is background without being computed.
    padding : "zeros"
        What a tile holds beyond the volume.
    mirrorable : tuple of "i", "j", "k"
        Axes of the working grid that training mirrored, so that the network knows such views.
    mirror : tuple of "i", "j", "k"
        Those that a tile is mirrored along; outputs are averaged over all combinations of them.
    """

    step: Sides
    spread: Annotated[Share, Field(ge=0.1)] | None = None
    sigma: Annotated[Amount, Field(ge=1e-3, le=1e3)] = 0.125
    floor: Annotated[Share, Field(ge=1e-6)] = 1e-3
    weights: Literal["centred", "nnunet"] = "centred"
    order: Annotated[tuple[Axis, Axis, Axis], Once] = ("i", "j", "k")
    sums: Literal["float32", "float16"] = "float32"
    members_apart: Annotated[Positive, Field(le=64)] = 1
    skip_empty: bool = True
    padding: Literal["zeros"] = "zeros"
    mirrorable: Annotated[tuple[Axis, ...], Once] = ()
    mirror: Annotated[tuple[Axis, ...], Once] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Tiling":
        if unknown := sorted(set(self.mirror) - set(self.mirrorable)):
            raise ValueError(f"tiles cannot be mirrored along {unknown}, which training never was")
        if self.members_apart > 1 and self.skip_empty:
            raise ValueError("of several networks side by side all tiles are blended")
        return self

    @classmethod
    def of(cls, patch: Shape, overlap: float = 0.5, mirrorable: tuple[Axis, ...] = ()) -> "Tiling":
        """Return the tiling by patches, neighbours of which share `overlap` of their sides."""
        i, j, k = (max(1, round(n * (1 - overlap))) for n in patch)
        return cls(step=(i, j, k), mirrorable=mirrorable)

    @classmethod
    def of_nnunet(
        cls,
        patch: Shape,
        step_size: float = 0.5,
        mirrorable: tuple[Axis, ...] = (),
        order: tuple[Axis, Axis, Axis] = ("k", "j", "i"),
        members_apart: int = 1,
    ) -> "Tiling":
        """Return the tiling of nnU-Net's predictor, with its `tile_step_size` and mirroring.

        `order` is that of its arrays: k, j, i, permuted by the plans' transpose_forward. All tiles
        are computed and views are averaged, as it does unless told otherwise.
        """
        views = tuple(axis for axis in order if axis in mirrorable)
        return cls(
            step=cls.of(patch, 1 - step_size).step,
            spread=step_size,
            weights="nnunet",
            order=order,
            sums="float16",
            members_apart=members_apart,
            skip_empty=False,
            mirrorable=views,
            mirror=views,
        )

    @property
    def views(self) -> int:
        """How often the network runs on each tile."""
        return int(2 ** len(self.mirror))

    def graph_channels(self, outputs: Sequence[str]) -> int:
        """Return how many channels the graph gives, where each network has these outputs."""
        return len(outputs) * self.members_apart

    def member_problems(self, members: int) -> list[str]:
        """Say in which ways this does not fit so many networks."""
        apart = self.members_apart
        fits = apart in (1, members)
        return [] if fits else [f"{apart} networks are blended apart, of {members} members"]

    def step_of(self, size: Shape, patch: Shape) -> Shape:
        """Return the step for tiles of another size than the patch: the same share of it."""
        steps = zip(size, self.step, patch, strict=True)
        i, j, k = (max(1, round(n * step / side)) for n, step, side in steps)
        return i, j, k

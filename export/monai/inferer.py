"""A bundle's inferer as a tiling: `SlidingWindowInferer` alone."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, Strict

from vol3dseg.export.monai.arguments import component, parsed
from vol3dseg.export.monai.bundle_config import BundleConfig
from vol3dseg.export.monai.layers import three
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.recipe.definition import PatchSide
from vol3dseg.schema import Frozen, quoted
from vol3dseg.space.box import Shape

_KNOWN = "SlidingWindowInferer"
# How it is computed, not what.
_HOW = {
    *("sw_batch_size", "sw_device", "progress", "cache_roi_weight_map", "cpu_thresh"),
    *("buffer_steps", "buffer_dim"),
}
_ALIKE = 1.0  # a floor under weights that leaves them no difference


def _each(value: Any) -> Any:
    return [value] * 3 if isinstance(value, int | float) else value


_Overlap = Annotated[float, Strict(), Field(ge=0, le=0.9)]
_Sigma = Annotated[float, Strict(), Field(ge=1e-3, le=1e3)]


class _Arguments(Frozen):
    roi_size: Annotated[tuple[PatchSide, PatchSide, PatchSide], BeforeValidator(three)]
    overlap: Annotated[tuple[_Overlap, _Overlap, _Overlap], BeforeValidator(_each)] = (
        0.25,
        0.25,
        0.25,
    )
    mode: Literal["constant", "gaussian"] = "constant"
    sigma_scale: _Sigma = 0.125
    padding_mode: Literal["constant"] = "constant"
    cval: Literal[0] = 0
    with_coord: Literal[False] = False


class Inferer(NamedTuple):
    """How a network is run over a scan, and what MONAI's own inferer is made with."""

    patch_size: Shape
    tiling: Tiling
    arguments: dict[str, Any]


def read_inferer(config: BundleConfig) -> Inferer:
    """Return how tiles are laid and blended; ModelError says what cannot be carried."""
    found = component(config, config.part("inferer"), "inferer")
    if found is None or found.name != _KNOWN:
        name = "disabled" if found is None else quoted(found.name)
        raise config.refuse(f"its inferer is {name}", expected=_KNOWN)
    given = {key: value for key, value in found.arguments.items() if key not in _HOW}
    said = parsed(config, _Arguments, found.name, given)
    apart = zip(said.roi_size, said.overlap, strict=True)
    i, j, k = (max(1, int(side * (1 - overlap))) for side, overlap in apart)
    return Inferer(
        patch_size=said.roi_size,
        tiling=Tiling(
            step=(i, j, k),
            sigma=said.sigma_scale,
            floor=_ALIKE if said.mode == "constant" else 1e-3,
            skip_empty=False,
        ),
        arguments={
            "roi_size": said.roi_size,
            "overlap": said.overlap,
            "mode": said.mode,
            "sigma_scale": said.sigma_scale,
        },
    )

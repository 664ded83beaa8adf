"""From nnU-Net's plans to the recipe of a deployed model, along the axes of the stored file."""

from typing import Any

from pydantic import ValidationError

from vol3dseg.errors import ModelError
from vol3dseg.export.nnunet.plans import ONLY_ITS_OWN, Plans, Resampling, ResamplingOptions
from vol3dseg.recipe import NnunetRecipe
from vol3dseg.schema import problems

_METHODS = {
    "resample_data_or_seg_to_shape": "spline",
    "resample_torch_fornnunet": "torch",
    "no_resampling_hack": "none",
}
# What changes nothing here: how torch computes, and how label maps are resampled for training.
_FREE = {"num_threads", "device", "memefficient_seg_resampling"}
_CARRIED = {"order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold"}
_PLAIN = {"ZScoreNormalization": "zscore", "NoNormalization": "none",
          "RescaleTo01Normalization": "rescale", "RGBTo01Normalization": "rgb"}  # fmt: skip
_LEAST_DEVIATION = 1e-8


def recipe_of(plans: Plans, modalities: tuple[str, ...]) -> NnunetRecipe:
    """Return the recipe of these plans; ModelError says what of them cannot be carried."""
    content = {
        "kind": "nnunet",
        "modalities": modalities,
        "orientation": plans.orientation,
        "spacing_mm": plans.along_file(plans.spacing_mm),
        "normalisation": {
            name: _normalisation(plans, channel) for channel, name in enumerate(modalities)
        },
        "images": _resampling(plans.images, plans),
        "outputs": _resampling(plans.outputs, plans),
        "patch_size": plans.along_file(plans.patch_size),
    }
    try:
        return NnunetRecipe.model_validate(content)
    except ValidationError as error:
        found = problems(error, NnunetRecipe)
        raise ModelError(
            f"cannot be carried: {found}", where=_place(plans), remedy="run it with nnU-Net"
        ) from error


def _place(plans: Plans) -> str:
    return f"{plans.path}: configuration {plans.configuration}"


def _normalisation(plans: Plans, channel: int) -> dict[str, Any]:
    scheme, found = plans.schemes[channel], plans.intensities[channel]
    if scheme != "CTNormalization":
        inside = {"inside": "mask" if plans.masked[channel] else "box"}
        return {"method": _PLAIN[scheme], **(inside if _PLAIN[scheme] == "zscore" else {})}
    if found is None:
        raise ModelError(
            f"foreground_intensity_properties_per_channel lacks channel {channel}",
            where=plans.path,
            expected="mean, std and percentiles for CTNormalization",
            remedy="plan the dataset anew with nnUNetv2_plan_experiment",
        )
    return {
        "method": "ct",
        "low": found.percentile_00_5,
        "high": found.percentile_99_5,
        "mean": found.mean,
        "deviation": max(found.std, _LEAST_DEVIATION),
    }


def _resampling(way: Resampling, plans: Plans) -> dict[str, Any]:
    if way.function not in _METHODS:
        raise ModelError(
            f"resamples by {way.function!r:.80}",
            where=_place(plans),
            expected=f"one of {', '.join(_METHODS)}",
            remedy=ONLY_ITS_OWN,
        )
    options, usual = way.options, ResamplingOptions()
    for name in options.model_fields_set - _FREE - _CARRIED:
        found, wanted = getattr(options, name), getattr(usual, name)
        if found != wanted:
            raise ModelError(
                f"resamples with {name} {found!r:.60}",
                where=_place(plans),
                expected=str(wanted),
                remedy=ONLY_ITS_OWN,
            )
    method, separate = _METHODS[way.function], options.force_separate_z
    if method == "none":
        return {"method": method}
    if method == "spline" and "force_separate_z" not in options.model_fields_set:
        separate = False  # the default of that function alone
    orders = {"order": options.order, "order_z": options.order_z} if method == "spline" else {}
    beyond = options.separate_z_anisotropy_threshold
    return {"method": method, **orders, "separate_z": separate, "separate_beyond": beyond}

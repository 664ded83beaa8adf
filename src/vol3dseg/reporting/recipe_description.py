"""What is done to a scan, in words: the steps of a recipe of ours, of nnU-Net's and of MONAI's."""

from vol3dseg.recipe import ModelRecipe, MonaiRecipe, NnunetRecipe, Recipe
from vol3dseg.recipe.nnunet_resampling import Resampling
from vol3dseg.reporting.wording import times, worded


def recipe_steps(recipe: ModelRecipe) -> dict[str, str]:
    """Return the steps of a recipe, in the order in which they are done."""
    if isinstance(recipe, NnunetRecipe):
        return _steps_of_nnunet(recipe)
    if isinstance(recipe, MonaiRecipe):
        return _steps_of_monai(recipe)
    n4, spacing_mm = recipe.bias_correction, recipe.spacing_mm
    return {
        "modalities": ", ".join(recipe.modalities),
        "axes": f"closest to {recipe.orientation}",
        "bias correction": worded({"method": n4.method, **n4.model_dump(exclude_defaults=True)})
        if n4
        else "none",
        "crop": recipe.crop,
        "spacing": f"{times(spacing_mm)} mm, {recipe.interpolation}" if spacing_mm else "as it is",
        "normalisation": _normalised(recipe),
        "patch": f"{times(recipe.patch_size)} voxels",
    }


def _steps_of_nnunet(recipe: NnunetRecipe) -> dict[str, str]:
    """Return the steps of nnU-Net's preprocessing, in the order in which they are done."""
    turned = recipe.orientation != "stored"
    images, outputs = _resampled(recipe.images), _resampled(recipe.outputs)
    return {
        "modalities": ", ".join(recipe.modalities),
        "axes": f"closest to {recipe.orientation}" if turned else "as the file stores them",
        "crop": recipe.crop,
        "normalisation": _normalised(recipe),
        "spacing": f"{times(recipe.spacing_mm)} mm, {images}" if images else "as it is",
        "outputs": f"to the grid of the scan, {outputs}" if outputs else "as they are",
        "patch": f"{times(recipe.patch_size)} voxels",
    }


def _resampled(step: Resampling) -> str:
    """Return in words how nnU-Net resamples; empty where it does not."""
    if step.method == "none":
        return ""
    orders = {0: "nearest", 1: "linear", 3: "cubic"}
    if step.method == "torch":
        how, alone = "linear by torch", "nearest"
    else:
        how, alone = orders[step.order], orders[step.order_z]
    if step.separate_z is False:
        return how
    ratio = f" where its spacing is more than {step.separate_beyond:g} times another"
    return f"{how}; {alone} along the coarsest axis{'' if step.separate_z else ratio}"


def _steps_of_monai(recipe: MonaiRecipe) -> dict[str, str]:
    """Return the transforms of a bundle, in the order in which they are done."""
    return {
        "modalities": ", ".join(recipe.modalities),
        **{f"step {number}": str(step) for number, step in enumerate(recipe.steps, start=1)},
        "patch": f"{times(recipe.patch_size)} voxels",
    }


def _normalised(recipe: Recipe | NnunetRecipe) -> str:
    """Return how intensities are normalised, and which where not all are so."""
    scaled: dict[str, list[str]] = {}
    for modality, step in recipe.normalisation.items():
        scaled.setdefault(worded(step.model_dump()), []).append(modality)
    return "; ".join(
        f"{how} ({', '.join(of)})" if len(scaled) > 1 else how for how, of in scaled.items()
    )

"""What preparing a scan takes of memory, known from its grid alone."""

from math import prod

from vol3dseg.machine import usable_cores
from vol3dseg.preprocessing.monai_transforms import largest_monai_grid, monai_preparing_bytes
from vol3dseg.preprocessing.nnunet_steps import largest_nnunet_grid, nnunet_preparing_bytes
from vol3dseg.preprocessing.prepare import whole_grid
from vol3dseg.recipe import ModelRecipe, MonaiRecipe, NnunetRecipe
from vol3dseg.space.box import Shape
from vol3dseg.space.geometry import Geometry

_FLOAT = 4  # bytes
_MB = 2**20
# Beside arrays, measured by `python -m benchmarks.limits`.
_PREPARING_MB = 20.0
_RESAMPLING_MB = 35.0  # each thread
_N4_MB, _N4_IMAGES = 110.0, 6  # SimpleITK, and copies of an image in each thread


def largest_working_shape(recipe: ModelRecipe, source: Geometry) -> Shape:
    """Return the working shape of a scan of which nothing is cropped."""
    if isinstance(recipe, NnunetRecipe):
        return largest_nnunet_grid(recipe, source).shape
    if isinstance(recipe, MonaiRecipe):
        return largest_monai_grid(recipe, source).shape
    return whole_grid(recipe, source).shape


def preparing_takes_mb(recipe: ModelRecipe, source: Geometry, working: Shape) -> float:
    """Return what `prepare` takes at its peak, beside the scan as read and the result [MB].

    `working` is the shape of the result.
    """
    threads = usable_cores()
    if isinstance(recipe, NnunetRecipe):
        return _PREPARING_MB + nnunet_preparing_bytes(recipe, source, working) / _MB
    if isinstance(recipe, MonaiRecipe):
        return _PREPARING_MB + monai_preparing_bytes(recipe, source, working) / _MB
    taken = _PREPARING_MB
    if recipe.spacing_mm is not None:
        taken += _RESAMPLING_MB * threads
    if recipe.bias_correction is not None:
        image_mb = prod(source.shape) * _FLOAT / _MB
        taken += _N4_MB + _N4_IMAGES * image_mb * min(threads, len(recipe.modalities))
    return taken

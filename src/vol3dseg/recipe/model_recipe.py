"""The recipe of a deployed model, which is of one kind or another."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from vol3dseg.errors import ModelError
from vol3dseg.recipe.definition import Recipe
from vol3dseg.recipe.monai_recipe import MonaiRecipe
from vol3dseg.recipe.nnunet_recipe import NnunetRecipe


def _kind(recipe: Any) -> str:
    """Return which kind of recipe it is: ours, where nothing is said."""
    ours = "vol3dseg"
    if isinstance(recipe, Mapping):
        return str(recipe.get("kind", ours))
    return str(getattr(recipe, "kind", ours))


ModelRecipe: TypeAlias = Annotated[
    Annotated[Recipe, Tag("vol3dseg")]
    | Annotated[NnunetRecipe, Tag("nnunet")]
    | Annotated[MonaiRecipe, Tag("monai")],
    Discriminator(_kind),
]


def own_recipe(recipe: ModelRecipe, doing: str) -> Recipe:
    """Return the recipe of a model that was trained here, which `doing` needs.

    ModelError: the model was adopted, and its recipe is not one that scans are prepared for
    training by.
    """
    if isinstance(recipe, Recipe):
        return recipe
    raise ModelError(
        f"its recipe is that of {recipe.kind}",
        expected=f"one that vol3dseg has trained with, for {doing}",
        remedy="use it with vol3dseg predict",
    )

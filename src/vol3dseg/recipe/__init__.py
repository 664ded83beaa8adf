"""The recipe: what is done to a scan before the network sees it, and the steps that do it."""

from vol3dseg.recipe.definition import Recipe
from vol3dseg.recipe.model_recipe import ModelRecipe, own_recipe
from vol3dseg.recipe.monai_recipe import MonaiRecipe
from vol3dseg.recipe.nnunet_recipe import NnunetRecipe

__all__ = ["ModelRecipe", "MonaiRecipe", "NnunetRecipe", "Recipe", "own_recipe"]

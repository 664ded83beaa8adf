"""The recipe: what is done to a scan before the network sees it, and the steps that do it."""

from vol3dseg.recipe.definition import Recipe

__all__ = ["Recipe"]

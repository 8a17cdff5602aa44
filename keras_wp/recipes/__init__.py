"""Robust training in one call, and the recipes that it follows."""

from keras_wp.recipes.recipe import BUDGETS, Recipe
from keras_wp.recipes.training import Robustified, robustify

__all__ = ["BUDGETS", "Recipe", "Robustified", "robustify"]

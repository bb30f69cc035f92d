"""Recipes and settings: what users type."""

from alignlab.config.load import LoadedRecipe, dump_recipe, load_recipe, phase_data, report_data
from alignlab.config.settings import Settings

__all__ = ["LoadedRecipe", "Settings", "dump_recipe", "load_recipe", "phase_data", "report_data"]

"""Plugins: what is installed (from metadata alone), and what a run uses of it."""

from alignlab.plugins.found import Found, installed
from alignlab.plugins.manager import Plugins

__all__ = ["Found", "Plugins", "installed"]

"""alignlab check RECIPE: everything that can be known before training."""

import argparse

from alignlab.cli.run import add_set

HELP = "check a recipe's settings, plugins and data rows, and estimate its memory; trains nothing"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("recipe", help="a YAML file")
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 2 if a phase cannot run."""
    from alignlab.config import load_recipe

    loaded = load_recipe(args.recipe, args.set)  # before the slow imports: a typo is told at once
    from alignlab.engine.check import check

    return 0 if check(loaded) else 2

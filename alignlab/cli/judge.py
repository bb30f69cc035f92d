"""alignlab judge RECIPE|DATA: how far a judge agrees with labels that are known."""

import argparse

from alignlab.cli.run import add_set
from alignlab.cli.sample import positive

HELP = "measure how far a judge agrees with people's labels, or with a true reward"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "target",
        metavar="RECIPE|DATA",
        help="a recipe (.yaml) whose phases have run, or a file or hub id of preference rows",
    )
    parser.add_argument(
        "--judge",
        action="append",
        metavar="JUDGE",
        help="a judge as in a recipe: '{use: local, path: ./model}'; several are averaged (default: the recipe's own)",
    )
    parser.add_argument("--data", default="{}", help="keys of the data source, laid over the recipe's `data`")
    parser.add_argument("--constitution", help="ask under each of its principles")
    parser.add_argument("--truth", metavar="MODULE:FUNCTION", help="a reward that knows better than the rows' labels")
    parser.add_argument("--limit", type=positive, help="judge no more pairs than this")
    parser.add_argument("--output", help="where the report goes (default: runs/judge, or OUTPUT/judge of the recipe)")
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    """Ask, and print the agreement."""
    from pathlib import Path

    from alignlab.engine import judge as asking
    from alignlab.engine.display import Display

    display = Display()
    own = asking.parse(args.data, "--data")
    typed = [asking.parse(text, "--judge") for text in args.judge or ()]
    settings = asking.panel_settings({"judge": typed, "constitution": args.constitution}) if typed else None
    if args.target.endswith((".yaml", ".yml")):
        from alignlab.config import load_recipe
        from alignlab.engine.pipeline import Pipeline
        from alignlab.engine.plan import plan_source

        loaded = load_recipe(args.target, args.set)
        pipeline = Pipeline(loaded, display)
        sources = [mixed for phase in pipeline.phases for mixed in phase.sources]
        settings = settings or asking.recipe_panel(loaded, sources)
        mixed = plan_source(loaded, pipeline.plugins, {**loaded.recipe.data, **own}, ("data",))
        output = Path(args.output or pipeline.output / "judge")
        loader = pipeline.finished_judges()
    else:
        from alignlab.errors import RecipeError

        if settings is None:
            do = "name one: --judge '{use: openai, base_url: ..., model: ...}'"
            raise RecipeError("there is no judge", where="--judge", do=do)
        plugins = asking.core_plugins()
        output = Path(args.output or "runs/judge")
        mixed = asking.file_source(args.target, own, plugins)
        loader = asking.bare_loader(plugins, settings, output)
    known = asking.known_pairs(mixed, args.truth, only_held_out=mixed.data.eval > 0, limit=args.limit)
    asking.judge(known, settings, loader, output, display)
    return 0

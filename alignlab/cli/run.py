"""alignlab run RECIPE: run or resume a recipe."""

import argparse

HELP = "run or resume a recipe"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("recipe", help="a YAML file")
    parser.add_argument("--until", metavar="PHASE", help="stop after this phase, without the report")
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add `--set`, which may be given several times."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe: seed=1, phases.ppo.optimizer.kl_coef=0 (a phase by its name)",
    )


def run(args: argparse.Namespace) -> int:
    """Run every phase that is not done, then print the report if the recipe has one."""
    run_and_report(args.recipe, args.set, args.until)
    return 0


def run_and_report(recipe: str, overrides: list[str], until: str | None = None) -> dict[str, object] | None:
    """Run a recipe, print its report if it has one, and return that."""
    from alignlab.config import load_recipe

    loaded = load_recipe(recipe, overrides)  # before the slow imports: a typo is told at once
    from alignlab.engine.pipeline import Pipeline
    from alignlab.report import make_report, show_report

    pipeline = Pipeline(loaded)
    output = pipeline.run(until)
    report = make_report(loaded, pipeline) if until is None and pipeline.ranks.main else None
    if report is not None:
        show_report(report, output, pipeline.display)
    return report

"""alignlab report RUN...: print the reports of finished runs again."""

import argparse

HELP = "print the report of one or more runs"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run directory (a recipe's `output`)")


def run(args: argparse.Namespace) -> int:
    """Print every report."""
    from pathlib import Path

    from alignlab.engine.display import Display
    from alignlab.report import read_report, show_report

    display = Display()
    for name in args.runs:
        if len(args.runs) > 1:
            display.say(f"{name}:")
        show_report(read_report(Path(name)), Path(name), display)
    return 0

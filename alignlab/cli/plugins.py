"""alignlab plugins list: what is installed, from metadata alone, so that a broken plugin cannot hide itself."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from alignlab.cli.main import COMMANDS
from alignlab.plugins import Found, installed

HELP = "list the installed plugins"
COLUMNS = ("kind", "name", "distribution", "version", "module", "problem")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every installed plugin, and what is wrong with it; imports none of them")
    listing.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(args: argparse.Namespace) -> int:
    """Print them."""
    plugins = [_shadowed(found) for found in installed()]
    if args.json:
        print(json.dumps([asdict(found) for found in plugins], indent=2))
    else:
        _print_table(plugins)
    return 0


def _shadowed(found: Found) -> Found:
    if found.kind == "command" and found.name in COMMANDS:
        return replace(found, problem="alignlab has a command of that name, which is the one that runs")
    return found


def _print_table(plugins: Sequence[Found]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = [column for column in COLUMNS if column != "problem" or any(found.problem for found in plugins)]
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")  # a narrow terminal cuts nothing off
    for found in plugins:
        # Text, because what a plugin writes into its metadata is not rich's markup.
        cells = [Text(str(getattr(found, column))) for column in columns]
        table.add_row(*cells, style="red" if found.problem else None)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000  # a program reads it: a row stays one line
    console.print(table)

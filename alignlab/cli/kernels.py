"""alignlab kernels list: which implementation of each op this machine has."""

import argparse

HELP = "list the implementations of every op on this machine"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the implementations of every op, and how the native ones were built")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from rich.table import Table

    from alignlab import ops
    from alignlab.engine.display import Display

    display = Display()
    table = Table("op", "implementations")
    for op in ops.OPS:
        table.add_row(op, ", ".join(ops.implementations(op)))
    display.console.print(table)
    for name, fact in ops.build_facts().items():
        display.say(f"{name}: {fact}")
    return 0

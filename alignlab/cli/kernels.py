"""alignlab kernels: which implementations of each op this machine has, and the build of the native ones."""

import argparse

from alignlab.errors import AlignlabError

HELP = "list the implementations of every op on this machine, or build the native ones"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the implementations of every op, and how the native ones were built")
    actions.add_parser("build", help="compile the native ones against the torch that is installed here")


def run(args: argparse.Namespace) -> int:
    """Print the table, or build."""
    return _build() if args.action == "build" else _list()


def _list() -> int:
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


def _build() -> int:
    from alignlab.ops import _extension, build

    try:
        library = _extension.build_extension(build)
    except build.BuildError as error:
        raise AlignlabError(str(error), do="mend that; until then the reference ops serve") from error
    _extension.remember_built(library)
    print(f"built {library}")
    if _extension.is_installed():
        print("alignlab was installed with an extension of its own, and goes on to use that one")
    return 0

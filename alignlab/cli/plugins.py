"""alignlab plugins: list, write, install, uninstall and check plugins. Only `check` imports any, in another process."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from alignlab.cli.main import COMMANDS
from alignlab.cli.plugin_check import check
from alignlab.errors import AlignlabError
from alignlab.plugins import Found, installed
from alignlab.plugins.install import install
from alignlab.plugins.scaffold import USES, new_package
from alignlab.plugins.uninstall import uninstall

HELP = "list, write, install, uninstall and check plugins"
COLUMNS = ("kind", "name", "distribution", "version", "module", "problem")


class _WithPipOptions(argparse.ArgumentParser):
    """Keeps what stands behind `--` for pip, which argparse would take for more arguments of ours."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(args)
        end = words.index("--") if "--" in words else len(words)
        found, unknown = super().parse_known_args(words[:end], namespace)
        if hasattr(found, "specs"):  # argparse ends a list at the first option: SPEC -e DIR SPEC
            found.specs += [word for word in unknown if not word.startswith("-")]
            unknown = [word for word in unknown if word.startswith("-")]
        found.pip_options = words[end + 1 :]
        return found, unknown


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_WithPipOptions)
    listing = actions.add_parser("list", help="every installed plugin, and what is wrong with it; imports none of them")
    listing.add_argument("--json", action="store_true", help="as JSON, for programs")
    new = actions.add_parser(
        "new", help="write the package of a new plugin, with tests that pass and a recipe that runs"
    )
    new.add_argument("name", help="what recipes will call it; the package is alignlab-NAME")
    new.add_argument("--kind", choices=USES, default="method", help="what it adds (default: %(default)s)")
    new.add_argument("--directory", default=".", metavar="DIR", help="where the package's directory goes")
    add = actions.add_parser(
        "install",
        help="install plugins with pip, after a look at what that would change",
        usage="%(prog)s [-e DIR] [--yes] [SPEC ...] [-- PIP OPTIONS]",
    )
    add.add_argument(
        "specs", nargs="*", metavar="SPEC", help="what pip takes: NAME, NAME==1.0, a directory, wheel or URL"
    )
    add.add_argument("-e", "--editable", action="append", default=[], metavar="DIR", help="install DIR as it is edited")
    remove = actions.add_parser("uninstall", help="uninstall plugins with pip; works when they are broken, too")
    remove.add_argument("names", nargs="+", metavar="NAME", help="a plugin, or a distribution")
    for changing in (add, remove):
        changing.add_argument("--yes", action="store_true", help="replace and remove without asking")
    checking = actions.add_parser(
        "check", help="import a plugin, and run the conformance kit of everything it registers"
    )
    checking.add_argument(
        "plugin", metavar="NAME|PATH", help="a plugin, a distribution, or a directory or wheel of one"
    )
    checking.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the plugin, such as beta=0.2"
    )


def run(args: argparse.Namespace) -> int:
    """Do it."""
    if args.pip_options and args.action not in ("install", "check"):
        raise AlignlabError(f"`plugins {args.action}` passes no options to pip", do="leave out what stands behind `--`")
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "new": _new,
        "install": _install,
        "uninstall": _uninstall,
        "check": _check,
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    plugins = [_shadowed(found) for found in installed()]
    if args.json:
        print(json.dumps([asdict(found) for found in plugins], indent=2))
    else:
        _print_table(plugins)
    return 0


def _new(args: argparse.Namespace) -> int:
    target = new_package(args.name, args.kind, Path(args.directory))
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        print(path)
    print(f"next: cd {target}; alignlab plugins install -e '.[dev]'; pytest; alignlab run recipe.yaml")
    return 0


def _install(args: argparse.Namespace) -> int:
    if not args.specs and not args.editable:
        raise AlignlabError("there is nothing to install", do="alignlab plugins install SPEC, or -e DIR")
    return install(args.specs, args.editable, args.pip_options, yes=args.yes)


def _uninstall(args: argparse.Namespace) -> int:
    return uninstall(args.names, yes=args.yes)


def _check(args: argparse.Namespace) -> int:
    return check(args.plugin, args.set, args.pip_options)


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

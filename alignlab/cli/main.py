"""`alignlab COMMAND`: find the command, run it, and turn errors into what, where and what to do."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from alignlab import __version__
from alignlab.cli.plugin_command import PluginCommand
from alignlab.errors import AlignlabError, did_you_mean
from alignlab.plugins import installed

# What `alignlab --help` shows, so that it need not import the commands: each is the module of its name in alignlab.cli.
COMMANDS = {
    "demo": "run the whole pipeline (SFT, reward model, PPO, DPO) on a built-in small world, in a few minutes on a CPU",
    "run": "run or resume a recipe",
    "check": "check a recipe's settings, plugins and data rows, and estimate its memory; trains nothing",
    "report": "print the report of one or more runs",
    "replay": "replay a batch whose loss or gradient was not finite: which weights, rows, tokens and terms are not",
    "judge": "measure how far a judge agrees with people's labels, or with a true reward",
    "sample": "answer prompts with the models of a run, side by side",
    "plugins": "list, write, install, uninstall and check plugins",
    "kernels": "list the implementations of every op on this machine, or build the native ones",
    "certify": "train methods in a world whose answers can all be listed, and compare them with the exact optimum",
    "bench": "time the implementations of every op against each other on this machine",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a quota, a limit on files
NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)  # a directory of others
RESUMABLE = ("demo", "run")
USER_ERROR, INTERNAL_ERROR, INTERRUPTED, BROKEN_PIPE = 2, 1, 130, 1
TRACEBACK = "--traceback"


class Command(Protocol):
    """What runs: a module of alignlab.cli, or what a plugin registered."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; return the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for an error that the user can mend, 1 for one of alignlab's own."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    show_traceback = TRACEBACK in arguments[:end]
    arguments = [word for word in arguments[:end] if word != TRACEBACK] + arguments[end:]
    # No global option takes a value, so the first word that is no option is the command.
    name = next((word for word in arguments if not word.startswith("-")), None)
    try:
        code = _run(name, arguments)
        sys.stdout.flush()  # here, so that a reader who left is noticed here
    except BrokenPipeError:
        # As Python's documentation has it: what is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        again = ": run the same command again to go on from the last checkpoint" if name in RESUMABLE else ""
        return _say(f"interrupted{again}", INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (*FULL, *NOT_OURS):
            do = "set `output` to a directory that you may write to"
            if error.errno in FULL:
                again = ", and run the same command again to go on from the last checkpoint"
                do = f"make room there{again if name in RESUMABLE else ''}"
            error = AlignlabError(f"cannot write: {error.strerror}", where=error.filename, do=do)
        if show_traceback:
            sys.excepthook(type(error), error, error.__traceback__)
            return USER_ERROR if isinstance(error, AlignlabError) else INTERNAL_ERROR
        if isinstance(error, AlignlabError):
            return _say(f"error: {error}", USER_ERROR)
        hint = f"  to do: run it again with {TRACEBACK} to see where, and report it"
        return _say(f"internal error: {type(error).__name__}: {error}\n{hint}", INTERNAL_ERROR)
    return code


def _run(name: str | None, arguments: Sequence[str]) -> int:
    """Parse the arguments of the command called `name`, the only one that is imported, and run it."""
    parser = argparse.ArgumentParser(
        prog="alignlab",
        description="Alignment of language models as three stages: data, reward, optimizer.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"alignlab {__version__}")
    parser.add_argument(TRACEBACK, action="store_true", help="show the traceback of an error; may stand anywhere")
    commands = parser.add_subparsers(metavar="COMMAND")
    for known, text in COMMANDS.items():
        commands.add_parser(known, help=text, description=text)
    command: Command | None = None
    if name in COMMANDS:
        command = cast(Command, import_module(f"alignlab.cli.{name}"))
    else:
        plugins = {found.name: found for found in installed() if found.kind == "command" and found.name not in COMMANDS}
        for known, found in plugins.items():
            commands.add_parser(known, help=f"a plugin's: {found.distribution} {found.version}")
        if name in plugins:
            command = PluginCommand(plugins[name])
        elif name is not None:
            raise AlignlabError(f"there is no command {name!r}", do=did_you_mean(name, commands.choices))
    if command is not None and name is not None:
        command.configure(commands.choices[name])
    args = parser.parse_args(arguments)
    if command is None:
        parser.print_help(sys.stderr)
        return USER_ERROR
    return command.run(args)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code

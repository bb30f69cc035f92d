"""A command that a plugin registers (`register_commands`)."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alignlab.errors import AlignlabError, PluginError
from alignlab.plugins import Found, Plugins


class PluginCommand:
    """A plugin's command: what goes wrong in it is said to be the plugin's."""

    def __init__(self, found: Found) -> None:
        """Import the plugin, and take its command."""
        self.found = found
        self.command: Any = Plugins().get("command", found.name)

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Let the plugin add its arguments."""
        parser.description = getattr(self.command, "help", None)
        with self._blaming("configure"):
            self.command.configure(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Let the plugin run; a command that returns nothing did well."""
        with self._blaming("run"):
            return int(self.command.run(args) or 0)

    @contextmanager
    def _blaming(self, part: str) -> Iterator[None]:
        try:
            yield
        except (AlignlabError, BrokenPipeError):
            raise
        except Exception as error:
            raise PluginError(
                f"{part}() of {self.found} raised {type(error).__name__}: {error}", do="--traceback shows where"
            ) from error

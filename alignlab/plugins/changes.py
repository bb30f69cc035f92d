"""What pip changes: seen in the metadata before and after, and agreed to first."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import invalidate_caches

from packaging.utils import canonicalize_name

from alignlab.errors import PluginError
from alignlab.plugins.found import UNKNOWN, Found, about, current, plugins_of

Versions = dict[str, tuple[str, str]]  # by pip's key: the name as its author writes it, and the version


def versions() -> Versions:
    """Return what is installed, as a new process sees it: this one still has the directories of editable ones."""
    command = [sys.executable, "-m", "alignlab.plugins.changes"]
    done = subprocess.run(command, cwd=sys.prefix, stdout=subprocess.PIPE, text=True, check=True)
    return {key: (name, version) for key, (name, version) in json.loads(done.stdout).items()}


def agreed(what: str, yes: bool) -> bool:
    """Ask whether to go on. Raises PluginError where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise PluginError(what, do="run it again with --yes, if that is meant: there is no terminal to ask at")
    if input(f"{what}. Go on? [y/N] ").strip().lower() in ("y", "yes"):
        return True
    print("nothing was changed")
    return False


def listed(plugins: Sequence[Found]) -> str:
    """Return plugins on one line."""
    return ", ".join(
        one.problem if one.kind == UNKNOWN else f"{one.kind} {one.name} (module {one.module})" for one in plugins
    )


def say_changes(before: Versions, after: Versions) -> None:
    """Print what pip did, as the metadata has it."""
    invalidate_caches()
    plugins: dict[str, list[Found]] = {canonicalize_name(about(one)[0]): plugins_of(one) for one in current()}
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        what = f": {listed(plugins[key])}" if plugins.get(key) else ""
        if key not in after:
            print(f"removed {' '.join(before[key])}")
        elif key not in before:
            print(f"added {' '.join(after[key])}{what}")
        else:
            print(f"replaced {' '.join(before[key])} by {after[key][1]}{what}")


if __name__ == "__main__":
    names = [about(distribution)[:2] for distribution in current()]
    print(json.dumps({canonicalize_name(name): (name, version) for name, version in names}))

"""What is installed, from metadata alone: nothing here imports a plugin, so a broken one locks nobody out.

A plugin is an entry point of the group `alignlab`, named `kind.name` for what it registers ("method.dpo"), or a bare
name where it only hooks in.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from alignlab import __version__
from alignlab.errors import PluginError, did_you_mean
from alignlab.hooks import PROJECT
from alignlab.plugins.core import is_core
from alignlab.plugins.versions import declared_range, fits

GROUP = "alignlab"
REGISTERS = {
    "method": "register_methods",
    "reward": "register_rewards",
    "judge": "register_judges",
    "data": "register_data",
    "optimizer": "register_optimizers",
    "generator": "register_generators",
    "kernel": "register_kernels",
    "tracker": "register_trackers",
    "command": "register_commands",
}
WORDS = {"data": "data source"}  # what errors call a kind that its own name does not tell
HOOKS = "hooks"  # the kind of a plugin that registers nothing
UNKNOWN = "?"
UNREGISTERED = "no distribution"  # of what a program hands over itself


@dataclass(frozen=True)
class Found:
    """One installed plugin, as its distribution's metadata describes it."""

    kind: str
    name: str
    module: str
    distribution: str
    version: str
    problem: str = ""
    requires: str = ""
    """The versions of alignlab that its distribution asks for; empty if any will do."""

    def __str__(self) -> str:
        """Return what an error needs to name."""
        version = "" if self.distribution == UNREGISTERED else f" {self.version}"
        return f"plugin {self.kind} {self.name!r} of {self.distribution}{version} (module {self.module})"

    @property
    def mend(self) -> str:
        """Return the commands that may mend it."""
        upgrade = f"pip install -U {self.distribution}"
        return upgrade if self.distribution == PROJECT else f"{upgrade}, or pip uninstall {self.distribution}"

    @property
    def misfit(self) -> str:
        """Return why this alignlab is not one that it was built for, or nothing."""
        return "" if fits(self.requires) else f"is for alignlab {self.requires}, and this is alignlab {__version__}"


def installed() -> list[Found]:
    """List the plugins of every installed distribution, each with its problem if it has one."""
    found = sorted(
        (plugin for distribution in current() for plugin in plugins_of(distribution)),
        key=lambda one: (one.kind, one.name, one.distribution),
    )
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in found:
        owners[one.kind, one.name].append(one.distribution)
    return [_with_rivals(one, owners[one.kind, one.name]) for one in found]


def current(path: Iterable[str] | None = None) -> list[Distribution]:
    """List the distributions of sys.path, or of another path, each once.

    The first is the one that is imported; a second copy further down, a stale egg-info say, is not.
    """
    found: dict[str, Distribution] = {}
    for distribution in distributions() if path is None else distributions(path=list(path)):
        found.setdefault(canonicalize_name(about(distribution)[0]), distribution)
    return list(found.values())


def split_name(entry_point: str) -> tuple[str, str]:
    """Split "method.dpo" into kind and name; what has no known kind only hooks in."""
    kind, _, name = entry_point.partition(".")
    return (kind, name) if name and kind in REGISTERS else (HOOKS, entry_point)


def doubled(kind: str, name: str, owners: Sequence[Found]) -> PluginError:
    """Return the error for a name that several distributions give to their plugins."""
    names = " and ".join(f"{owner.distribution} {owner.version}" for owner in owners)
    removable = " or ".join(owner.distribution for owner in owners if owner.distribution != PROJECT)
    return PluginError(
        f"two plugins register the {WORDS.get(kind, kind)} {name!r}: {names}",
        do=f"pip uninstall {removable}" if removable else "register it once",
    )


def about(distribution: Distribution) -> tuple[str, str, str]:
    """Return a distribution's name, version and problem; metadata that cannot be read is somebody else's."""
    stem = Path(str(getattr(distribution, "_path", UNKNOWN))).stem
    try:
        metadata: Any = distribution.metadata  # typeshed knows get() from Python 3.12 on
        name, version = metadata.get("Name"), metadata.get("Version")
    except Exception as error:
        return stem, UNKNOWN, f"its METADATA cannot be read: {error}"
    return name or stem, version or UNKNOWN, "" if name and version else "its METADATA has no name or version"


def plugins_of(distribution: Distribution) -> list[Found]:
    """List the plugins of one distribution; whether another one has a name of theirs is not looked at."""
    name, version, problem = about(distribution)
    try:
        points: list[EntryPoint] = [point for point in distribution.entry_points if point.group == GROUP]
    except Exception as error:
        problem = f"its entry_points.txt cannot be read: {error}"
        return [Found(UNKNOWN, UNKNOWN, UNKNOWN, name, version, problem)] if _concerns_us(distribution) else []
    if not points:
        return []  # most are none, and what they ask of alignlab need not be read
    requires = "" if problem or name == PROJECT else declared_range(distribution)
    found = []
    for point in points:
        kind, plain = split_name(point.name)
        one = Found(kind, plain, point.value, name, version, problem or _name_problem(point), requires)
        found.append(replace(one, problem=f"it {one.misfit}") if one.misfit and not one.problem else one)
    return found


def _concerns_us(distribution: Distribution) -> bool:
    """Return whether entry points that cannot be parsed may be plugins."""
    try:
        return GROUP in (distribution.read_text("entry_points.txt") or "")
    except Exception:  # not even text
        return True


def _name_problem(point: EntryPoint) -> str:
    kind, dot, name = point.name.partition(".")
    if dot and kind not in REGISTERS:
        return f"there is no kind {kind!r} of plugin; {did_you_mean(kind, REGISTERS)}"
    if dot and not name:
        return f"its name is empty: {point.name!r}"
    return ""


def _with_rivals(one: Found, owners: Sequence[str]) -> Found:
    """Say that a name is doubled, where it is."""
    others = [owner for owner in owners if owner != one.distribution]
    if not others and is_core(one.kind, one.name):
        others = [PROJECT]
    if one.problem or not others:
        return one
    return replace(one, problem=f"{', '.join(others)} has a {WORDS.get(one.kind, one.kind)} of that name too")

"""Uninstall plugins: pip does it, after a word on what goes. No plugin is imported, so a broken one goes too."""

import sys
from collections.abc import Sequence
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from alignlab.errors import PluginError, did_you_mean
from alignlab.hooks import PROJECT
from alignlab.plugins.changes import agreed, listed, say_changes, versions
from alignlab.plugins.found import Found, about, current, plugins_of, split_name
from alignlab.plugins.pip import pip


def uninstall(names: Sequence[str], *, yes: bool) -> int:
    """Uninstall the distributions of plugins; return the exit code: 1 if the user does not want it.

    A name is a distribution's, a plugin's, or kind.name. Raises PluginError if it is none of these, or alignlab's own.
    """
    there = current()
    plugins = [plugin for distribution in there for plugin in plugins_of(distribution)]
    chosen = {canonicalize_name(found): found for found in (_distribution_of(name, plugins) for name in names)}
    for key, owner in chosen.items():
        going = [one for one in plugins if canonicalize_name(one.distribution) == key]
        print(f"{owner} {going[0].version}: {listed(going)}")
        for other in there:
            if canonicalize_name(about(other)[0]) not in chosen and _needs(other, key):
                print(f"  {about(other)[0]} needs it, and will not work without it")
    if not agreed(f"this uninstalls {' and '.join(chosen.values())}", yes):
        return 1
    before = versions()
    for distribution in there:
        if canonicalize_name(about(distribution)[0]) in chosen:
            _make_readable(distribution)
    pip("uninstall", "--yes", *chosen.values())
    after = versions()
    say_changes(before, after)
    for distribution in there:
        name = about(distribution)[0]
        if canonicalize_name(name) in chosen.keys() & after.keys():
            what = f"pip left {name} where it is: it is broken, or outside of this environment"
            raise PluginError(what, where=_home(distribution), do="delete that directory, and the modules beside it")
    return 0


def _distribution_of(name: str, plugins: Sequence[Found]) -> str:
    """Return the distribution that a name stands for."""
    owners = {one.distribution for one in plugins if canonicalize_name(one.distribution) == canonicalize_name(name)}
    kind, plain = split_name(name)
    owners = owners or {one.distribution for one in plugins if (one.kind, one.name) == (kind, plain)}
    owners = owners or {one.distribution for one in plugins if one.name == name}
    if not owners:
        known = {one.name for one in plugins} | {one.distribution for one in plugins} - {PROJECT}
        raise PluginError(
            f"no plugin, and no distribution of plugins, is called {name!r}", do=did_you_mean(name, known)
        )
    owners = owners - {PROJECT} or owners  # of a name that is alignlab's too, the other one is meant
    if len(owners) > 1:
        several = " and ".join(sorted(owners))
        raise PluginError(f"{name!r} may mean {several}", do="name the distribution that you want to uninstall")
    if owners == {PROJECT}:
        raise PluginError(
            f"{name!r} is part of alignlab itself", do="leave it: a recipe that does not name it is not changed by it"
        )
    return owners.pop()


def _make_readable(distribution: Distribution) -> None:
    """Empty entry points that cannot be parsed, of a distribution that goes: pip reads them too, and would stop."""
    try:
        list(distribution.entry_points)
    except Exception:
        Path(_home(distribution), "entry_points.txt").write_text("")


def _home(distribution: Distribution) -> str:
    """Return the directory of a distribution's metadata."""
    return str(getattr(distribution, "_path", sys.prefix))


def _needs(distribution: Distribution, key: str) -> bool:
    try:
        needed = [Requirement(line) for line in distribution.requires or ()]
    except Exception:  # what cannot be read needs nothing that we know of
        return False
    needed = [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return key in {canonicalize_name(one.name) for one in needed}

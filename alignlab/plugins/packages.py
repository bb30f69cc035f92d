"""What distributions own: names of plugins and top-level modules, of which nobody may have another's."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import PurePosixPath

from packaging.utils import canonicalize_name

from alignlab.errors import PluginError
from alignlab.hooks import PROJECT
from alignlab.plugins.core import is_core
from alignlab.plugins.found import WORDS, Found, about, plugins_of

CODE = (".py", ".so", ".pyd")


@dataclass(frozen=True)
class Package:
    """One distribution that is to be installed."""

    name: str
    version: str
    plugins: tuple[Found, ...]
    modules: frozenset[str]

    @property
    def key(self) -> str:
        """Return the name as pip compares it."""
        return canonicalize_name(self.name)

    def __str__(self) -> str:
        """Return the distribution and its version."""
        return f"{self.name} {self.version}"


def read_package(distribution: Distribution) -> Package:
    """Return what a distribution owns, from its files. Parts of a namespace that others may share are not owned."""
    modules = set()
    for file in distribution.files or ():
        path = PurePosixPath(file)
        if path.suffix in CODE and (len(path.parts) == 1 or (len(path.parts) == 2 and path.stem == "__init__")):
            modules.add(path.parts[0].partition(".")[0])
    name, version, _ = about(distribution)
    return Package(name, version, tuple(plugins_of(distribution)), frozenset(modules - {"", ".."}))


def refuse_clashes(new: Sequence[Package], there: Sequence[Distribution]) -> None:
    """Raise PluginError if a new package takes a name or a module that another one has, or hides one of Python's.

    `there` is what is installed; what is replaced by a new package of the same name does not count.
    """
    keys = {package.key for package in new}
    others = [one for one in there if canonicalize_name(about(one)[0]) not in keys]
    owners = {(one.kind, one.name): one for distribution in others for one in plugins_of(distribution)}
    for i, package in enumerate(new):
        for plugin in package.plugins:
            owner = owners.get((plugin.kind, plugin.name))
            what = f"{WORDS.get(plugin.kind, plugin.kind)} {plugin.name!r}"
            if is_core(plugin.kind, plugin.name):
                raise _refused(package, what, PROJECT, "")
            if owner is not None:
                raise _refused(package, what, owner.distribution, owner.version)
        for module in sorted(package.modules):
            if module in sys.stdlib_module_names:
                raise _refused(package, f"module {module!r}", "Python", "")
            for distribution in others:
                if _owns(distribution, module):
                    raise _refused(package, f"module {module!r}", *about(distribution)[:2])
        for earlier in new[:i]:
            _refuse_pair(earlier, package)


def _refuse_pair(first: Package, second: Package) -> None:
    names = [{(one.kind, one.name) for one in package.plugins} for package in (first, second)]
    shared = [f"{WORDS.get(kind, kind)} {name!r}" for kind, name in sorted(names[0] & names[1])]
    shared += [f"module {module!r}" for module in sorted(first.modules & second.modules)]
    if shared:
        raise PluginError(f"{first} and {second} both own the {shared[0]}", do="install only one of them")


def _refused(package: Package, what: str, owner: str, version: str) -> PluginError:
    do = f"pip uninstall {owner}, then try again"
    if owner in (PROJECT, "Python"):
        do = "leave it out; its author: give it another name"
    return PluginError(f"{package} cannot be installed: the {what} belongs to {owner} {version}".rstrip(), do=do)


def _owns(distribution: Distribution, module: str) -> bool:
    """Return whether an installed distribution has a top-level module, from its RECORD.

    An editable one has none of its modules there; setuptools lists them in top_level.txt.
    """
    try:
        record, listed = (distribution.read_text(name) or "" for name in ("RECORD", "top_level.txt"))
    except Exception:  # a broken distribution is in nobody's way
        return False
    suffixes = "|".join(re.escape(suffix) for suffix in CODE)
    path = rf"^\"?{re.escape(module)}(/__init__)?(\.[^/,]+)?({suffixes})\"?,"
    return module in listed.split() or re.search(path, record, re.MULTILINE) is not None

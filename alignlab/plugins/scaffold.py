"""Write a new plugin's package from the templates in alignlab/templates."""

import keyword
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from string import Template

from packaging.utils import canonicalize_name

from alignlab.errors import PluginError
from alignlab.hooks import PROJECT
from alignlab.plugins.core import is_core
from alignlab.plugins.found import WORDS, about, current, installed
from alignlab.plugins.versions import next_range

TEMPLATES = Path(__file__).parents[1] / "templates"
COMMON = "common"  # what a package of every kind has
SUFFIX = ".tmpl"  # so that nobody takes a template for a module
# What a recipe says to use a plugin of that kind, for its README.
USES = {
    "method": "optimizer: {method: $name, ...}",
    "reward": "reward: [{use: $name}]",
    "judge": "judge: {use: $name}",
    "data": "data: {source: $name}",
    "kernel": "plugins: [kernel.$name]",
    "tracker": "trackers: [$name]",
}
# What the tests of a kind need beside pytest, and what the package holds beside Python.
EXTRAS = {"kernel": ', "ninja"'}
DATA = {"kernel": '"*.cpp", '}


def new_package(name: str, kind: str, parent: Path) -> Path:
    """Write a package for a plugin of that kind and name below `parent`, and return its directory.

    Raises PluginError, before anything is written, if the name cannot be one of a plugin, of a distribution or of a
    module, if it is taken, or if there is such a directory.
    """
    words = _words(name, kind)
    target = parent / words["distribution"]
    _check_free(words, target)
    files = {path: text for folder in (COMMON, kind) for path, text in _filled(TEMPLATES / folder, words)}
    for path, text in files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")
    return target


def _words(name: str, kind: str) -> dict[str, str]:
    """Return what stands for each placeholder. Raises PluginError if the name is no good one."""
    base = name.removeprefix(f"{PROJECT}-")
    plain = base.replace("-", "_")
    # A narrower rule than those of PEP 508 and Python, so that one name can be a distribution's, a module's and a
    # recipe's.
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", plain):
        nearest = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", base).lower()).strip("-0123456789")
        raise PluginError(
            f"a plugin cannot be called {name!r}",
            do=f"take lower-case letters, digits and single hyphens, a letter first: {nearest or 'my-' + kind}",
        )
    if keyword.iskeyword(plain) or plain in (PROJECT, "core", kind):
        raise PluginError(f"a plugin cannot be called {name!r}: the word has a meaning", do=f"my-{plain}, for example")
    distribution = f"{PROJECT}-{plain.replace('_', '-')}"
    return {
        "name": plain,
        "Name": "".join(word.capitalize() for word in plain.split("_")),
        "kind": kind,
        "words": WORDS.get(kind, kind),
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "range": next_range(),
        "use": Template(USES[kind]).substitute(name=plain),
        "extras": EXTRAS.get(kind, ""),
        "data": DATA.get(kind, ""),
    }


def _check_free(words: dict[str, str], target: Path) -> None:
    kind, name = words["kind"], words["name"]
    owners = [one.distribution for one in installed() if (one.kind, one.name) == (kind, name)]
    if is_core(kind, name):
        owners.append(PROJECT)
    if owners:
        raise PluginError(f"the {words['words']} {name!r} is there already, of {owners[0]}", do="take another name")
    taken = {canonicalize_name(about(one)[0]) for one in current()}
    if words["distribution"] in taken or find_spec(words["package"]) is not None:
        raise PluginError(f"a package {words['distribution']!r} is installed already", do="take another name")
    if target.exists() or target.is_symlink():
        raise PluginError(f"{target} is there already", do="take another name, or another --directory")


def _filled(folder: Path, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the files of a template, by their paths below the package, with every placeholder replaced."""
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        place = path.relative_to(folder).as_posix().removesuffix(SUFFIX)
        yield Template(place).substitute(words), Template(path.read_text(encoding="utf-8")).substitute(words)

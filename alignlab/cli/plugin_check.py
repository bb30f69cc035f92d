"""alignlab plugins check: import a plugin, and run the conformance kit of everything it registers.

The plugin is imported in a process of its own (this module, run), so that what it does while it is imported stays
there, and so that a package in a directory can be checked as if it were installed.
"""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from alignlab.errors import AlignlabError, PluginError, did_you_mean
from alignlab.hooks import PROJECT
from alignlab.plugins import Found, Plugins, installed
from alignlab.plugins.found import HOOKS, WORDS, current, split_name
from alignlab.plugins.packages import read_package, refuse_clashes
from alignlab.plugins.pip import check_options, staged

FAILED = 1
KITS = ("method", "reward", "judge", "data")  # alignlab.testing has check_KIND and KIND_CHECKS
Check = tuple[str, Callable[[], object]]


def check(plugin: str, settings: Sequence[str], options: Sequence[str]) -> int:
    """Check an installed plugin, or one in a directory or wheel, and return the exit code: 1 if a check fails."""
    if not Path(plugin).exists():
        return _run_child(sorted({f"{one.kind}.{one.name}" for one in _named(plugin)}), settings)
    check_options(options)
    with staged([str(Path(plugin).resolve())], options) as (directory, distributions):
        packages = [read_package(distribution) for distribution in distributions]
        names = [f"{one.kind}.{one.name}" for package in packages for one in package.plugins]
        if not names:
            what = f"{plugin} holds no plugin: it has no entry point of the group 'alignlab'"
            raise PluginError(what, do="name one below [project.entry-points.alignlab] in pyproject.toml")
        refuse_clashes(packages, current())
        return _run_child(names, settings, directory)


def _named(name: str) -> list[Found]:
    """Return the installed plugins that a name stands for: kind.name, a plugin's, or a distribution's."""
    there = installed()
    found = [one for one in there if (one.kind, one.name) == split_name(name)]
    found = found or [one for one in there if one.name == name]
    found = found or [one for one in there if canonicalize_name(one.distribution) == canonicalize_name(name)]
    if not found:
        known = {one.name for one in there} | {one.distribution for one in there}
        raise PluginError(f"there is no plugin, distribution or path {name!r}", do=did_you_mean(name, known))
    return found


def _run_child(names: Sequence[str], settings: Sequence[str], directory: Path | None = None) -> int:
    for text in settings:
        if not all(text.partition("=")[:2]):
            raise PluginError(f"--set wants KEY=VALUE, came {text!r}", do="for example --set beta=0.2")
    if settings and len(names) > 1:
        raise PluginError(f"--set is for one plugin, and these are {', '.join(names)}", do="check them one by one")
    environment = dict(os.environ)
    if directory is not None:
        path = [str(directory), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(path)
    sys.stdout.flush()
    command = [sys.executable, "-m", "alignlab.cli.plugin_check", *names, "--set", *settings]
    return subprocess.run(command, env=environment).returncode


def main(words: Sequence[str]) -> int:
    """Check installed plugins in this process: `kind.name ... --set KEY=VALUE ...`; return the exit code."""
    from alignlab.config.yaml_lines import parse_value  # not above: pydantic fails where metadata is broken

    end = list(words).index("--set")
    settings = {key: parse_value(value) for key, _, value in (text.partition("=") for text in words[end + 1 :])}
    num, broken = 0, 0
    for name in words[:end]:
        for what, error in _checked(*split_name(name.removeprefix(f"{HOOKS}.")), settings):
            num += 1
            broken += error is not None
            _say(what, error)
    print(f"{broken} of {num} checks failed" if broken else f"all {num} checks passed")
    return FAILED if broken else 0


def _checked(kind: str, name: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, BaseException | None]]:
    """Check one plugin: yield what was looked at, and what is wrong with it."""
    found = [one for one in installed() if (one.kind, one.name) == (kind, name)]
    one = min(found, key=lambda each: each.distribution == PROJECT)  # of a name that is alignlab's too, the other
    print(f"{WORDS.get(kind, kind)} {name} of {one.distribution} {one.version} (module {one.module})")
    what = f"metadata; for alignlab {one.requires or 'of any version'}"
    yield what, PluginError(one.problem) if one.problem else None
    if one.problem:
        return
    what, error = _tried("import and registration", partial(_load, kind, name, settings))
    yield what, error
    if error is None:
        for check in _kit(kind, name, settings):
            yield _tried(*check)


def _load(kind: str, name: str, settings: Mapping[str, Any]) -> None:
    """Import a plugin, let it register, and see whether what it registers takes the settings."""
    from pydantic import BaseModel, ValidationError

    plugins = Plugins(import_module("alignlab.builtin"))  # by its name: it imports torch, which the parent must not
    if kind == HOOKS:
        plugins.use(name)
        return
    registered = plugins.get(kind, name)
    record = getattr(registered, "settings", registered)  # of a data source; others are records of their settings
    if isinstance(record, type) and issubclass(record, BaseModel):
        try:
            record(**settings)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise PluginError(f"its settings do not fit: {wrong}", do="give those to check it with by --set") from error
    elif settings:
        raise PluginError(f"a {kind} takes no settings", do="leave out --set")


def _kit(kind: str, name: str, settings: Mapping[str, Any]) -> Iterator[Check]:
    """Yield the checks that the kit has for a kind."""
    from alignlab import ops, testing

    if kind == "kernel":
        for op in (op for op in ops.OPS if name in ops.implementations(op)):
            yield f"op {op}", partial(testing.check_op, op, name)
    elif kind in KITS:
        for check in getattr(testing, f"{kind.upper()}_CHECKS"):
            yield check, partial(getattr(testing, f"check_{kind}"), name, settings, checks=[check])
    else:
        print(f"  -       the kit has nothing for {'what only hooks in' if kind == HOOKS else f'a {kind}'}")


def _tried(what: str, call: Callable[[], object]) -> tuple[str, BaseException | None]:
    start = time.monotonic()
    error: BaseException | None = None
    try:
        call()
    except (Exception, SystemExit) as raised:
        error = raised
    return f"{what} ({time.monotonic() - start:.1f} s)", error


def _say(what: str, error: BaseException | None) -> None:
    print(f"  {'ok' if error is None else 'broken':7} {what}", flush=True)
    if error is not None:
        named = isinstance(error, (AlignlabError, AssertionError))
        text = str(error) if named and str(error) else f"{type(error).__name__}: {error}"
        print(textwrap.indent(text, " " * 10), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The plugins of one run: names are resolved from metadata, and only what a run uses is imported and called."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import pluggy

from alignlab import __version__
from alignlab.errors import AlignlabError, PluginError, did_you_mean
from alignlab.hooks import FAMILIES, PROJECT
from alignlab.plugins.blame import culprit
from alignlab.plugins.found import (
    GROUP,
    HOOKS,
    REGISTERS,
    UNKNOWN,
    UNREGISTERED,
    WORDS,
    Found,
    doubled,
    installed,
    split_name,
)
from alignlab.plugins.kernels import serve

CORE = "core"  # the kind of what is always on
HOOK_NAMES = sorted(name for family in FAMILIES for name in vars(family) if not name.startswith("_"))
BATCH = ("tokens", "valid", "acted", "unit")


class Stage(NamedTuple):
    """One of the three stages."""

    function: str  # the method's own
    argument: str  # of the hook, beside `run` and `method`
    wanted: str
    attributes: tuple[str, ...]  # of what it returns: its class stands further right in the layers than plugins


STAGES = {
    "data_stage": Stage("data", "records", "a Batch", BATCH),
    "reward_stage": Stage("reward", "batch", "a Batch", BATCH),
    "optimizer_stage": Stage("optimize", "batch", "a Loss", ("total", "metrics")),
}


class Plugins:
    """The plugins of one run."""

    def __init__(self, builtin: ModuleType | None = None) -> None:
        """Start with the core's own registrations."""
        self.manager = pluggy.PluginManager(PROJECT)
        for family in FAMILIES:
            self.manager.add_hookspecs(family)
        self._installed = installed()
        self._used: dict[str, Found] = {}  # by "kind.name", which is pluggy's name for it too
        self._objects: dict[tuple[str, str], Any] = {}
        self._owners: dict[tuple[str, str], Found] = {}
        if builtin is not None:
            self._take(builtin, Found(CORE, "builtin", builtin.__name__, PROJECT, __version__))

    def use(self, name: str, where: str | None = None) -> None:
        """Use a plugin that a recipe lists: a bare entry point, or `kind.name`. `where` goes into errors."""
        with _at(where):
            self._load(*split_name(name))

    def get(self, kind: str, name: str, where: str | None = None) -> Any:
        """Return the registered object of that kind and name, importing its plugin if need be.

        `where`, the place that the name stands in, goes into errors. Raises PluginError.
        """
        key = (kind, name)
        with _at(where):
            if key not in self._objects:
                self._load(kind, name)
            if key not in self._objects:
                self._raise_unregistered(kind, name)
            owner = self._owners[key]
            rivals = [one for one in self._entry_points(kind, name) if one.distribution != owner.distribution]
            if rivals and owner.distribution != UNREGISTERED:
                raise doubled(kind, name, [owner, *rivals])
        return self._objects[key]

    def offer(self, kind: str, item: Any) -> None:
        """Register an object that no distribution does, over whatever else has its name: a test's own method, say."""
        key = (kind, item.name)
        found = Found(kind, item.name, getattr(item, "__module__", type(item).__module__), UNREGISTERED, UNKNOWN)
        self._objects[key], self._owners[key] = item, found
        self._used[f"{kind}.{item.name}"] = found

    def owner(self, kind: str, name: str) -> Found | str:
        """Return the plugin that has registered an object, or what to call it if none has."""
        return self._owners.get((kind, name), f"{kind} {name!r}")

    def used(self) -> list[dict[str, str]]:
        """Return the plugins that this run uses, beside the core's own, for the manifest."""
        return [
            {"kind": one.kind, "name": one.name, "distribution": one.distribution, "version": one.version}
            for one in self._used.values()
            if one.kind != CORE
        ]

    def stage(self, hook: str, innermost: Callable[[Any, Any], Any], *, run: Any, method: Any, given: Any) -> Any:
        """Call a stage: `innermost(run, given)`, the method's own, inside what wraps the hook.

        Raises PluginError when a plugin raises or returns something that is not a stage's result.
        """
        caller = getattr(self.manager.hook, hook)
        wrappers = [self._used[implementation.plugin_name] for implementation in caller.get_hookimpls()]

        def own() -> Any:
            do = f"let its {STAGES[hook].function}() return {STAGES[hook].wanted}"
            return _checked(hook, innermost(run, given), [self.owner("method", _name(method))], do)

        with self._blaming(hook, method):
            if not wrappers:
                return own()
            result = caller.call_extra([own], {"run": run, "method": method, STAGES[hook].argument: given})
        return _checked(hook, result, wrappers, "return what the wrapper's `yield` gave, or its successor")

    def event(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin that observes it."""
        caller = getattr(self.manager.hook, hook)
        if caller.get_hookimpls():
            with self._blaming(hook):
                caller(**arguments)

    def _entry_points(self, kind: str, name: str) -> list[Found]:
        return [one for one in self._installed if (one.kind, one.name) == (kind, name)]

    def _load(self, kind: str, name: str) -> None:
        """Import the one plugin of this kind and name, and take what it registers."""
        if f"{kind}.{name}" in self._used:
            return
        owners = self._entry_points(kind, name)
        if not owners:
            self._raise_unknown(kind, name)
        if len(owners) > 1:
            raise doubled(kind, name, owners)
        self._take(_import(owners[0]), owners[0])

    def _raise_unknown(self, kind: str, name: str) -> NoReturn:
        if kind == HOOKS:
            what = f"there is no plugin {name!r}"
            known = {one.name if one.kind == HOOKS else f"{one.kind}.{one.name}" for one in self._installed}
        else:
            what = f"there is no {WORDS.get(kind, kind)} {name!r}"
            known = {one.name for one in self._installed if one.kind == kind}
            known |= {registered for k, registered in self._objects if k == kind}
        raise PluginError(what, do=f"{did_you_mean(name, known)} (`alignlab plugins list` shows what is installed)")

    def _raise_unregistered(self, kind: str, name: str) -> NoReturn:
        found = self._used[f"{kind}.{name}"]
        registered = [n for (k, n), owner in self._owners.items() if k == kind and owner.module == found.module]
        hint = f"; {did_you_mean(name, registered)}" if registered else ""
        do = f"let its {REGISTERS[kind]}() return an object whose `name` is {name!r}{hint}"
        raise PluginError(f"{found} registers no {kind} of that name", do=do)

    def _take(self, plugin: Any, found: Found) -> None:
        """Register a plugin, and take what it registers."""
        self._used[f"{found.kind}.{found.name}"] = found
        if self.manager.is_registered(plugin):  # two entry points to one module
            return
        self._register(plugin, found)
        for kind, hook in REGISTERS.items():
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                if implementation.plugin is plugin:
                    self._collect(kind, implementation.function, found)

    def _register(self, plugin: Any, found: Found) -> None:
        """Register with pluggy. What would never be called, or not as it was meant, is an error."""
        for name in HOOK_NAMES:
            function = getattr(plugin, name, None)
            if callable(function) and not hasattr(function, f"{PROJECT}_impl"):
                raise PluginError(f"{found} has a function {name} without @hookimpl", do="mark it, or rename it")
        try:
            self.manager.register(plugin, name=f"{found.kind}.{found.name}")
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            unknown = re.search(r"unknown hook '(\w+)'", str(error))
            surplus = re.search(r"for hook '(\w+)'[^$]*Argument\(s\) {(.*)} are declared", str(error))
            if unknown:
                what, do = f"it implements {unknown[1]!r}, which is no hook", did_you_mean(unknown[1], HOOK_NAMES)
            elif surplus:
                known = getattr(self.manager.hook, surplus[1]).spec.argnames
                what = f"its {surplus[1]} wants {surplus[2]}, which the hook does not give"
                do = f"take some of its arguments: {', '.join(known) or 'it has none'} (docs/hooks.md)"
            else:
                what, do = str(error).strip().splitlines()[-1], "docs/hooks.md shows each hook's arguments"
            raise PluginError(f"{found} does not fit: {what}", do=do) from error
        for stage in STAGES:
            for implementation in getattr(self.manager.hook, stage).get_hookimpls():
                if implementation.plugin is plugin and not implementation.wrapper:
                    raise PluginError(
                        f"{found} implements {stage} without wrapping it; the run's method is what a stage calls",
                        do="mark it with @hookimpl(wrapper=True), and `yield` for the method's own result",
                    )

    def _collect(self, kind: str, function: Callable[[], Any], found: Found) -> None:
        """Take the objects that a plugin registers."""
        hook = REGISTERS[kind]
        try:
            returned = function()
            if not isinstance(returned, Iterable) or isinstance(returned, str):
                raise PluginError(f"{hook} of {found} returned {returned!r:.80}", do="return a list of objects")
            registered = list(returned)
        except AlignlabError:
            raise
        except Exception as error:
            raise _raised(hook, found, error) from error
        for item in registered:
            name = getattr(item, "name", None)
            if not isinstance(name, str) or not name:
                raise PluginError(f"{hook} of {found} returned {item!r:.80}, which has no `name`", do="give it one")
            if kind == "kernel":
                # A kernel's name is that of a backend, which serves many ops: alignlab.ops keeps them, by op and name.
                serve(item, found)
                self._objects[kind, name], self._owners[kind, name] = item, found
                continue
            if (owner := self._owners.get((kind, name))) is not None:
                raise doubled(kind, name, [owner, found])
            self._objects[kind, name], self._owners[kind, name] = item, found

    @contextmanager
    def _blaming(self, hook: str, method: Any = None) -> Iterator[None]:
        """Name the plugin whose code an exception came through last, and the hook."""
        try:
            yield
        except AlignlabError:
            raise
        except Exception as error:
            implementations = getattr(self.manager.hook, hook).get_hookimpls()
            owners: dict[Any, Found | str] = {one.function: self._used[one.plugin_name] for one in implementations}
            if hook in STAGES:
                owners[getattr(type(method), STAGES[hook].function)] = self.owner("method", _name(method))
            found = culprit(error, owners)
            if found is None:
                raise
            raise _raised(hook, found, error) from error


def _import(found: Found) -> Any:
    """Return what a plugin's entry point names. Whether it was built for this alignlab is asked first."""
    if found.misfit:
        do = f"pip install -U {found.distribution}, or pip install 'alignlab{found.requires}'"
        raise PluginError(f"{found} {found.misfit}", do=do)
    try:
        return EntryPoint(found.name, found.module, GROUP).load()
    except (Exception, SystemExit) as error:
        what, do = f"{type(error).__name__}: {error}", found.mend
        if isinstance(error, ModuleNotFoundError) and f"{found.module.partition(':')[0]}.".startswith(f"{error.name}."):
            what = f"its entry point names a module that is not installed, {error.name!r}"
            do = f"{do}; its author: mend {found.kind}.{found.name} in pyproject.toml"
        raise PluginError(f"{found} cannot be imported: {what}", do=do) from error


@contextmanager
def _at(where: str | None) -> Iterator[None]:
    """Say where a name stands, in an error that does not say where yet."""
    try:
        yield
    except PluginError as error:
        error.where = error.where or where
        raise


def _name(method: Any) -> str:
    return str(getattr(method, "name", UNKNOWN))


def _raised(hook: str, found: Found | str, error: Exception) -> PluginError:
    return PluginError(f"{hook} of {found} raised {type(error).__name__}: {error}", do="--traceback shows where")


def _checked(hook: str, result: Any, suspects: Sequence[Found | str], do: str) -> Any:
    """Return what a stage returned, if it can be what the stage must return."""
    if all(hasattr(result, name) for name in STAGES[hook].attributes):
        return result
    what = f"{hook} returned {result!r:.80}, wanted {STAGES[hook].wanted}"
    raise PluginError(what, where=" or ".join(map(str, suspects)), do=do)

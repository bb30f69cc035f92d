"""Install plugins: pip does it, after a look at what it would do. Nothing here imports a plugin."""

from collections.abc import Sequence

from packaging.utils import canonicalize_name

from alignlab import __version__
from alignlab.errors import PluginError
from alignlab.hooks import PROJECT
from alignlab.plugins.changes import Versions, agreed, say_changes, versions
from alignlab.plugins.found import current
from alignlab.plugins.packages import Package, read_package, refuse_clashes
from alignlab.plugins.pip import check_options, pip, planned, requirement, staged


def install(specs: Sequence[str], editable: Sequence[str], options: Sequence[str], *, yes: bool) -> int:
    """Install plugins, and say what that adds; return the exit code: 1 if the user does not want it.

    `specs` is what pip takes (names with versions, directories, wheels, URLs), `editable` are directories, `options`
    are pip's. Each plugin is built first, into a place of its own. Raises PluginError, before anything has changed, if
    it is none, was built for another alignlab, takes a name or a module of someone else, or if pip cannot install it.
    """
    check_options(options)
    with staged([*specs, *editable], options) as (_, distributions):
        packages = [read_package(distribution) for distribution in distributions]
    for package in packages:
        _check_plugin(package)
    there = current()
    refuse_clashes(packages, there)
    arguments = [*options, *specs, *(word for path in editable for word in ("--editable", path))]
    items = planned(arguments)
    if not items:
        print(
            f"nothing to do: {' and '.join(map(str, packages))} there already (`-- --force-reinstall`: install again)"
        )
        return 0
    coming: Versions = {}
    for item in items:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        coming[canonicalize_name(name)] = (name, version)
    if PROJECT in coming:
        _, version = coming[PROJECT]
        raise PluginError(
            f"this would replace alignlab {__version__} by {version}", do=f"pip install alignlab=={version}, by itself"
        )
    known = {package.key for package in packages}
    dependencies = [item for item in items if canonicalize_name(item["metadata"]["name"]) not in known]
    if dependencies:
        # One of them may be a plugin too, or bring a module of someone else.
        with staged([requirement(item) for item in dependencies], options) as (_, distributions):
            refuse_clashes([*packages, *(read_package(one) for one in distributions)], there)
    before = versions()
    replaced = [f"{before[key][0]} {before[key][1]} by {coming[key][1]}" for key in coming if key in before]
    if replaced and not agreed(f"this replaces {', '.join(replaced)}", yes):
        return 1
    pip("install", "--quiet", *arguments)
    after = versions()
    say_changes(before, after)
    for key in coming:
        if key in before and before[key] == after.get(key):
            print(f"installed {' '.join(before[key])} again")
    return 0


def _check_plugin(package: Package) -> None:
    if package.key == PROJECT:
        raise PluginError("alignlab itself is no plugin", do=f"pip install -U {PROJECT}")
    if not package.plugins:
        what = f"{package} is no plugin: it has no entry point of the group 'alignlab'"
        raise PluginError(what, do=f"pip install {package.name}, if that is what you want")
    for plugin in package.plugins:
        if plugin.misfit:
            do = f"pip install 'alignlab{plugin.requires}', or install another version of {package.name}"
            raise PluginError(f"{package} {plugin.misfit}", do=do)
        if plugin.problem:
            raise PluginError(f"{package} cannot be installed: {plugin.problem}", do="its author has to mend it")

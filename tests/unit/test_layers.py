"""Imports only go left (DESIGN.md 2).

Every import statement counts: at the top, inside a function, and under TYPE_CHECKING too, because who reads a type has
to know the module that it comes from. Modules that share a layer do not import each other, but for those in TOGETHER.
"""

import ast
import sys
from pathlib import Path

import pytest

import alignlab

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
LAYERS = [
    {"errors", "ops", "atomic"},
    {"hooks", "batch"},
    {"config", "plugins"},
    {"method", "losses"},
    {"models", "data"},
    {"generate", "rewards"},
    {"engine", "builtin"},
    {"certify"},
    {"cli", "report"},
]
# builtin is the list of what the core registers (trackers and optimizers of the engine among it, and the rows, reward
# and judge of certification), which the engine starts from; `alignlab run` ends in a report; `alignlab plugins check`
# runs the conformance kit, and nothing else may.
TOGETHER = {
    ("engine", "builtin"),
    ("builtin", "engine"),
    ("builtin", "certify"),
    ("cli", "report"),
    ("cli", "testing"),
}
ANYONE = {"__init__", "__version__", "_C"}  # `import alignlab` is for its __version__
MAY_IMPORT_ALL = {"testing"}
FOR_PLUGINS = {"alignlab", "alignlab.losses", "alignlab.ops"}

CORE = sorted(path for path in (ROOT / "alignlab").rglob("*.py"))
PLUGINS = sorted([*(ROOT / "plugins").glob("*/src/**/*.py"), *(ROOT / "tests/third_party").glob("*/src/**/*.py")])


def imports(path):
    """Yield the full name of everything that a file imports: the module, and for `from` the name in it."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            yield from (f"{base}{node.module or ''}.{alias.name}".replace("..", ".") for alias in node.names)


def part(name):
    """Return the layer's module of "alignlab.config.load.load_recipe": config. Public names count for their homes."""
    first = name.split(".")[1] if "." in name else "__init__"
    return alignlab._HOMES[first].split(".")[1] if first in alignlab._HOMES else first


def layer(module):
    return next(i for i, modules in enumerate(LAYERS) if module in modules)


def wrong(importer, imported):
    if imported in ANYONE or importer == imported or importer in MAY_IMPORT_ALL or (importer, imported) in TOGETHER:
        return False
    return layer(imported) >= layer(importer)


def test_every_module_of_alignlab_has_a_layer():
    found = {path.relative_to(ROOT / "alignlab").with_suffix("").parts[0] for path in CORE}
    known = set().union(*LAYERS, MAY_IMPORT_ALL)
    assert found - known - {"__init__", "__main__"} == set()
    assert len(CORE) > 40


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_left(path):
    module = path.relative_to(ROOT / "alignlab").with_suffix("").parts[0]
    if module in ("__init__", "__main__"):
        return  # the public names, each from its home
    ours = [name for name in imports(path) if name.split(".")[0] == "alignlab"]
    assert [name for name in ours if wrong(module, part(name))] == []


def test_this_test_sees_an_import_to_the_right():
    assert wrong("errors", part("alignlab.config.load.load_recipe"))
    assert wrong("batch", part("alignlab.MethodSettings"))
    assert wrong("data", part("alignlab.models.load"))
    assert not wrong("method", part("alignlab.Batch"))
    assert not wrong("engine", part("alignlab.builtin"))


def test_alignlab_never_imports_a_plugin():
    packages = {path.name for path in (ROOT / "plugins").glob("*/src/*") if path.is_dir()}
    assert "alignlab_rlhf" in packages
    for path in CORE:
        assert {name.split(".")[0] for name in imports(path)} & packages == set(), path


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_plugin_imports_only_public_names(path):
    for name in imports(path):
        module, _, attribute = name.rpartition(".")
        if name.split(".")[0] == "alignlab" and name not in FOR_PLUGINS:
            assert module in FOR_PLUGINS, name
            assert module != "alignlab" or attribute in alignlab.__all__, name


def test_ops_import_torch_and_no_other_dependency():
    for path in (path for path in CORE if path.is_relative_to(ROOT / "alignlab" / "ops")):
        foreign = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
        assert foreign <= {"torch", "alignlab"}, path
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("alignlab.")}
        assert ours <= {"ops", "_C"}, path


def test_public_names_stand_where_alignlab_looks_for_them():
    for name in alignlab.__all__:
        assert getattr(alignlab, name) is not None


def test_plugins_of_the_repository_are_laid_out_as_a_third_partys():
    for directory in (path for path in (ROOT / "plugins").iterdir() if path.is_dir()):
        project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
        assert project["dependencies"] == ["alignlab"], directory
        assert (directory / "src" / project["name"].replace("-", "_") / "__init__.py").is_file()

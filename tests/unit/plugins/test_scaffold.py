"""What `alignlab plugins new` writes. That the packages work is for tests/packaging, which installs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from alignlab import __version__
from alignlab.config import load_recipe
from alignlab.errors import PluginError
from alignlab.plugins.found import REGISTERS
from alignlab.plugins.scaffold import TEMPLATES, USES, new_package

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
every_kind = pytest.mark.parametrize("kind", USES)


def refused(name, kind, parent):
    with pytest.raises(PluginError) as raised:
        new_package(name, kind, parent)
    assert list(parent.iterdir()) == []
    return raised.value


def test_there_is_a_template_for_every_kind_and_for_nothing_else():
    assert {path.name for path in TEMPLATES.iterdir()} == {"common", *USES}
    assert set(USES) < set(REGISTERS)


@every_kind
def test_a_package_names_one_plugin_and_the_versions_of_alignlab_it_is_for(tmp_path, kind):
    target = new_package("two-words", kind, tmp_path)
    assert target == tmp_path / "alignlab-two-words"
    project = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert project["name"] == "alignlab-two-words"
    assert project["entry-points"] == {"alignlab": {f"{kind}.two_words": "alignlab_two_words"}}
    assert project["dependencies"] == [f"alignlab>={__version__},<0.2"]
    assert (target / "src/alignlab_two_words/__init__.py").is_file()
    assert (target / "tests/test_two_words.py").is_file()


@every_kind
def test_no_placeholder_is_left(tmp_path, kind):
    target = new_package("mine", kind, tmp_path)
    for path in (path for path in target.rglob("*") if path.is_file()):
        text = path.read_text().replace("${{ matrix.python }}", "")  # GitHub's
        assert "$" not in text + path.name, path
        assert not path.name.endswith(".tmpl")


@every_kind
def test_the_recipe_and_the_workflow_are_what_their_readers_take(tmp_path, kind):
    target = new_package("mine", kind, tmp_path)
    recipe = load_recipe(target / "recipe.yaml").recipe
    assert "mine" in json.dumps(recipe.model_dump(mode="json"))
    workflow = yaml.safe_load((target / ".github/workflows/test.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step][-1] == "pytest"


def test_what_is_written_passes_lint_and_types(tmp_path):
    targets = [new_package(f"my-{kind}", kind, tmp_path) for kind in USES]
    sources = [str(target / "src") for target in targets]
    ours = ["--config", str(ROOT / "pyproject.toml")]
    for command in (
        ["ruff", "check", "--no-cache", *map(str, targets)],  # by what the package itself says
        ["ruff", "check", "--no-cache", *ours, *sources],
        ["ruff", "format", "--no-cache", "--check", *map(str, targets)],
        ["mypy", *sources],
    ):
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MyMethod", "my-method"),
        ("my method", "my-method"),
        ("2fast", "fast"),
        ("fast--er", "fast-er"),
        ("fast/er", "fast-er"),
        ("-fast", "fast"),
        ("Größe", "gr-e"),
        ("../fast", "fast"),
        ("", "my-method"),
    ],
)
def test_a_name_that_is_none_of_a_package_is_refused_with_the_nearest_that_is(tmp_path, name, nearest):
    error = refused(name, "method", tmp_path)
    assert error.what == f"a plugin cannot be called {name!r}"
    assert error.do.endswith(f": {nearest}")


@pytest.mark.parametrize("name", ["class", "lambda", "alignlab", "method", "alignlab-class"])
def test_a_name_that_means_something_else_is_refused(tmp_path, name):
    assert "the word has a meaning" in refused(name, "method", tmp_path).what


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("ppo", "method", "the method 'ppo' is there already, of alignlab"),
        ("alignlab-dpo", "method", "the method 'dpo' is there already, of alignlab"),
        ("rows", "data", "the data source 'rows' is there already, of alignlab"),
        ("length", "reward", "the reward 'length' is there already, of alignlab"),
        ("fast", "method", "the method 'fast' is there already, of speeds"),
        ("rlaif", "method", "a package 'alignlab-rlaif' is installed already"),
        ("slow", "method", "a package 'alignlab-slow' is installed already"),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path, distribution, name, kind, what):
    distribution("speeds", entry_points={"method.fast": "fast"})
    distribution("alignlab-slow")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(name, kind, empty).what == what


def test_the_name_of_another_kind_is_free(tmp_path):
    assert new_package("length", "method", tmp_path).is_dir()


def test_a_directory_that_is_there_is_left_as_it_is(tmp_path):
    there = tmp_path / "alignlab-fast"
    there.mkdir()
    with pytest.raises(PluginError, match="alignlab-fast is there already"):
        new_package("fast", "method", tmp_path)
    assert list(there.iterdir()) == []

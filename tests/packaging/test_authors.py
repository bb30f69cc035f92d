"""The packages of tests/third_party as their users have them: installed from wheels, in a fresh environment."""

import json
import shutil
from pathlib import Path

import pytest

THIRD_PARTY = Path(__file__).parents[1] / "third_party"
PLUGINS = {
    "alignlab-grpo": ("method", "grpo", "alignlab_grpo"),
    "alignlab-kto": ("method", "kto", "alignlab_kto"),
    "alignlab-length-penalty": ("hooks", "length_penalty", "alignlab_length_penalty"),
    "alignlab-rloo": ("method", "rloo", "alignlab_rloo"),
    "alignlab-sqlite": ("tracker", "sqlite", "alignlab_sqlite"),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A copy of the packages, so that building them leaves nothing in the tree."""
    copies = tmp_path_factory.mktemp("packages")
    for distribution in PLUGINS:
        shutil.copytree(THIRD_PARTY / distribution, copies / distribution)
    return copies


@pytest.fixture(scope="module")
def with_packages(installed, packages, build_wheels):
    """The environment with alignlab's wheel, and with those of the packages."""
    installed.install(*build_wheels(packages / distribution for distribution in PLUGINS))
    return installed


def test_every_package_of_an_author_is_here():
    assert {path.name for path in THIRD_PARTY.glob("alignlab-*")} == PLUGINS.keys()


def test_pip_installs_the_wheels_and_plugins_list_shows_them(with_packages):
    listed = json.loads(with_packages.run("alignlab", "plugins", "list", "--json").stdout)
    shown = {row["distribution"]: row for row in listed if row["distribution"] in PLUGINS}
    assert {name: (row["kind"], row["name"], row["module"]) for name, row in shown.items()} == PLUGINS
    assert {(row["version"], row["problem"]) for row in shown.values()} == {("0.1.0", "")}


def test_their_own_tests_pass_there_the_conformance_kit_and_a_run_of_each_recipe_among_them(with_packages, packages):
    quiet = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error")
    others = [packages / name for name in PLUGINS if name != "alignlab-grpo"]  # whose test_writing_a_method.py runs
    done = with_packages.run("python", "-m", "pytest", *quiet, *others, OMP_NUM_THREADS="1")
    assert " passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.parametrize(
    ("letters", "method"),
    [
        (2, "rloo:steps=120,warmup_steps=15"),
        (2, "grpo:kl_in=reward,std=false,steps=120,warmup_steps=15"),
        (1, "kto:desirable_weight=60,beta=0.1,steps=150,batch_size=512"),
    ],
)
def test_a_method_is_certified_there(with_packages, tmp_path, letters, method):
    world = ("--letters", letters, "--hidden-size", "32", "--seeds", "0", "1", "--json", "--output", tmp_path)
    done = with_packages.run("alignlab", "certify", method, *world, OMP_NUM_THREADS="1")
    assert [one["passed"] for one in json.loads(done.stdout)] == [True, True]


@pytest.mark.parametrize("method", ["grpo", "kto", "rloo"])
def test_a_method_is_one_file_of_less_than_100_lines(method):
    (module,) = (THIRD_PARTY / f"alignlab-{method}" / "src").rglob("*.py")
    assert len([line for line in module.read_text().splitlines() if line.strip()]) < 100

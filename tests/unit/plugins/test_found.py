"""Plugins are real distributions on sys.path: modules and dist-info that importlib.metadata finds."""

import sys

import pytest

from alignlab import __version__, builtin
from alignlab.plugins import Plugins, installed
from alignlab.plugins.core import NAMES


def listed(**wanted):
    return [one for one in installed() if all(getattr(one, key) == value for key, value in wanted.items())]


def test_plugins_are_listed_from_metadata_without_importing_them(distribution):
    points = {"method.fast": "never_imported", "timer": "never_imported:hooks"}
    distribution("fast-methods", "2.1", points, never_imported="raise RuntimeError('imported')")
    timer, method_ = listed(distribution="fast-methods")
    assert (method_.kind, method_.name, method_.module) == ("method", "fast", "never_imported")
    assert (timer.kind, timer.name, timer.module) == ("hooks", "timer", "never_imported:hooks")
    assert (timer.version, timer.problem) == ("2.1", "")
    assert "never_imported" not in sys.modules


def test_the_methods_of_alignlab_itself_are_listed():
    assert {one.name for one in listed(kind="method", distribution="alignlab")} >= {"sft", "reward_model", "ppo", "dpo"}


def test_a_doubled_name_is_listed_with_the_other_distribution(distribution):
    distribution("one", entry_points={"method.fast": "one"})
    distribution("two", entry_points={"method.fast": "two"})
    assert {one.distribution: one.problem for one in listed(name="fast")} == {
        "one": "two has a method of that name too",
        "two": "one has a method of that name too",
    }


def test_an_unknown_kind_is_listed_with_the_nearest(distribution):
    distribution("odd", entry_points={"methd.fast": "odd"})
    (odd,) = listed(distribution="odd")
    assert odd.problem == "there is no kind 'methd' of plugin; did you mean 'method'?"


def test_entry_points_that_cannot_be_parsed_are_listed_and_raise_nothing(distribution):
    about = distribution("torn", "0.3")
    (about / "entry_points.txt").write_text("[alignlab]\nmethod.fast\n")
    (torn,) = listed(distribution="torn")
    assert (torn.kind, torn.version) == ("?", "0.3")
    assert torn.problem.startswith("its entry_points.txt cannot be read")


def test_metadata_that_is_missing_is_listed_and_the_plugin_still_named(distribution):
    about = distribution("bare", entry_points={"method.fast": "bare"})
    (about / "METADATA").unlink()
    (bare,) = listed(name="fast")
    assert (bare.distribution, bare.version) == ("bare-1.0", "?")
    assert bare.problem.startswith("its METADATA ")


def test_a_broken_distribution_that_is_no_plugin_is_not_listed(distribution):
    about = distribution("stranger")
    (about / "entry_points.txt").write_text("[console_scripts]\nbroken\n")
    assert listed(distribution="stranger") == []


def test_a_second_copy_of_a_distribution_further_down_the_path_does_not_count(distribution, tmp_path, monkeypatch):
    distribution("stale-one", "1.0", {"method.fast": "old"})
    newer = tmp_path / "newer" / "stale_one-2.0.dist-info"
    newer.mkdir(parents=True)
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: Stale_One\nVersion: 2.0\n")
    (newer / "entry_points.txt").write_text("[alignlab]\nmethod.fast = new\n")
    monkeypatch.syspath_prepend(newer.parent)
    (found,) = listed(name="fast")
    assert (found.module, found.version, found.problem) == ("new", "2.0", "")


@pytest.mark.parametrize("requires", ["alignlab>=90", "alignlab<0.0.1", "Alignlab==90.*", "alignlab~=90.1"])
def test_a_plugin_for_another_alignlab_is_listed_with_both_versions(distribution, requires):
    distribution("old", entry_points={"method.fast": "old_fast"}, requires=["torch>=2", requires])
    (found,) = listed(distribution="old")
    assert found.requires == requires[len("alignlab") :]
    assert found.problem == f"it is for alignlab {found.requires}, and this is alignlab {__version__}"


@pytest.mark.parametrize(
    "requires",
    [["alignlab"], [f"alignlab>={__version__},<90"], ["alignlab>=90; extra == 'new'"], ["not a requirement"]],
)
def test_a_plugin_for_this_alignlab_has_no_problem(distribution, requires):
    distribution("fine", entry_points={"method.fast": "fine_fast"}, requires=requires)
    (found,) = listed(distribution="fine")
    assert found.problem == ""


def test_the_range_is_written_as_people_write_it(distribution):
    distribution("fine", entry_points={"method.fast": "fine_fast"}, requires=["alignlab<90", "alignlab>=0.1,!=0.1.3"])
    (found,) = listed(distribution="fine")
    assert found.requires == ">=0.1,<90,!=0.1.3"


def test_a_name_of_alignlabs_own_is_listed_as_taken(distribution):
    distribution("rival", entry_points={"reward.length": "rival_length"})
    (rival,) = listed(distribution="rival")
    assert rival.problem == "alignlab has a reward of that name too"


def test_the_names_of_the_core_are_those_that_it_registers():
    registered = {kind: set() for kind in NAMES if kind != "kernel"}
    for kind, name in Plugins(builtin)._objects:
        registered[kind].add(name)
    assert registered == {kind: set(names) for kind, names in NAMES.items() if kind != "kernel"}

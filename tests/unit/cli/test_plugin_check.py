"""`alignlab plugins check`: what is said of good plugins and of broken ones. The kit has tests of its own."""

import pytest

from alignlab import __version__
from alignlab.cli import main
from alignlab.cli.plugin_check import main as check_here

TRACKER = """
from alignlab import hookimpl

class Paper:
    name = "paper"

@hookimpl
def register_trackers():
    return [Paper()]
"""


def said(capsys, *names, code=1):
    assert check_here([*names, "--set"]) == code
    return capsys.readouterr().out.splitlines()


def without_times(lines):
    return [line.partition(" (")[0] if line.endswith(" s)") else line for line in lines]


def test_what_has_no_kit_is_imported_and_that_is_said(capsys, distribution):
    distribution("papers", "1.2", {"tracker.paper": "papers_tracker"}, requires=["alignlab<90"], papers_tracker=TRACKER)
    assert without_times(said(capsys, "tracker.paper", code=0)) == [
        "tracker paper of papers 1.2 (module papers_tracker)",
        "  ok      metadata; for alignlab <90",
        "  ok      import and registration",
        "  -       the kit has nothing for a tracker",
        "all 2 checks passed",
    ]


def test_a_plugin_that_only_hooks_in_is_imported(capsys, distribution):
    source = "from alignlab import hookimpl\n\n@hookimpl\ndef on_stepend(step):\n    pass\n"
    distribution("typo", "0.3", {"typo": "typo_check"}, typo_check=source)
    assert without_times(said(capsys, "hooks.typo"))[2:] == [
        "  broken  import and registration",
        "          plugin hooks 'typo' of typo 0.3 (module typo_check) does not fit: "
        "it implements 'on_stepend', which is no hook",
        "            to do: did you mean 'on_step_end'?",
        "1 of 2 checks failed",
    ]


@pytest.mark.parametrize(
    ("points", "requires", "problem"),
    [
        ({"method.fast": "torn"}, ["alignlab>=90"], f"it is for alignlab >=90, and this is alignlab {__version__}"),
        ({"method.ppo": "torn"}, [], "alignlab has a method of that name too"),
        ({"data.rows": "torn"}, [], "alignlab has a data source of that name too"),
    ],
)
def test_what_metadata_tells_keeps_the_plugin_from_being_imported(capsys, distribution, points, requires, problem):
    distribution("torn", "0.3", points, requires=requires, torn="raise RuntimeError('imported')")
    lines = said(capsys, *points)
    assert lines[1].startswith("  broken  metadata; for alignlab ")
    assert lines[2:] == [f"          {problem}", "1 of 1 checks failed"]


def test_a_plugin_that_exits_on_import_does_not_end_the_check_of_the_next(capsys, distribution):
    distribution("torn", "0.3", {"tracker.torn": "torn_exit"}, torn_exit="raise SystemExit(0)")
    distribution("papers", "1.2", {"tracker.paper": "papers_again"}, papers_again=TRACKER)
    lines = said(capsys, "tracker.torn", "tracker.paper")
    assert "cannot be imported: SystemExit: 0" in lines[3]
    assert lines[-1] == "1 of 4 checks failed"


def test_the_command_checks_in_another_process_and_returns_its_code(capfd, distribution, monkeypatch, tmp_path):
    distribution("papers", "1.2", {"tracker.paper": "papers_far", "tracker.torn": "not_there"}, papers_far=TRACKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site-packages"))
    assert main(["plugins", "check", "papers"]) == 1
    out = capfd.readouterr().out
    assert "  ok      import and registration" in out
    assert "its entry point names a module that is not installed, 'not_there'" in out
    assert out.endswith("1 of 4 checks failed\n")


def test_settings_are_for_one_plugin_and_have_a_form(capsys, distribution):
    distribution("papers", "1.2", {"tracker.paper": "papers", "tracker.other": "papers"})
    assert main(["plugins", "check", "papers", "--set", "lines=3"]) == 2
    assert "--set is for one plugin, and these are tracker.other, tracker.paper" in capsys.readouterr().err
    assert main(["plugins", "check", "paper", "--set", "lines"]) == 2
    assert "--set wants KEY=VALUE, came 'lines'" in capsys.readouterr().err


REWARD = """
from typing import ClassVar

from alignlab import RewardRule, hookimpl

class Strict(RewardRule):
    name = "strict"
    target: int

@hookimpl
def register_rewards():
    return [Strict]
"""


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "its settings do not fit: target: Field required"),
        (["target=many"], "its settings do not fit: target: Input should be a valid integer"),
        (["target=3", "targt=3"], "its settings do not fit: targt: Extra inputs are not permitted"),
    ],
)
def test_settings_that_do_not_fit_are_said_once_and_not_by_every_check(capsys, distribution, words, what):
    distribution("rewards", "1.2", {"reward.strict": "rewards_strict"}, rewards_strict=REWARD)
    assert check_here(["reward.strict", "--set", *words]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].strip().startswith(what)
    assert lines[-1] == "1 of 2 checks failed"


def test_a_directory_without_a_slash_is_given_to_pip_as_a_path_and_not_as_a_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "alignlab-mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "check", "alignlab-mine"]) == 2
    assert "pyproject.toml" in capsys.readouterr().err  # the directory is looked at, and no index is asked

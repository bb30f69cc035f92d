import json
import subprocess
import sys

import pytest

from alignlab.cli import main
from alignlab.cli import plugins as command


def listed(capsys):
    assert main(["plugins", "list", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def table(capsys):
    assert main(["plugins", "list"]) == 0
    return capsys.readouterr().out


def test_json_holds_every_plugin_with_all_that_is_known(capsys, distribution):
    distribution("fast-methods", "2.1", {"method.fast": "never_imported"}, never_imported="1 / 0")
    rows = listed(capsys)
    assert {
        "kind": "method",
        "name": "fast",
        "module": "never_imported",
        "distribution": "fast-methods",
        "version": "2.1",
        "problem": "",
        "requires": "",
    } in rows
    assert {"method.sft", "method.reward_model", "method.ppo", "method.dpo"} <= {
        f"{row['kind']}.{row['name']}" for row in rows if row["distribution"] == "alignlab"
    }


def test_a_row_of_the_table_is_one_line_where_a_program_reads_it(capsys, distribution):
    distribution("fast-methods", "2.1", {"method.fast": "a.rather.long.name.of.a.module.that.nobody.would.cut"})
    (line,) = [line for line in table(capsys).splitlines() if "fast-methods" in line]
    assert line.split()[1::2] == [
        "method",
        "fast",
        "fast-methods",
        "2.1",
        "a.rather.long.name.of.a.module.that.nobody.would.cut",
    ]


def test_problems_have_a_column_of_their_own_only_where_there_are_some(capsys, distribution):
    assert "problem" not in table(capsys)
    distribution("one", entry_points={"method.fast": "one"})
    distribution("two", entry_points={"method.fast": "two"})
    out = table(capsys)
    assert "problem" in out
    assert "two has a method of that name too" in out


def test_what_looks_like_markup_is_shown_as_it_is(capsys, distribution):
    distribution("odd", entry_points={"method.[red]": "odd"})
    assert "[red]" in table(capsys)


def test_a_broken_distribution_locks_nobody_out(capsys, distribution):
    about = distribution("torn", "0.3")
    (about / "entry_points.txt").write_text("[alignlab]\nmethod.fast\n")
    (torn,) = [row for row in listed(capsys) if row["distribution"] == "torn"]
    assert torn["problem"].startswith("its entry_points.txt cannot be read")
    assert "torn" in table(capsys)


def test_nothing_is_imported_that_broken_metadata_of_others_would_break():
    # pydantic reads the entry points of everything that is installed, and raises where they cannot be parsed.
    code = "import sys; from alignlab.cli import main; main(['plugins', 'list']); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_command_that_alignlab_has_itself_is_said_to_be_hidden(capsys, distribution):
    distribution("thief", entry_points={"command.run": "thief_run"})
    (thief,) = [row for row in listed(capsys) if row["distribution"] == "thief"]
    assert thief["problem"] == "alignlab has a command of that name, which is the one that runs"


def fails(capsys, *arguments):
    assert main(["plugins", *arguments]) == 2
    return capsys.readouterr().err


def test_what_stands_behind_two_hyphens_is_pips(monkeypatch):
    given = []
    monkeypatch.setattr(command, "install", lambda *words, yes: given.append((*words, yes)) or 0)
    options = ["--no-index", "--find-links", "wheels", "--yes"]
    assert main(["plugins", "install", "one", "-e", "two", "three==1.0", "--", *options]) == 0
    assert main(["plugins", "install", "--yes", "one"]) == 0
    assert given == [(["one", "three==1.0"], ["two"], options, False), (["one"], [], [], True)]


def test_only_what_calls_pip_to_install_takes_options_for_it(capsys):
    assert "`plugins list` passes no options to pip" in fails(capsys, "list", "--", "--no-index")


def test_nothing_to_install_says_so(capsys):
    assert fails(capsys, "install").startswith("error: there is nothing to install\n")


@pytest.mark.parametrize("option", ["--target=there", "--user", "--dry-run", "-t"])
def test_an_option_that_would_put_plugins_elsewhere_is_refused(capsys, option):
    assert f"pip's {option} cannot be used here" in fails(capsys, "install", "one", "--", option)


def test_what_pip_says_when_it_fails_is_shown(capsys, tmp_path):
    error = fails(capsys, "install", str(tmp_path / "nothing.whl"), "--", "--no-index")
    assert "failed; nothing was changed. It said:" in error
    assert "nothing.whl" in error.splitlines()[-1]


def test_without_pip_the_error_says_how_to_get_it(capsys, monkeypatch):
    from alignlab.plugins import pip

    monkeypatch.setattr(pip, "find_spec", lambda name: None)
    assert f"  to do: {sys.executable} -m ensurepip" in fails(capsys, "install", "one")


def test_uninstalling_asks_first_and_without_a_terminal_names_the_flag(capsys, distribution, monkeypatch):
    about = distribution("one", "1.0", {"method.fast": "one_fast", "timer": "one_timer"})
    distribution("two", requires=["one>=1"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["plugins", "uninstall", "method.fast"]) == 2
    out, error = capsys.readouterr()
    assert out == (
        "one 1.0: method fast (module one_fast), hooks timer (module one_timer)\n"
        "  two needs it, and will not work without it\n"
    )
    assert error.startswith("error: this uninstalls one\n  to do: run it again with --yes")
    assert about.is_dir()


@pytest.mark.parametrize(("said", "code"), [("n", 1), ("", 1)])
def test_who_does_not_say_yes_changes_nothing(capsys, distribution, monkeypatch, said, code):
    about = distribution("one", "1.0", {"method.fast": "one_fast"})
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: said)
    assert main(["plugins", "uninstall", "fast"]) == code
    assert capsys.readouterr().out.splitlines()[-1] == "nothing was changed"
    assert about.is_dir()


def test_a_name_that_may_mean_two_distributions_is_not_guessed_at(capsys, distribution):
    distribution("one", entry_points={"method.fast": "one"})
    distribution("two", entry_points={"reward.fast": "two"})
    assert fails(capsys, "uninstall", "fast") == (
        "error: 'fast' may mean one and two\n  to do: name the distribution that you want to uninstall\n"
    )


def test_of_a_name_that_is_alignlabs_too_the_other_one_is_meant(capsys, distribution, monkeypatch):
    distribution("rival", entry_points={"method.ppo": "rival_ppo"})
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert "this uninstalls rival" in fails(capsys, "uninstall", "ppo")


@pytest.mark.parametrize("name", ["ppo", "alignlab", "method.dpo"])
def test_alignlab_itself_is_not_uninstalled(capsys, name):
    assert f"{name!r} is part of alignlab itself" in fails(capsys, "uninstall", name)


def test_an_unknown_name_names_the_nearest(capsys, distribution):
    distribution("one", entry_points={"method.fastest": "one"})
    assert "did you mean 'fastest'?" in fails(capsys, "uninstall", "fastst")
    assert "did you mean 'fastest'?" in fails(capsys, "check", "fastst")
    assert fails(capsys, "uninstall", "torch").startswith("error: no plugin, and no distribution of plugins")


def test_a_new_package_says_what_it_wrote_and_what_comes_next(capsys, tmp_path):
    assert main(["plugins", "new", "my-method", "--directory", str(tmp_path)]) == 0
    *paths, following = capsys.readouterr().out.splitlines()
    assert sorted(paths) == sorted(map(str, (p for p in tmp_path.rglob("*") if p.is_file())))
    assert following == (
        f"next: cd {tmp_path / 'alignlab-my-method'}; "
        "alignlab plugins install -e '.[dev]'; pytest; alignlab run recipe.yaml"
    )

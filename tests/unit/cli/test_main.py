import importlib
import os
import subprocess
import sys

import pytest

from alignlab import __version__
from alignlab.cli import main
from alignlab.cli.main import COMMANDS

COMMAND = """
from alignlab import hookimpl

class Hello:
    name = "hello"
    help = "say hello"

    def configure(self, parser):
        parser.add_argument("who")

    def run(self, args):
        {body}

@hookimpl
def register_commands():
    return [Hello()]
"""


@pytest.fixture
def hello(distribution):
    def write(body="print('hello', args.who)"):
        distribution("greeter", "0.2", {"command.hello": "greeter_hello"}, greeter_hello=COMMAND.format(body=body))

    return write


def exits(*arguments):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    return raised.value.code


def test_help_lists_every_command_with_its_own_words(capsys):
    assert exits("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    for name, text in COMMANDS.items():
        assert f"{name} {text}" in out
        assert text == importlib.import_module(f"alignlab.cli.{name}").HELP


def test_version_is_printed(capsys):
    assert exits("--version") == 0
    assert capsys.readouterr().out == f"alignlab {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["plugins", "list"], ["plugins", "list", "--json"], []]
)
def test_what_needs_no_torch_imports_none(arguments):
    code = """
import sys
from alignlab.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print([name for name in ("torch", "transformers", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_without_a_command_the_help_is_printed_and_nothing_was_done(capsys):
    assert main([]) == 2
    assert "usage: alignlab" in capsys.readouterr().err


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["rnu", "x.yaml"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'rnu'\n  to do: did you mean 'run'?\n"


def test_an_error_of_the_users_is_printed_without_a_traceback(capsys, distribution):
    distribution("torn", "0.3", {"command.torn": "torn_command"}, torn_command="1 / 0")
    assert main(["torn"]) == 2
    assert capsys.readouterr().err == (
        "error: plugin command 'torn' of torn 0.3 (module torn_command) cannot be imported: "
        "ZeroDivisionError: division by zero\n"
        "  to do: pip install -U torn, or pip uninstall torn\n"
    )


def test_a_recipe_error_has_what_where_and_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text("output: x\nmodel: {path: y}\nphasse: []\n")
    assert main(["check", "r.yaml"]) == 2
    assert capsys.readouterr().err == (
        "error: 2 things are wrong\n"
        "- 'phases' is missing\n"
        "  where: r.yaml: phases\n"
        "- there is no setting 'phasse'\n"
        "  where: r.yaml, line 3: phasse\n"
        "  to do: did you mean 'phases'?\n"
    )


@pytest.mark.parametrize("arguments", [["--traceback", "torn"], ["torn", "--traceback"]])
def test_traceback_shows_it_before_or_after_the_command(arguments, capsys, distribution):
    distribution("torn", "0.3", {"command.torn": "torn_command"}, torn_command="1 / 0")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert 'torn_command.py", line 1' in err


def test_the_command_of_a_plugin_runs_and_is_in_the_help(capsys, hello):
    hello()
    assert main(["hello", "world"]) == 0
    assert capsys.readouterr().out == "hello world\n"
    assert exits("--help") == 0
    assert "hello a plugin's: greeter 0.2" in " ".join(capsys.readouterr().out.split())


def test_a_commands_exit_code_is_passed_on(hello):
    hello("return 7")
    assert main(["hello", "world"]) == 7


def test_what_a_plugins_command_raises_is_the_plugins(capsys, hello):
    hello("return {}[args.who]")
    assert main(["hello", "world"]) == 2
    assert capsys.readouterr().err == (
        "error: run() of plugin command 'hello' of greeter 0.2 (module greeter_hello) raised KeyError: 'world'\n"
        "  to do: --traceback shows where\n"
    )


def test_a_plugin_cannot_take_the_name_of_a_command(capsys, distribution):
    distribution("thief", entry_points={"command.run": "thief_run"}, thief_run="1 / 0")
    assert exits("run", "--help") == 0
    assert COMMANDS["run"] in capsys.readouterr().out


def test_an_error_of_alignlab_itself_is_one_line_and_says_how_to_see_more(capsys, monkeypatch):
    from alignlab.cli import plugins

    monkeypatch.setattr(plugins, "installed", lambda: 1 / 0)
    assert main(["plugins", "list"]) == 1
    assert capsys.readouterr().err == (
        "internal error: ZeroDivisionError: division by zero\n"
        "  to do: run it again with --traceback to see where, and report it\n"
    )
    assert main(["plugins", "list", "--traceback"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_says_that_a_run_can_be_continued(capsys, monkeypatch, hello):
    from alignlab.cli import run

    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupt)
    assert main(["run", "r.yaml"]) == 130
    assert capsys.readouterr().err == ("interrupted: run the same command again to go on from the last checkpoint\n")
    hello("raise KeyboardInterrupt")
    assert main(["hello", "x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently there")
@pytest.mark.parametrize("arguments", [["plugins", "list"], ["plugins", "list", "--json"]])
def test_nothing_is_said_to_a_reader_who_left(arguments):
    command = [sys.executable, "-c", f"import sys; from alignlab.cli import main; sys.exit(main({arguments}))"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")

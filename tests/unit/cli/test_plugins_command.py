import json

from alignlab.cli import main


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


def test_a_command_that_alignlab_has_itself_is_said_to_be_hidden(capsys, distribution):
    distribution("thief", entry_points={"command.run": "thief_run"})
    (thief,) = [row for row in listed(capsys) if row["distribution"] == "thief"]
    assert thief["problem"] == "alignlab has a command of that name, which is the one that runs"

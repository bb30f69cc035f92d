import json
import subprocess
import sys

import pytest

from alignlab.engine.files import append_jsonl, keep_until, locked, move_aside, read_json, write_json
from alignlab.errors import CheckpointError


def test_keep_until_drops_later_steps_and_half_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_jsonl(path, {"step": step})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    keep_until(path, 2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_an_output_directory_in_use_by_another_process_is_an_error_that_names_it(tmp_path):
    hold = (
        "import sys, time, pathlib; from alignlab.engine.files import locked\n"
        f"with locked(pathlib.Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(CheckpointError, match=f"in use by process {process.pid}"), locked(tmp_path):
            pass
        process.stdin.close()
        process.wait()
    with locked(tmp_path):
        pass


def test_an_output_that_cannot_be_a_directory_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"), locked(tmp_path / "file" / "run"):
        pass


def test_move_aside_takes_the_first_free_number(tmp_path):
    for expected in ("sft.1", "sft.2"):
        (tmp_path / "sft").mkdir()
        assert move_aside(tmp_path / "sft").name == expected


def test_an_answer_with_a_line_separator_is_one_line_and_survives_a_resume(tmp_path):
    path = tmp_path / "samples.jsonl"
    for step in (1, 2):
        append_jsonl(path, {"step": step, "completion": "one\u2028two\u0085three \ud83d"})
    keep_until(path, 2)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["completion"].startswith("one\u2028two\u0085three")


def test_a_damaged_json_file_is_an_error_that_names_it(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    assert read_json(tmp_path / "a.json") == {"x": 1}
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(CheckpointError, match=r"a\.json"):
        read_json(tmp_path / "a.json")

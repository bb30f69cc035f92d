import json
import os
import signal
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


def test_what_a_killed_run_has_forked_does_not_hold_its_output(tmp_path):
    """A reward's pool of workers, say, which nobody tells that the run is gone."""
    hold = (
        "import os, pathlib, signal, sys, time; from alignlab.engine.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    if not (child := os.fork()): os.close(1); time.sleep(60); os._exit(0)\n"
        "    print(child, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, check=False)
    with locked(tmp_path):
        os.kill(int(done.stdout), signal.SIGKILL)


def test_a_step_without_its_line_s_end_is_cut_off_and_the_file_is_cut_in_place(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}')
    inode = path.stat().st_ino
    keep_until(path, 2)
    assert path.read_text() == '{"step": 1}\n'
    assert path.stat().st_ino == inode


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

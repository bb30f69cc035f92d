"""What is killed or fails half-way leaves nothing under the name, and the old content where there was some."""

import os
import signal
import subprocess
import sys

import pytest

from alignlab.atomic import clean, remove_directory, whole_directory, whole_file, write_text, writing


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def killed_while(code, directory):
    """Run code in a process that kills itself with SIGKILL."""
    prelude = "import os, pathlib, signal, sys; from alignlab.atomic import *; here = pathlib.Path(sys.argv[1])\n"
    done = subprocess.run([sys.executable, "-c", prelude + code, str(directory)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_directory_that_fails_half_way_leaves_the_old_one_and_takes_no_room(tmp_path):
    with whole_directory(tmp_path / "model") as beside:
        (beside / "weights").write_text("old")
    with pytest.raises(ValueError, match="half-way"), whole_directory(tmp_path / "model") as beside:
        (beside / "weights").write_text("new")
        raise ValueError("half-way")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


def test_a_directory_takes_the_place_of_the_old_one_whole(tmp_path):
    for name in ("old", "new"):
        with whole_directory(tmp_path / "model") as beside:
            (beside / name).touch()
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_killed_writer_leaves_the_old_file_and_what_clean_removes(tmp_path):
    write_text(tmp_path / "a.json", "old")
    killed_while(
        "with whole_file(here / 'a.json') as beside:\n"
        "    beside.write_text('half'); (here / '.model.new').mkdir(); os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path,
    )
    assert (tmp_path / "a.json").read_text() == "old"
    assert len(names(tmp_path)) == 3
    (tmp_path / ".lock").touch()
    clean(tmp_path)
    assert names(tmp_path) == [".lock", "a.json"]


def test_a_directory_whose_removal_is_killed_is_gone_under_its_name(tmp_path):
    (tmp_path / "step-000001").mkdir()
    (tmp_path / "step-000001" / "weights").touch()
    killed_while(
        "import shutil, alignlab.atomic as atomic\n"
        "real = shutil.rmtree\n"
        "atomic.shutil.rmtree = lambda path, **k: k or os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic.remove_directory(here / 'step-000001')",
        tmp_path,
    )
    assert names(tmp_path) == [".step-000001.old"]
    clean(tmp_path)
    assert names(tmp_path) == []


def test_remove_directory_removes_it(tmp_path):
    (tmp_path / "a").mkdir()
    remove_directory(tmp_path / "a")
    assert names(tmp_path) == []


def test_an_error_of_the_disk_that_a_library_words_itself_has_its_number_and_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as raised, writing(tmp_path / "a"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert raised.value.errno == 28
    assert raised.value.filename == str(tmp_path / "a")


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"), writing(tmp_path / "a"):
        raise RuntimeError("shapes do not fit")


def test_two_processes_may_write_one_file(tmp_path):
    with whole_file(tmp_path / "a") as ours:
        assert str(os.getpid()) in ours.name
        ours.write_text("ours")
        write = "import pathlib, sys, alignlab.atomic as a; a.write_text(pathlib.Path(sys.argv[1]), 'theirs')"
        subprocess.run([sys.executable, "-c", write, str(tmp_path / "a")], check=True)
    assert (tmp_path / "a").read_text() == "ours"
    assert names(tmp_path) == ["a"]

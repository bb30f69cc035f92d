"""A disk that is full while a run writes: the kernel itself refuses, on a tmpfs of a given size or by RLIMIT_FSIZE."""

import resource
import subprocess

import pytest
import small_run

from alignlab.engine.checkpoint import checkpoints, read_progress


@pytest.fixture
def small_disk(tmp_path):
    """Return a directory on a file system of its own, and a function that sets its size in KiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", mounted], capture_output=True)
    if made.returncode:
        pytest.skip("wants the right to mount a tmpfs")

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}k", mounted], check=True)

    yield mounted, resize
    subprocess.run(["umount", mounted], check=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    directory = tmp_path_factory.mktemp("unbroken")
    assert small_run.run(small_run.write_recipe(directory, directory / "run")) == 0
    return directory / "run"


def test_a_run_whose_disk_is_full_time_and_again_loses_nothing(unbroken, small_disk, tmp_path, capsys):
    disk, resize = small_disk
    output = disk / "run"
    recipe = small_run.write_recipe(tmp_path, output)
    stopped_at = []
    for size in range(100, 3000, 100):  # from no room for the base model, to room for everything
        resize(size)
        saved = [path.name for path in checkpoints(output / "sft" / "checkpoints")]
        code = small_run.run(recipe)
        said = capsys.readouterr().err
        left = [path.name for path in checkpoints(output / "sft" / "checkpoints")]
        assert set(saved) <= set(left) or len(left) == 2, "an earlier checkpoint was lost"
        if code == 0:
            break
        assert code == 2, said
        assert "No space left on device" in said
        assert f"where: {disk}" in said
        assert "make room there, and run the same command again to go on from the last checkpoint" in said
        assert not list(output.rglob("*.new")), "what could not be written whole still takes room"
        stopped_at.append(left[-1] if left else "no checkpoint")
    assert {"no checkpoint", "step-000002"} <= set(stopped_at)
    assert small_run.model_of(output) == small_run.model_of(unbroken)
    assert small_run.steps_of(output) == [1, 2, 3, 4, 5, 6]
    assert (output / "sft" / "samples.jsonl").read_bytes() == (unbroken / "sft" / "samples.jsonl").read_bytes()


def test_an_output_that_cannot_be_written_to_is_told_before_anything_runs(small_disk, tmp_path, capsys):
    disk, _ = small_disk
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert small_run.run(small_run.write_recipe(tmp_path, disk / "run")) == 2
    said = capsys.readouterr().err
    assert "the output directory cannot be written: Read-only file system" in said
    assert "set `output`" in said


def test_a_limit_on_the_size_of_files_is_told_like_a_full_disk(unbroken, tmp_path, capsys):
    output = tmp_path / "run"
    recipe = small_run.write_recipe(tmp_path, output)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = (unbroken / "sft" / "checkpoints" / "step-000006" / "optimizer.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, hard))  # python ignores SIGXFSZ, so the write fails
    try:
        assert small_run.run(recipe) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert "File too large" in said
    assert "step-000002/optimizer.safetensors" in said
    assert small_run.run(recipe) == 0
    assert small_run.model_of(output) == small_run.model_of(unbroken)
    assert read_progress(output / "sft" / "checkpoints" / "step-000006").step == 6

"""What the reference is asked, and that the answers are the same bits whoever asks again."""

import logging
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import toy

from alignlab.engine.reference_cache import ReferenceCache, row_keys
from alignlab.errors import CheckpointError
from alignlab.method import Rollout


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def run(base, tmp_path):
    """A run of DPO with a cache, which counts the rows that the reference is asked for."""
    run = toy.run_for(base, toy.method("dpo"))
    run.asked = 0

    def count(module, args, kwargs):
        run.asked += len(kwargs["input_ids"])

    run.models["ref"].base_model.register_forward_pre_hook(count, with_kwargs=True)
    with ReferenceCache(tmp_path / "reference.sqlite", ["ref"]) as cache:
        run.reference_cache = cache
        yield run


def pairs(base, run, rows=slice(0, 6)):
    return toy.method("dpo").data(run, toy.split_for(base, "preference").train[rows])


def logp(run, batch, role="ref", **settings):
    with torch.no_grad():
        return run.logp(role, batch, **settings)


def without(run, batch):
    cache, run.reference_cache = run.reference_cache, None
    found = logp(run, batch)
    run.reference_cache = cache
    return found


def test_a_second_epoch_asks_the_reference_nothing(base, run):
    first, second = pairs(base, run), pairs(base, run, slice(6, 12))
    logp(run, first), logp(run, second)
    assert (asked := run.asked) >= 24  # the engine also tries the head, once
    shuffled = torch.tensor([5, 1, 9, 0, 3])
    found = logp(run, first.select(shuffled))
    assert run.asked == asked
    torch.testing.assert_close(found, without(run, first.select(shuffled)), atol=1e-6, rtol=0)


def test_rows_that_were_never_seen_have_the_bits_of_a_run_without_a_cache(base, run):
    batch = pairs(base, run)
    assert torch.equal(logp(run, batch), without(run, batch))


def test_a_row_keeps_the_bits_that_it_got_first_whatever_is_beside_it(base, run):
    alone = logp(run, pairs(base, run, slice(2, 3)))
    width = alone.shape[1]
    together = logp(run, pairs(base, run, slice(0, 24)))[4:6]
    assert torch.equal(together[:, :width][alone != 0], alone[alone != 0])


def test_only_rows_that_are_not_known_are_asked_for_and_a_double_one_once(base, run):
    logp(run, pairs(base, run, slice(0, 2)))
    before = run.asked
    batch = pairs(base, run, slice(0, 4))
    found = logp(run, batch.select(torch.tensor([0, 1, 6, 7, 6, 7])))
    assert run.asked - before == 2
    assert torch.equal(found[2:4], found[4:6])


def test_padding_and_microbatches_are_no_part_of_a_row_s_key_and_its_acted_tokens_are(base, run):
    batch = pairs(base, run)
    padded = batch.map(lambda x: torch.nn.functional.pad(x, (3, 2)) if x.dim() > 1 else x)
    assert row_keys("ref", padded) == row_keys("ref", batch)
    assert len({*row_keys("ref", batch), *row_keys("other", batch)}) == 24
    less = replace(batch, acted=batch.acted & (batch.acted.cumsum(1) > 1))
    assert not {*row_keys("ref", less)} & {*row_keys("ref", batch)}


def test_trained_roles_sampled_rows_and_other_temperatures_are_not_kept(base, run):
    batch = pairs(base, run)
    nothing = torch.zeros(len(batch), batch.tokens.shape[1])
    rollout = Rollout(**vars(batch), sample_logp=nothing, finished=batch.acted.any(1))
    for _ in range(2):
        logp(run, batch, "policy")
        logp(run, batch, temperature=0.7)
        logp(run, batch, entropy=True)
        logp(run, rollout)
    assert not run.reference_cache.path.exists()
    assert run.asked >= 2 * 3 * 12


def test_after_a_restart_the_file_has_the_same_bits(base, run):
    batch = pairs(base, run)
    before = logp(run, batch)
    with run.reference_cache:
        pass  # closes it
    asked = run.asked
    with ReferenceCache(run.reference_cache.path, ["ref"]) as run.reference_cache:
        assert torch.equal(logp(run, batch), before)
        assert run.asked == asked


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from alignlab.engine.reference_cache import ReferenceCache
cache = ReferenceCache(Path(sys.argv[1]), ["ref"])
cache._write([b"whole"], [np.ones(3, np.float32)])
connection = cache._open()
connection.execute("INSERT INTO rows VALUES (?, ?)", (b"half", b"1234"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_call_s_rows_whole_or_undone(tmp_path):
    path = tmp_path / "reference.sqlite"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with ReferenceCache(path, ["ref"]) as cache:
        assert {key: value.tolist() for key, value in cache._read([b"whole", b"half"]).items()} == {b"whole": [1.0] * 3}


def test_a_damaged_file_is_made_again_and_that_is_said(base, run, caplog):
    run.reference_cache.path.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with caplog.at_level(logging.WARNING, "alignlab"):
        found = logp(run, batch := pairs(base, run))
    assert "is damaged and is made again" in caplog.text
    assert torch.equal(found, without(run, batch))
    assert torch.equal(logp(run, batch), found)


def test_a_full_disk_is_an_error_with_what_to_do(base, run):
    logp(run, pairs(base, run, slice(0, 1)))
    run.reference_cache._open().execute("PRAGMA max_page_count = 1")
    with pytest.raises(CheckpointError, match=r"cannot be kept: .*full") as raised:
        logp(run, pairs(base, run, slice(1, 40)))
    assert "run again to go on" in str(raised.value)


def test_the_files_of_a_finished_phase_are_removed(base, run):
    logp(run, pairs(base, run))
    assert run.reference_cache.path.exists()
    with run.reference_cache:
        pass
    run.reference_cache.remove()
    assert list(run.reference_cache.path.parent.iterdir()) == []

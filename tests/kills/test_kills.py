"""Six kills of a real `alignlab run`; `make kills` does 40."""

import pytest
from kills.harness import Trial, aims, differences, make, tensorboard_steps

AIMED_AT = [
    "building the base model",
    "saving a checkpoint of sft",
    "exporting rm",
    "data stage of ppo",  # the rollout
    "optimizer stage of dpo",
    "the report",
]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    trial = Trial(make(tmp_path_factory.mktemp("kills") / "unbroken"))
    trial.finish()
    return trial.output


def test_a_run_killed_six_times_leaves_what_an_unbroken_one_leaves(unbroken, tmp_path):
    trial = Trial(make(tmp_path / "killed"))
    aim_of = {aim.name: aim for aim in aims()}
    for name in AIMED_AT:
        found = trial.kill(lambda name=name: aim_of[name], delay=0.3 if name == "the report" else 0.0)
        assert found is not None, f"it ended before it could be killed at {name}"
    trial.finish()
    assert differences(trial.output, unbroken) == []


def test_the_comparison_sees_a_step_that_is_double_and_a_bit_that_is_flipped(unbroken, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(unbroken, copy)
    assert differences(copy, unbroken) == []
    lines = (copy / "ppo" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copy / "ppo" / "metrics.jsonl").write_text("".join([*lines, lines[-1]]))
    weights = bytearray((copy / "dpo" / "model" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "dpo" / "model" / "model.safetensors").write_bytes(weights)
    assert differences(copy, unbroken) == ["dpo/model/model.safetensors", "ppo/metrics.jsonl"]


def test_every_step_is_in_tensorboard_once(unbroken):
    assert [step for step, _ in tensorboard_steps(unbroken / "tensorboard" / "sft")] == list(range(1, 9))

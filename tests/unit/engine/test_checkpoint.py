import pytest
import torch
from torch import nn

from alignlab.engine.checkpoint import Progress, checkpoints, load_checkpoint, prune, read_progress, save_checkpoint
from alignlab.errors import CheckpointError


def stepped(steps: int) -> tuple[dict[str, nn.Module], torch.optim.Optimizer]:
    torch.manual_seed(0)
    models = {"policy": nn.Linear(3, 3), "ref": nn.Linear(3, 3).requires_grad_(False)}
    optimizer = torch.optim.AdamW(models["policy"].parameters(), lr=0.1, fused=True)
    for _ in range(steps):
        step(models, optimizer)
    return models, optimizer


def step(models, optimizer):
    optimizer.zero_grad()
    models["policy"](torch.ones(2, 3)).square().sum().backward()
    optimizer.step()


def test_a_run_that_goes_on_from_a_checkpoint_has_the_unbroken_run_s_bits(tmp_path):
    models, optimizer = stepped(3)
    path = save_checkpoint(tmp_path, Progress(3, "print", {"kl_coef": 0.1}), models, optimizer)
    step(models, optimizer)
    again, fresh = stepped(0)
    load_checkpoint(path, again, fresh)
    step(again, fresh)
    assert torch.equal(again["policy"].weight, models["policy"].weight)
    assert read_progress(path) == Progress(3, "print", {"kl_coef": 0.1})


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    models, optimizer = stepped(1)
    for done in (1, 2, 10):
        save_checkpoint(tmp_path, Progress(done, "print"), models, optimizer)
    prune(tmp_path, 2, None)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000002", "step-000010"]


@pytest.mark.parametrize("file", ["policy.safetensors", "optimizer.safetensors", "optimizer.json"])
def test_a_truncated_checkpoint_is_an_error_that_says_which_and_what_to_do(tmp_path, file):
    models, optimizer = stepped(1)
    path = save_checkpoint(tmp_path, Progress(1, "print", {}), models, optimizer)
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="step-000001") as raised:
        load_checkpoint(path, models, optimizer)
    assert file in str(raised.value)
    assert f"rm -r {path}" in str(raised.value)


def test_a_checkpoint_without_its_progress_is_damaged(tmp_path):
    (tmp_path / "step-000001").mkdir()
    with pytest.raises(CheckpointError, match="damaged"):
        read_progress(tmp_path / "step-000001")

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from alignlab.engine.best import Best
from alignlab.engine.checkpoint import (
    Progress,
    check_state,
    checkpoints,
    load_checkpoint,
    prune,
    read_progress,
    save_checkpoint,
)
from alignlab.errors import CheckpointError, TrainingError


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


def test_a_flipped_bit_is_found_and_the_file_is_named(tmp_path):
    models, optimizer = stepped(1)
    for done in (1, 2):
        path = save_checkpoint(tmp_path, Progress(done, "print"), models, optimizer)
    content = bytearray((path / "policy.safetensors").read_bytes())
    content[-3] ^= 16
    (path / "policy.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"policy\.safetensors is not what was written") as raised:
        load_checkpoint(path, models, optimizer)
    assert raised.value.do == f"rm -r {path}; the same command then goes on from step-000001"


def test_a_checkpoint_from_which_a_file_is_gone_is_damaged(tmp_path):
    models, optimizer = stepped(1)
    path = save_checkpoint(tmp_path, Progress(1, "print"), models, optimizer)
    (path / "optimizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer\.json") as raised:
        load_checkpoint(path, models, optimizer)
    assert str(raised.value.do).endswith("the start of the phase")


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path):
    models, optimizer = stepped(1)
    best = Best(2, {"loss": 0.5})
    for done in (1, 2, 3, 4):
        save_checkpoint(tmp_path, Progress(done, "print", {}, {"loss": 1.0}, best), models, optimizer)
        prune(tmp_path, 1, best)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000002", "step-000004"]
    assert read_progress(tmp_path / "step-000004") == Progress(4, "print", {}, {"loss": 1.0}, best)
    assert not list(tmp_path.glob(".*"))


def test_only_what_training_changes_is_saved(tmp_path):
    models, optimizer = stepped(1)
    models["policy"].bias.requires_grad_(False)  # as all but an adapter is
    models["policy"].register_buffer("mean", torch.tensor(3.0))
    path = save_checkpoint(tmp_path, Progress(1, "print"), models, optimizer)
    assert load_file(path / "policy.safetensors").keys() == {"weight", "mean"}
    models["policy"].mean.zero_()
    models["policy"].bias.data.zero_()
    load_checkpoint(path, models, None)
    assert float(models["policy"].mean) == 3
    assert float(models["policy"].bias.abs().sum()) == 0


def test_a_frozen_role_that_the_method_changes_comes_back(tmp_path):
    models, optimizer = stepped(1)
    models["ref"].weight.data.fill_(7.0)
    path = save_checkpoint(tmp_path, Progress(1, "print"), models, optimizer, changing=["ref"])
    again, fresh = stepped(0)
    load_checkpoint(path, again, fresh, changing=["ref"])
    assert float(again["ref"].weight.min()) == 7


def test_a_tensor_that_two_roles_share_is_saved_once_and_comes_back_to_both(tmp_path):
    models, optimizer = stepped(1)
    critic = nn.Linear(3, 3)
    critic.weight = models["policy"].weight
    path = save_checkpoint(tmp_path, Progress(1, "print"), {**models, "critic": critic}, optimizer)
    assert load_file(path / "critic.safetensors").keys() == {"bias"}
    saved = critic.weight.detach().clone()
    critic.weight.data.zero_()
    load_checkpoint(path, {**models, "critic": critic}, None)
    assert torch.equal(critic.weight, saved)
    assert critic.weight is models["policy"].weight


def test_weights_that_are_not_finite_are_not_saved_over_those_that_are(tmp_path):
    models, optimizer = stepped(1)
    save_checkpoint(tmp_path, Progress(1, "print"), models, optimizer)
    models["policy"].weight.data[1, 1] = torch.inf
    with pytest.raises(
        TrainingError, match=r"weights of policy are not finite: weight\n.*step-000002, which is not written"
    ):
        save_checkpoint(tmp_path, Progress(2, "print"), models, optimizer)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000001"]


CIRCLE: dict[str, object] = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize("value", [torch.zeros(1), (1, 2), float("nan"), {1: 2}, CIRCLE, {"a": {3}}])
def test_a_state_that_would_not_come_back_as_it_is_cannot_be_saved(value):
    check_state({"kl_coef": 0.1, "seen": [1, {"a": None}]})
    with pytest.raises(CheckpointError, match=r"run\.state\['it'\]"):
        check_state({"kl_coef": 0.1, "it": value})


def test_an_optimizer_whose_state_is_no_json_is_an_error_that_says_what_can_be_saved(tmp_path):
    models, optimizer = stepped(1)
    optimizer.param_groups[0]["history"] = [torch.zeros(1)]
    with pytest.raises(CheckpointError, match="the optimizer's state cannot be saved"):
        save_checkpoint(tmp_path, Progress(1, "print"), models, optimizer)


def test_the_loaded_optimizer_state_does_not_live_in_the_file(tmp_path):
    models, optimizer = stepped(1)
    path = save_checkpoint(tmp_path, Progress(1, "print"), models, optimizer)
    load_checkpoint(path, models, optimizer)
    before = optimizer.state[models["policy"].weight]["exp_avg"].clone()
    (path / "optimizer.safetensors").write_bytes(bytes((path / "optimizer.safetensors").stat().st_size))
    assert torch.equal(optimizer.state[models["policy"].weight]["exp_avg"], before)


def test_a_checkpoint_without_its_progress_is_damaged(tmp_path):
    (tmp_path / "step-000001").mkdir()
    with pytest.raises(CheckpointError, match="damaged"):
        read_progress(tmp_path / "step-000001")

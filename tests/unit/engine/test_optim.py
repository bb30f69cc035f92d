import pytest
import torch
from torch import nn

from alignlab.config.recipe import OptimizerSettings
from alignlab.engine.optim import AdamW, lr_at, parameter_groups


def settings(**changes: object) -> OptimizerSettings:
    return OptimizerSettings(**{"method": "sft", "lr": 1.0, "steps": 10, **changes})


def test_the_warm_up_rises_linearly_and_the_linear_schedule_falls_to_almost_zero():
    chosen = settings(warmup_steps=3)
    assert [lr_at(chosen, step, 10) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert lr_at(chosen, 9, 10) == pytest.approx(1 / 7)


def test_the_cosine_schedule_is_half_way_down_in_the_middle():
    assert lr_at(settings(schedule="cosine"), 5, 10) == pytest.approx(0.5)


def test_the_constant_schedule_stays():
    assert lr_at(settings(schedule="constant"), 9, 10) == 1.0


def test_only_matrices_that_are_trained_decay():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1).requires_grad_(False))
    matrices, vectors = parameter_groups([model], 0.1)
    assert [p.shape for p in matrices["params"]] == [torch.Size([3, 2])]
    assert [p.dim() for p in vectors["params"]] == [1, 1, 1]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)


def test_the_fused_adamw_makes_the_plain_one_s_steps():
    torch.manual_seed(0)
    ours, plain = nn.Linear(4, 4), nn.Linear(4, 4)
    plain.load_state_dict(ours.state_dict())
    chosen = settings(lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
    fused = AdamW().build(parameter_groups([ours], 0.1), chosen)
    assert fused.defaults["fused"]
    reference = torch.optim.AdamW(
        parameter_groups([plain], 0.1), lr=0.01, betas=(0.8, 0.9), eps=1e-6, fused=False, foreach=False
    )
    for _ in range(5):
        x = torch.randn(3, 4)
        for model, optimizer in ((ours, fused), (plain, reference)):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, plain.weight)

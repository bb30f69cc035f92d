"""alignlab-grpo and alignlab-rloo against the trainers of TRL 1.16, as make_trl_groups.py recorded real batches."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from alignlab import Rollout
from alignlab_grpo import GRPO
from alignlab_rloo import RLOO

TRL = json.loads((Path(__file__).parent / "trl_groups.json").read_text())
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def method(settings):
    clip = {"clip_low": settings["epsilon"], "clip_high": settings["epsilon_high"], "kl_coef": settings["beta"]}
    if "loss_type" not in settings:
        return RLOO(num_samples=TRL["group"], **clip)
    normalize = {"grpo": "sequence", "bnpo": "token"}[settings["loss_type"]]
    std = settings["scale_rewards"] == "group"
    return GRPO(num_samples=TRL["group"], normalize=normalize, std=std, **clip)


def loaded(case):
    """Return our method with TRL's settings, the rewards, and TRL's steps on one batch, as tensors."""
    found = TRL["cases"][case]
    steps = [{name: torch.tensor(value) for name, value in step.items()} for step in found["steps"]]
    for step in steps:
        if "old_logps" in step:  # RLOO's, of whole answers; in its first step the policy is the one that sampled
            step["old_per_token_logps"] = steps[0]["logp"]
    return method(found["settings"]), torch.tensor(found["rewards"]), steps


class Recorded:
    """What a method asks a run for, answered with what TRL's models said."""

    def __init__(self, rewards, **logp):
        self.rewards, self.logp_of = rewards, logp

    def score(self, batch):
        return self.rewards

    def logp(self, role, batch, *, temperature, entropy=False):
        logp = self.logp_of[role] * batch.acted
        return (logp, torch.zeros_like(logp)) if entropy else logp

    def log(self, **metrics):
        pass


def answers(step):
    mask = step["completion_mask"].bool()
    return Rollout(
        tokens=torch.zeros(mask.shape, dtype=torch.int64),
        valid=mask,
        acted=mask,
        unit=torch.arange(len(mask)) // TRL["group"],
        sample_logp=torch.zeros(mask.shape),
        finished=torch.zeros(len(mask), dtype=torch.bool),
    )


def scored(case):
    ours, rewards, steps = loaded(case)
    step = steps[0]
    old = step["old_per_token_logps"]
    run = Recorded(rewards, policy=old, ref=step.get("ref_per_token_logps", old))
    return ours, ours.reward(run, answers(step)), steps


@pytest.mark.parametrize("case", TRL["cases"])
def test_advantages_are_trl_s(case):
    _, batch, steps = scored(case)
    torch.testing.assert_close(batch.advantages, steps[0]["advantages"], **CLOSE)


@pytest.mark.parametrize("case", TRL["cases"])
def test_loss_and_gradient_are_trl_s_in_every_pass_over_the_batch(case):
    ours, batch, steps = scored(case)
    for step in steps:
        logp = step["logp"].requires_grad_()
        total = ours.optimize(SimpleNamespace(logp=Recorded(None, policy=logp).logp), batch).total
        loss = total / (batch.acted.sum() if ours.per == "token" else len(batch))
        (gradient,) = torch.autograd.grad(loss, logp)
        torch.testing.assert_close(loss.detach(), step["loss"], **CLOSE)
        torch.testing.assert_close(gradient, step["gradient"], **CLOSE)


def test_the_recorded_steps_show_the_clip_and_answers_of_different_lengths():
    assert TRL["trl"].startswith("1.16.")
    for case in TRL["cases"]:
        ours, batch, steps = scored(case)
        log_ratio = (steps[-1]["logp"] - steps[0]["old_per_token_logps"]) * batch.acted
        ratio = (log_ratio.sum(1) if ours.name == "rloo" else log_ratio).exp()
        assert bool((ratio > 1 + ours.clip_high).any()) and bool((ratio < 1 - ours.clip_low).any())
        assert len(batch.acted.sum(1).unique()) > 2

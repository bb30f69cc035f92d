"""PPO against the arithmetic of TRL 1.12's PPOTrainer, as make_trl_ppo.py recorded it from a real batch.

Where the two differ on purpose: TRL's whitening divides by the sample variance (n - 1), alignlab's by the population's;
and TRL pays the score of an answer that ended by itself one position after its EOS, alignlab at the EOS (PPO.md row 1).
"""

import json
import math
from pathlib import Path

import pytest
import torch
import toy

from alignlab import Rollout, ops

RECORDED = json.loads((Path(__file__).parent / "trl_ppo.json").read_text())
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(params=RECORDED)
def recorded(request):
    return load(request.param)


def load(case):
    """Return the settings, the batch as tensors, and the optimizer steps with their rows in the batch's order."""
    found = RECORDED[case]
    batch = {name: torch.tensor(value) for name, value in found["batch"].items()}
    steps = []
    for step in found["steps"]:
        rows = torch.tensor(step["order"]).argsort()
        steps.append({name: torch.tensor(value) for name, value in step.items() if name != "order"})
        for name in ("new_logprobs", "vpred"):
            steps[-1][name] = steps[-1][name][rows]
    return found["settings"], batch, steps


def bessel(mask):
    """What TRL's whitened numbers are smaller by."""
    num = int(mask.sum())
    return math.sqrt((num - 1) / num)


def test_the_recorded_steps_show_both_clips():
    for settings, batch, steps in map(load, RECORDED):
        ratio = (steps[1]["new_logprobs"] - batch["logprobs"]).exp()
        assert bool(((ratio - 1).abs() > settings["cliprange"]).any())
        assert bool(((steps[1]["vpred"] - batch["values"]).abs() > settings["cliprange_value"]).any())


def test_rewards_are_the_kl_penalty_and_the_score(recorded):
    settings, batch, _ = recorded
    kl = ops.kl_estimate(batch["logprobs"], batch["ref_logprobs"], kind=settings["kl_estimator"])
    rewards = -settings["kl_coef"] * kl
    lengths = (~batch["padding_mask"]).sum(1)
    ended = lengths < rewards.shape[1]
    rewards[torch.arange(len(rewards)), torch.where(ended, lengths, lengths - 1)] += batch["scores"]
    mask = ~batch["padding_mask_p1"]
    if settings["whiten_rewards"]:
        mean = rewards[mask].mean()
        whitened = ops.masked_whiten(rewards, mask, shift_mean=False)
        rewards = ((whitened - mean) * bessel(mask) + mean).where(mask, 0.0)
    torch.testing.assert_close(rewards, batch["rewards"], **CLOSE)


def test_advantages_and_returns(recorded):
    settings, batch, _ = recorded
    taken, acted = ~batch["padding_mask_p1"], ~batch["padding_mask"]
    advantages, returns = ops.gae(
        batch["rewards"], batch["values"], taken, gamma=settings["gamma"], lam=settings["lam"]
    )
    torch.testing.assert_close(returns[taken], batch["returns"][taken], **CLOSE)
    whitened = ops.masked_whiten(advantages, acted) * bessel(acted)
    torch.testing.assert_close(whitened, batch["advantages"], **CLOSE)


def test_policy_and_value_losses(recorded):
    settings, batch, steps = recorded
    taken, acted = ~batch["padding_mask_p1"], ~batch["padding_mask"]
    clip = settings["cliprange"]
    for step in steps:
        policy = ops.ppo_policy_loss(
            step["new_logprobs"], batch["logprobs"], batch["advantages"], acted, clip_low=clip, clip_high=clip
        )
        value = ops.ppo_value_loss(
            step["vpred"], batch["values"], batch["returns"], taken, clip=settings["cliprange_value"]
        )
        torch.testing.assert_close(policy.total / acted.sum(), step["pg_loss"], **CLOSE)
        torch.testing.assert_close(value.total / taken.sum(), step["vf_loss"], **CLOSE)


class Recorded:
    """A run whose models say what TRL's said."""

    def __init__(self, batch):
        self.batch, self.step, self.state, self.train = batch, None, {}, True

    def score(self, batch):
        return self.batch["scores"]

    def logp(self, role, batch, *, temperature=1.0, entropy=False):
        found = self.batch["ref_logprobs" if role == "ref" else "logprobs"]
        if self.step is not None and role == "policy":
            found = self.step["new_logprobs"]
        return (found, torch.zeros_like(found)) if entropy else found

    def value(self, role, batch):
        return self.batch["values"] if self.step is None else self.step["vpred"]

    def log(self, **metrics):
        pass


def test_the_whole_method_on_answers_of_full_length():
    settings, batch, steps = load("k1")
    chosen = toy.method(
        "ppo",
        kl_coef=settings["kl_coef"],
        vf_coef=settings["vf_coef"],
        clip_low=settings["cliprange"],
        clip_high=settings["cliprange"],
        value_clip=settings["cliprange_value"],
        gamma=settings["gamma"],
        lam=settings["lam"],
        entropy_coef=0.0,
    )
    run = Recorded(batch)
    whole = torch.ones_like(batch["padding_mask"])
    assert not batch["padding_mask"].any()
    num = len(whole)
    rollout = Rollout(
        tokens=whole.long(),
        valid=whole,
        acted=whole,
        unit=torch.arange(num),
        sample_logp=batch["logprobs"],
        finished=batch["contain_eos_token"],
    )
    experience = chosen.reward(run, rollout)
    torch.testing.assert_close(experience.returns, batch["returns"], **CLOSE)
    torch.testing.assert_close(experience.advantages * bessel(whole), batch["advantages"], **CLOSE)
    for run.step in steps:
        loss = chosen.optimize(run, experience)
        policy, value = loss.metrics["policy_loss"] / whole.sum(), loss.metrics["value_loss"] / whole.sum()
        torch.testing.assert_close(policy * bessel(whole), run.step["pg_loss"], **CLOSE)
        torch.testing.assert_close(value, run.step["vf_loss"], **CLOSE)
        torch.testing.assert_close(loss.total / whole.sum(), policy + settings["vf_coef"] * value, **CLOSE)

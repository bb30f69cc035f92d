"""What alignlab promises of every method, checked on GRPO; and what GRPO promises beside."""

import json
from itertools import product
from pathlib import Path
from statistics import mean

import pytest
import torch

from alignlab import Optimum
from alignlab.testing import METHOD_CHECKS, check_method
from alignlab_grpo import GRPO, group_advantages

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
SMALL = {"num_samples": 4, "max_new_tokens": 8}
EXACT = {"std": False, "kl_in": "reward", "normalize": "token", "clip_high": 0.28}


@pytest.mark.parametrize("check", METHOD_CHECKS)
def test_it_keeps_what_every_method_promises(check):
    check_method("grpo", SMALL, checks=[check])


def test_it_keeps_them_with_its_other_settings_too():
    check_method("grpo", {**SMALL, **EXACT}, checks=METHOD_CHECKS[:-3])  # without the longest, which are whole runs


def test_an_advantage_is_the_reward_less_its_group_s_mean_wherever_the_group_s_rows_are():
    rewards, unit = torch.tensor([1.0, 10.0, 3.0, 20.0, 7.0]), torch.tensor([0, 1, 0, 1, 2])
    assert group_advantages(rewards, unit, std=False).tolist() == [-1, -5, 1, 5, 0]
    root = 2**0.5  # a sample's standard deviation: of 1 and 3, and of 10 and 20, over 5
    expected = torch.tensor([-1 / root, -1 / root, 1 / root, 1 / root, 0])
    torch.testing.assert_close(group_advantages(rewards, unit, std=True), expected, atol=1e-4, rtol=0)


def test_with_the_penalty_in_the_reward_all_advantages_are_0_at_the_optimum_and_nowhere_else():
    torch.manual_seed(0)
    beta, reward = 0.3, torch.randn(5, dtype=torch.float64)
    ref = torch.randn(5, dtype=torch.float64).log_softmax(0)
    best = (ref + reward / beta).log_softmax(0)
    group = torch.zeros(5, dtype=torch.long)
    torch.testing.assert_close(group_advantages(reward - beta * (best - ref), group, std=False), torch.zeros_like(ref))
    other = torch.randn(5, dtype=torch.float64).log_softmax(0)
    assert float(group_advantages(reward - beta * (other - ref), group, std=False).abs().max()) > 0.1


@pytest.mark.parametrize("size", [2, 3])
def test_a_group_s_mean_takes_one_part_in_its_size_off_the_gradient_of_the_reward(size):
    """So a penalty in the loss, of which nothing is taken off, weighs size / (size - 1) times as much as it says."""
    logits, reward = torch.tensor([0.3, -0.5, 1.0]).double().requires_grad_(), torch.tensor([1.0, 2.0, -1.0]).double()
    logp = logits.log_softmax(0)
    found = torch.zeros(3, dtype=torch.float64)
    for answers in product(range(3), repeat=size):  # every group there can be
        drawn = torch.tensor(answers)
        advantages = group_advantages(reward[drawn], torch.zeros(size, dtype=torch.long), std=False)
        surrogate = (advantages * logp[drawn]).mean() * logp[drawn].sum().exp().detach()
        found += torch.autograd.grad(surrogate, logits, retain_graph=True)[0]
    (exact,) = torch.autograd.grad((logp.exp() * reward).sum(), logits)
    torch.testing.assert_close(found, (1 - 1 / size) * exact)


def test_it_promises_the_optimum_only_where_it_is_one():
    exact = {"std": False, "kl_in": "reward"}
    assert GRPO(**exact).optimum == Optimum("kl_regularized", beta="kl_coef")
    assert GRPO(**exact, normalize="token").optimum == GRPO(**exact, normalize="sequence").optimum
    for other in ({}, {"std": False}, {"kl_in": "reward"}, {**exact, "kl_coef": 0}):
        assert GRPO(**other).optimum is None


def test_without_a_penalty_no_reference_is_loaded():
    assert list(GRPO(kl_coef=0).roles) == ["policy"]


def test_the_recipe_runs_and_answers_get_better(run_recipe, tmp_path):
    output = run_recipe(RECIPE.read_text(), f"output={tmp_path / 'run'}")
    steps = [json.loads(line) for line in (output / "grpo" / "metrics.jsonl").read_text().splitlines()]
    scores = [step["score"] for step in steps if "score" in step]
    assert mean(scores[-5:]) > mean(scores[:5]) + 0.2

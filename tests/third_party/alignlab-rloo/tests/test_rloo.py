"""What alignlab promises of every method, checked on RLOO; and what RLOO promises beside."""

import json
from itertools import product
from pathlib import Path
from statistics import mean

import pytest
import torch

from alignlab import Optimum
from alignlab.testing import METHOD_CHECKS, check_method
from alignlab_rloo import RLOO, leave_one_out

RECIPE = Path(__file__).parents[1] / "recipe.yaml"


@pytest.mark.parametrize("check", METHOD_CHECKS)
def test_it_keeps_what_every_method_promises(check):
    check_method("rloo", {"max_new_tokens": 8}, checks=[check])


def test_an_advantage_is_the_reward_less_the_mean_of_the_others_wherever_they_are():
    rewards, unit = torch.tensor([1.0, 10.0, 3.0, 20.0, 8.0, 7.0]), torch.tensor([0, 1, 0, 1, 0, 2])
    assert leave_one_out(rewards, unit).tolist() == pytest.approx([1 - 5.5, -10, 3 - 4.5, 10, 8 - 2, 0])


def test_the_baseline_leaves_the_gradient_of_the_reward_as_it_is():
    logits, reward = torch.tensor([0.3, -0.5, 1.0]).double().requires_grad_(), torch.tensor([1.0, 2.0, -1.0]).double()
    logp = logits.log_softmax(0)
    found = torch.zeros(3, dtype=torch.float64)
    for answers in product(range(3), repeat=3):  # every group there can be
        drawn = torch.tensor(answers)
        advantages = leave_one_out(reward[drawn], torch.zeros(3, dtype=torch.long))
        surrogate = (advantages * logp[drawn]).mean() * logp[drawn].sum().exp().detach()
        found += torch.autograd.grad(surrogate, logits, retain_graph=True)[0]
    (exact,) = torch.autograd.grad((logp.exp() * reward).sum(), logits)
    torch.testing.assert_close(found, exact)


def test_it_promises_the_optimum_only_where_it_is_one():
    assert RLOO().optimum == Optimum("kl_regularized", beta="kl_coef")
    assert RLOO(kl_coef=0).optimum is None


def test_the_recipe_runs_and_answers_get_better(run_recipe, tmp_path):
    output = run_recipe(RECIPE.read_text(), f"output={tmp_path / 'run'}")
    steps = [json.loads(line) for line in (output / "rloo" / "metrics.jsonl").read_text().splitlines()]
    scores = [step["score"] for step in steps if "score" in step]
    assert mean(scores[-5:]) > mean(scores[:5]) + 0.2

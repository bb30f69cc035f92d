"""What alignlab promises of every method, checked on KTO; and what is KTO's own."""

import json
import math
from pathlib import Path

import pytest
import torch

from alignlab import Sample, Tabular, collate
from alignlab.testing import METHOD_CHECKS, check_method
from alignlab_kto import KTO, kto_loss, mismatched

PACKAGE = Path(__file__).parents[1]


@pytest.mark.parametrize("check", METHOD_CHECKS)
def test_it_keeps_what_every_method_promises(check):
    check_method("kto", checks=[check])


def test_a_gain_and_a_loss_are_worth_the_same_at_the_reference_point_and_saturate():
    log_ratio, z0 = torch.tensor([3.0, 3.0, 103.0, 103.0]), torch.tensor(3.0)
    desirable = torch.tensor([True, False, True, False])
    assert kto_loss(log_ratio, desirable, z0, beta=0.5).tolist() == pytest.approx([0.5, 0.5, 0, 1], abs=1e-6)


def test_the_reference_point_is_estimated_from_every_prompt_with_the_answer_before():
    first = Sample((1, 2, 10, 11), (False, False, True, True))
    second = Sample((3, 20, 21, 22, 9), (False, True, True, True, False))  # after the answer stands one more token
    found = mismatched(collate([first, second], unit=[0, 1]))
    assert [row[keep].tolist() for row, keep in zip(found.tokens, found.valid, strict=True)] == [
        [1, 2, 20, 21, 22],  # cut to the longest row
        [3, 10, 11],
    ]
    assert found.acted.tolist() == [[False, False, True, True, True], [False, True, True, False, False]]


def test_answers_that_are_more_often_undesirable_lose_all_probability_so_there_is_no_optimum_to_promise():
    torch.manual_seed(0)
    ref = torch.randn(8, dtype=torch.float64).log_softmax(0)
    wanted = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)  # P(desirable); every answer is seen equally often
    logits = ref.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    lost = []
    for _ in range(4000):
        log_ratio = logits.log_softmax(0) - ref
        z0 = (log_ratio.exp() * ref.exp() * log_ratio).sum().detach()  # the exact KL divergence
        yes, no = (kto_loss(log_ratio, torch.full((8,), label), z0, beta=0.5) for label in (True, False))
        optimizer.zero_grad()
        (wanted * yes + (1 - wanted) * no).mean().backward()
        optimizer.step()
        lost.append(float(logits.detach().softmax(0)[wanted < 0.5].sum()))
    assert lost[1000] < 0.2 * lost[0] and lost[-1] < 0.2 * lost[1000] and lost[-1] < 1e-3
    assert KTO().optimum is None


def test_with_weights_by_which_every_answer_is_worth_something_the_loss_is_least_at_the_optimum_that_it_promises():
    torch.manual_seed(0)
    ref, rewards = torch.randn(2, 9, dtype=torch.float64).log_softmax(1), torch.randn(2, 9, dtype=torch.float64)
    method = KTO(desirable_weight=60, beta=0.3)
    best = method.optimum.target(Tabular(ref, rewards, (rewards[:, :, None] - rewards[:, None]).sigmoid(), 0.3))
    assert best.exp().sum(1).tolist() == pytest.approx([1, 1]) and float((best - ref).abs().max()) > 0.3

    def expected_loss(logits):
        log_ratio, wanted = logits.log_softmax(1) - ref, rewards.sigmoid()
        yes, no = (
            kto_loss(log_ratio, torch.full_like(ref, label, dtype=torch.bool), torch.zeros_like(ref), beta=0.3)
            for label in (True, False)
        )
        return (ref.exp() * (60 * wanted * yes + (1 - wanted) * no)).sum()

    logits = best.clone().requires_grad_()
    expected_loss(logits).backward()
    assert float(logits.grad.abs().max()) < 1e-9
    for _ in range(20):  # it is a minimum, and no saddle
        assert expected_loss(best + 0.1 * torch.randn_like(best)) > expected_loss(best)


@pytest.mark.parametrize("settings", [{}, {"desirable_weight": 60, "beta": 1}, {"desirable_weight": 50}])
def test_no_optimum_is_promised_with_other_settings(settings):
    assert KTO(**settings).optimum is None


def test_the_recipe_runs_from_the_loss_of_a_policy_that_is_its_own_reference_to_a_lower_one(run_recipe, tmp_path):
    text = (PACKAGE / "recipe.yaml").read_text().replace("labels.jsonl", str(PACKAGE / "labels.jsonl"))
    output = run_recipe(text, f"output={tmp_path / 'run'}")
    steps = [json.loads(line) for line in (output / "kto" / "metrics.jsonl").read_text().splitlines()]
    losses = [step["loss"] for step in steps if "loss" in step]
    assert losses[0] == pytest.approx(0.5, abs=1e-4)
    assert losses[-1] < 0.2 and math.isfinite(losses[-1])

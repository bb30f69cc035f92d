"""Answers at the edge: of no token, of one, none of them finished, all scored alike."""

import math
from dataclasses import replace

import pytest
import torch

SETTINGS = {
    "whiten_rewards": True,
    "normalize_rewards": True,
    "importance_cap": 2.0,
    "kl_target": 6.0,
    "missing_eos_penalty": 1.0,
}


def keep(rollout, row, num):
    """Leave the first `num` tokens of a row's answer."""
    acted = rollout.acted.clone()
    acted[row, rollout.acted[row].nonzero().flatten()[num:]] = False
    return replace(rollout, acted=acted, sample_logp=rollout.sample_logp.where(acted, 0.0))


def assert_finite(chosen, run, batch):
    loss = chosen.optimize(run, batch)
    loss.total.backward()
    for model in (run.models["policy"], run.models["critic"]):
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    numbers = {"loss": loss.total.detach(), **loss.metrics, **run.logged(), **run.state["scores"]}
    assert [name for name, value in numbers.items() if not math.isfinite(value)] == []
    return numbers


@pytest.mark.parametrize("per", ["token", "row"])
def test_an_answer_without_tokens_trains_nothing_and_breaks_nothing(scored, per):
    chosen, run, batch, _ = scored(**SETTINGS, per=per, change=lambda rollout: keep(rollout, 2, 0))
    assert not batch.returns[2].any()
    others = batch.select(torch.tensor([0, 1, 3, 4, 5]))
    with torch.no_grad():
        assert float(chosen.optimize(run, batch).total) == pytest.approx(float(chosen.optimize(run, others).total))
    assert_finite(chosen, run, batch)


@pytest.mark.parametrize("per", ["token", "row"])
def test_a_batch_of_one_token_is_finite(scored, per):
    chosen, run, batch, _ = scored(**SETTINGS, per=per, num_rows=1, change=lambda rollout: keep(rollout, 0, 1))
    assert int(batch.acted.sum()) == 1
    assert assert_finite(chosen, run, batch)["explained_variance"] == 0.0


@pytest.mark.parametrize("per", ["token", "row"])
def test_a_batch_without_any_acted_token_is_finite(scored, per):
    chosen, run, batch, _ = scored(**SETTINGS, per=per, num_rows=1, change=lambda rollout: keep(rollout, 0, 0))
    assert not chosen.optimize(run, batch).total
    assert_finite(chosen, run, batch)


def test_answers_that_are_all_unfinished_and_all_scored_alike_are_finite(scored):
    def unfinished(rollout):
        return replace(rollout, finished=torch.zeros_like(rollout.finished))

    chosen, run, batch, _ = scored(**SETTINGS, max_new_tokens=1, reward_clip=1e-9, change=unfinished)
    numbers = assert_finite(chosen, run, batch)
    assert numbers["finished"] == 0.0
    assert numbers["answer_length_max"] == 1.0

"""What the penalty is, and that it reaches a method which knows nothing of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from alignlab import Batch, PluginError, Sample, collate
from alignlab_length_penalty import overlong, reward_stage

RECIPE = Path(__file__).parents[1] / "recipe.yaml"


@dataclass(frozen=True, kw_only=True)
class Scored(Batch):
    advantages: Tensor


def wrapped(advantages, limit=10, rows="prompt"):
    """Return what a method's reward stage gives once the plugin is around it: answers of 8, 9 and 10 tokens."""
    samples = [Sample(tuple(range(n + 1)), (False, *[True] * n)) for n in (8, 9, 10)]
    batch = collate(samples, unit=[0, 1, 2])
    scored = Scored(**vars(batch), advantages=advantages)
    logged = {}
    run = SimpleNamespace(log=lambda **metrics: logged.update(metrics))
    stage = reward_stage(run, SimpleNamespace(max_new_tokens=limit, rows=rows, name="mine"), batch)
    next(stage)
    with pytest.raises(StopIteration) as stopped:
        stage.send(scored)
    return stopped.value.value, logged


def test_an_answer_costs_nothing_at_first_then_linearly_up_to_1_at_the_limit():
    assert overlong(torch.tensor([0, 80, 85, 90, 100]), limit=100).tolist() == pytest.approx([0, 0, 0.25, 0.5, 1])


def test_advantages_lose_the_penalty_less_the_batch_s_mean():
    scored, logged = wrapped(torch.tensor([1.0, 1.0, 1.0]))
    assert scored.advantages.tolist() == pytest.approx([1.5, 1.0, 0.5])  # penalties 0, 0.5 and 1
    assert logged["length_penalty"] == pytest.approx(0.5)


def test_advantages_of_tokens_lose_it_at_every_token_that_was_acted():
    scored, _ = wrapped(torch.zeros(3, 11))
    assert scored.advantages[0].tolist() == pytest.approx([0, *[0.5] * 8, 0, 0])
    assert scored.advantages[2].tolist() == pytest.approx([0, *[-0.5] * 10])


def test_a_method_that_samples_nothing_is_left_alone():
    advantages = torch.tensor([1.0, 2.0, 3.0])
    scored, logged = wrapped(advantages, rows="completion")
    assert scored.advantages is advantages and logged == {}


def test_a_method_without_a_limit_is_an_error_that_says_what_to_do():
    with pytest.raises(PluginError, match="method 'mine' has not both") as raised:
        wrapped(torch.zeros(3), limit=None)
    assert "take length_penalty out" in raised.value.do


def test_the_recipe_runs_the_penalty_around_ppo(run_recipe, tmp_path):
    output = run_recipe(RECIPE.read_text(), f"output={tmp_path / 'run'}")
    steps = [json.loads(line) for line in (output / "ppo" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= step["length_penalty"] <= 1 for step in steps) and steps[0]["length_penalty"] > 0
    sft = [json.loads(line) for line in (output / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert not any("length_penalty" in step for step in sft)
    used = json.loads((output / "manifest.json").read_text())["plugins"]
    assert {"alignlab-length-penalty"} <= {plugin["distribution"] for plugin in used}

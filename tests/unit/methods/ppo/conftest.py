"""plugins/rlhf/README.md numbers the details that decide whether PPO works; test_row_N... holds row N to what it says.

Row 26 (LoRA) is in tests/unit/engine, row 27 (tokenizers that differ) in tests/unit/test_rewards.py.
"""

import pytest
import torch
import toy

PLAIN = {"kl_coef": 0.0, "whiten_advantages": False, "lam": 1.0, "gamma": 1.0}


@pytest.fixture
def scored(base):
    """Sample and score with the given settings; return the method, the run, the batch and the raw scores."""

    def make(num_rows=6, zero_critic=True, microbatch_tokens=100_000, change=lambda rollout: rollout, **settings):
        chosen = toy.method("ppo", **settings)
        run = toy.run_for(base, chosen, microbatch_tokens)
        if zero_critic:
            torch.nn.init.zeros_(run.models["critic"].score.weight)
        with torch.no_grad():
            rollout = change(chosen.data(run, toy.split_for(base, "prompt").train[:num_rows]))
            score = run.rewards(run, rollout)[0]
            return chosen, run, chosen.reward(run, rollout), score

    return make


@pytest.fixture
def plain():
    """Settings under which returns are the score alone."""
    return dict(PLAIN)

"""Whole PPO updates in fp64 against a second implementation: a loop over rows and tokens, by the papers' formulas.

Nothing of alignlab runs in it but the models, the sampled answers and their scores, and the order of the minibatches.
"""

import math
from dataclasses import dataclass

import pytest
import torch
import toy

from alignlab.config.recipe import OptimizerSettings
from alignlab.engine.microbatch import minibatches
from alignlab.engine.optim import AdamW, parameter_groups, trained_parameters
from alignlab.engine.update import accumulate

LR, BETAS, EPS, DECAY, MAX_NORM = 1e-3, (0.9, 0.95), 1e-4, 0.1, 0.5
CASES = {
    "defaults": {},
    "KL in the loss, rows": {
        "per": "row",
        "kl_in": "loss",
        "kl_estimator": "k3",
        "temperature": 0.75,
        "entropy_coef": 0.125,
        "clip_low": 0.125,
        "clip_high": 0.25,
        "dual_clip": 2.0,
        "whiten_rewards": True,
        "importance_cap": 0.99999,
    },
    "shared critic": {
        "critic": "shared",
        "kl_estimator": "k2",
        "vf_coef": 0.5,
        "value_clip": None,
        "whiten_advantages": False,
        "gamma": 0.95,
    },
    "scores made comparable": {
        "missing_eos_penalty": 0.5,
        "reward_clip": 1.0,
        "normalize_rewards": True,
        "lam": 1.0,
        "num_samples": 2,
    },
}


@dataclass
class Row:
    """One answer, without padding: numbers of its acted tokens."""

    tokens: torch.Tensor
    places: list[int]
    old: list[float]
    ref: list[float]
    values: list[float]
    advantages: list[float]
    returns: list[float]


def look(models, role, tokens, places, temperature):
    """Log-probs and entropies of the acted tokens of one row."""
    logits = models[role](input_ids=tokens[None]).logits[0] / temperature
    logp = torch.stack([logits[t - 1] - torch.logsumexp(logits[t - 1], 0) for t in places])
    return logp[range(len(places)), tokens[places]], -(logp.exp() * logp).sum(1)


def look_values(models, tokens, places):
    hidden = models["critic"].base_model(input_ids=tokens[None]).last_hidden_state[0]
    return torch.stack([hidden[t - 1] @ models["critic"].score.weight[0] for t in places])


def estimate(kind, gap):
    return {"k1": gap, "k2": gap**2 / 2, "k3": math.exp(-gap) - 1 + gap}[kind]


def whitened(rows, shift):
    """Scale rows of numbers to variance 1 over all of them."""
    flat = [x for row in rows for x in row]
    mean = sum(flat) / len(flat)
    std = math.sqrt(sum((x - mean) ** 2 for x in flat) / len(flat) + 1e-8)
    return [[(x - mean) / std + (0 if shift else mean) for x in row] for row in rows]


def naive_experience(method, models, rollout, scores):
    rows, rewards, gaps = [], [], []
    if method.normalize_rewards:
        (scores,) = whitened([scores], shift=True)
    for i, score in enumerate(scores):
        tokens = rollout.tokens[i][rollout.valid[i]]
        places = rollout.acted[i].nonzero().flatten().tolist()
        old, ref = (look(models, r, tokens, places, method.temperature)[0].tolist() for r in ("policy", "ref"))
        values = look_values(models, tokens, places).tolist()
        if method.reward_clip is not None:
            score = max(-method.reward_clip, min(score, method.reward_clip))
        if method.missing_eos_penalty is not None and not bool(rollout.finished[i]):
            score -= method.missing_eos_penalty
        paid = [0.0] * len(places)
        if method.kl_in == "reward":
            paid = [-method.kl_coef * estimate(method.kl_estimator, a - b) for a, b in zip(old, ref, strict=True)]
        paid[-1] += score
        rewards.append(paid)
        gaps.append([a - float(rollout.sample_logp[i, t]) for a, t in zip(old, places, strict=True)])
        rows.append(Row(tokens, places, old, ref, values, [], []))
    if method.whiten_rewards:
        rewards = whitened(rewards, shift=False)
    advantages = []
    for row, paid in zip(rows, rewards, strict=True):  # Schulman et al., 2016: the sum itself, not the recursion
        following = [*row.values[1:], 0.0]
        deltas = [r + method.gamma * v1 - v for r, v1, v in zip(paid, following, row.values, strict=True)]
        decay = method.gamma * method.lam
        advantages.append([sum(decay**k * d for k, d in enumerate(deltas[t:])) for t in range(len(deltas))])
        row.returns = [a + v for a, v in zip(advantages[-1], row.values, strict=True)]
    if method.whiten_advantages:
        advantages = whitened(advantages, shift=True)
    for row, found, gap in zip(rows, advantages, gaps, strict=True):
        cap = method.importance_cap
        row.advantages = found if cap is None else [a * min(math.exp(g), cap) for a, g in zip(found, gap, strict=True)]
    return rows


def naive_loss(method, models, rows):
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        logp, entropy = look(models, "policy", row.tokens, row.places, method.temperature)
        values = look_values(models, row.tokens, row.places)
        loss = torch.zeros((), dtype=torch.float64)
        for t, advantage in enumerate(row.advantages):
            ratio = (logp[t] - row.old[t]).exp()
            objective = torch.minimum(
                ratio * advantage, ratio.clamp(1 - method.clip_low, 1 + method.clip_high) * advantage
            )
            if method.dual_clip is not None and advantage < 0:
                objective = objective.clamp(min=method.dual_clip * advantage)
            error = (values[t] - row.returns[t]) ** 2
            if method.value_clip is not None:
                near = values[t].clamp(row.values[t] - method.value_clip, row.values[t] + method.value_clip)
                error = torch.maximum(error, (near - row.returns[t]) ** 2)
            loss = loss - objective + method.vf_coef * 0.5 * error - method.entropy_coef * entropy[t]
            if method.kl_in == "loss":  # the gradient of the answer's KL: (log p - log q from here on) * grad log p
                to_go = sum((logp[s] - row.ref[s]).detach() for s in range(t, len(row.places)))
                loss = loss + method.kl_coef * to_go * logp[t]
        total = total + (loss / len(row.places) if method.per == "row" else loss)
    return total / (len(rows) if method.per == "row" else sum(len(row.places) for row in rows))


class NaiveAdamW:
    """Loshchilov and Hutter, 2019, with the gradient clipped by its norm."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        self.steps = 0

    def step(self, loss):
        self.steps += 1
        grads = torch.autograd.grad(loss, self.parameters)
        norm = math.sqrt(sum(float(g.square().sum()) for g in grads))
        with torch.no_grad():
            for p, g, (m, v) in zip(self.parameters, grads, self.state, strict=True):
                g = g * min(1.0, MAX_NORM / (norm + 1e-6))
                m.mul_(BETAS[0]).add_(g, alpha=1 - BETAS[0])
                v.mul_(BETAS[1]).add_(g * g, alpha=1 - BETAS[1])
                if p.dim() > 1:
                    p -= LR * DECAY * p
                p -= LR * (m / (1 - BETAS[0] ** self.steps)) / ((v / (1 - BETAS[1] ** self.steps)).sqrt() + EPS)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.base_model(tmp_path_factory.mktemp("base") / "model", "gpt2")  # Llama's norms round to fp32


def double_run(base, chosen):
    run = toy.run_for(base, chosen, microbatch_tokens=120)
    for model in run.models.values():
        model.double()
    return run


@pytest.mark.parametrize("case", CASES)
def test_two_passes_of_two_minibatches_are_those_of_the_naive_implementation(base, case):
    chosen = toy.method("ppo", max_new_tokens=6, **{"entropy_coef": 0.0, "kl_coef": 0.25, **CASES[case]})
    run, naive = double_run(base, chosen), double_run(base, chosen).models
    before = torch.cat([p.detach().flatten().clone() for p in trained_parameters(naive.values())])
    with torch.no_grad():
        rollout = chosen.data(run, toy.split_for(base, "prompt").train[:6])
        scores = run.rewards(run, rollout)[0].tolist()
        batch = chosen.reward(run, rollout)
        rows = naive_experience(chosen, naive, rollout, scores)
    for i, row in enumerate(rows):
        for name in ("advantages", "returns"):
            found = getattr(batch, name)[i][batch.acted[i]].tolist()
            assert found == pytest.approx(getattr(row, name), rel=1e-9, abs=1e-12), name

    settings = OptimizerSettings(method="ppo", steps=1, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    optimizer = AdamW().build(parameter_groups(run.models.values(), DECAY), settings)
    naive_optimizer = NaiveAdamW(trained_parameters(naive.values()))
    losses = []
    for _ in range(2):
        for part in minibatches(batch, 2, run.rng):
            found = accumulate(chosen, lambda x: chosen.optimize(run, x), part, 120, backward=True)
            torch.nn.utils.clip_grad_norm_(trained_parameters(run.models.values()), MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
            chosen_rows = [rows[i] for unit in part.unit.unique() for i in (batch.unit == unit).nonzero().flatten()]
            naive_optimizer.step(naive_loss(chosen, naive, chosen_rows))
            losses.append(found.means()["loss"])
    ours, theirs = (
        torch.cat([p.detach().flatten() for p in trained_parameters(models.values())]) for models in (run.models, naive)
    )
    assert all(math.isfinite(loss) for loss in losses)
    assert float((theirs - before).abs().max()) > LR
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

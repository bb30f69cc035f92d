"""What PPO keeps of a batch of answers: scores made comparable, advantages, and the numbers that are logged of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from alignlab import Rollout, Run


@dataclass(frozen=True, kw_only=True)
class Experience(Rollout):
    """Answers, with all that the loss needs; float [B, T], 0 where not acted."""

    old_logp: Tensor
    ref_logp: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    kl_coef: Tensor  # float [B]  what the penalty of this batch is weighted with; it adapts between batches


def add_moments(known: Mapping[str, float] | None, x: Tensor) -> dict[str, float]:
    """Return num, mean and squares (the sum of squared differences from the mean) of what was known and x [B] together.

    Source: Chan et al., 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    """
    known = known or {"num": 0.0, "mean": 0.0, "squares": 0.0}
    x = x.cpu().double()
    num, mean = float(len(x)), float(x.mean())
    squares = float((x - mean).square().sum())
    total, gap = known["num"] + num, mean - known["mean"]
    return {
        "num": total,
        "mean": known["mean"] + gap * num / total,
        "squares": known["squares"] + squares + gap**2 * known["num"] * num / total,
    }


def normalized(x: Tensor, moments: Mapping[str, Any]) -> Tensor:
    """Return x at the moments' scale: mean 0, variance 1 (to which 1e-8 is added, for scores that are all equal)."""
    std = math.sqrt(moments["squares"] / moments["num"] + 1e-8)
    return (x - float(moments["mean"])) / std


def importance_weights(run: Run, batch: Rollout, trainer_logp: Tensor, cap: float) -> Tensor:
    """Return min(p_trainer / p_sampler, cap) of each token, float [B, T], and log them.

    The trainer's log-probs differ from the sampler's where the two compute differently; the weights correct the policy
    loss for it, with a bias that the cap trades for their variance. Sources: Ionides, 2008, "Truncated importance
    sampling"; Yao et al., 2025, "Your efficient RL framework secretly brings you off-policy RL training".
    """
    weights = (trainer_logp - batch.sample_logp).exp()  # inf is capped too
    run.log(
        importance_weight=masked_mean(weights.clamp(max=cap), batch.acted),
        importance_truncated=masked_mean((weights > cap).float(), batch.acted),
    )
    return weights.clamp(max=cap)


def masked_mean(x: Tensor, mask: Tensor) -> float:
    """Return the mean over what the mask keeps; 0 of nothing."""
    return float(x[mask].sum() / mask.sum().clamp_min(1))


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Return 1 - var(returns - values) / var(returns) over what the mask keeps; 0 where the returns do not vary."""

    def variance(x: Tensor) -> float:
        return masked_mean((x - masked_mean(x, mask)).square(), mask)

    spread = variance(returns)
    return 1 - variance(returns - values) / spread if spread > 0 else 0.0


def describe(batch: Experience, trainer_logp: Tensor, score: Tensor) -> dict[str, float]:
    """Return the numbers of a batch, over answers and acted tokens only (PPO.md row 25); `score` float [B]."""
    acted = batch.acted
    lengths = acted.sum(1).float()
    gap = (trainer_logp - batch.sample_logp).abs().where(acted, 0.0)
    return {
        "score": float(score.mean()),
        "score_std": float(score.std(correction=0)),
        "kl": float((batch.old_logp - batch.ref_logp).sum(1).mean()),  # nats an answer
        "answer_length": float(lengths.mean()),
        "answer_length_max": float(lengths.max()),
        "finished": float(batch.finished.float().mean()),
        "value_error": masked_mean((batch.returns - batch.values).square(), acted),
        "explained_variance": explained_variance(batch.values, batch.returns, acted),
        "rollout_gap": masked_mean(gap, acted),  # |log-prob by the trainer - by the sampler|
        "rollout_gap_max": float(gap.max()) if gap.numel() else 0.0,
    }

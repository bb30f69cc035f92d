"""ppo_policy_loss in plain torch."""

from typing import NamedTuple

import torch
from torch import Tensor

from alignlab.ops.reference.wide import wide


class PolicyLoss(NamedTuple):
    """The loss as a sum over the kept tokens, and what it did to them as means over them; float [] each."""

    total: Tensor  # SUM
    clip_fraction: Tensor  # share of tokens whose gradient the clip took away
    dual_clip_fraction: Tensor  # share of tokens whose gradient the dual clip took away
    approx_kl: Tensor  # k3 estimate of KL(old policy || policy), nats a token


def ppo_policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """See `alignlab.ops.ppo_policy_loss`."""
    log_ratio = torch.where(mask, wide(logp) - wide(old_logp.detach()), 0).clamp(-20, 20)
    advantages = torch.where(mask, wide(advantages.detach()), 0)
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    losses = torch.maximum(unclipped, clipped)
    is_clipped = clipped > unclipped
    is_dual_clipped = torch.zeros_like(is_clipped)
    if dual_clip is not None:
        bound = -dual_clip * advantages
        is_dual_clipped = (advantages < 0) & (losses > bound)
        losses = torch.where(is_dual_clipped, bound, losses)
    count = mask.sum().clamp_min(1)
    return PolicyLoss(
        total=losses.sum(),
        clip_fraction=is_clipped.sum(dtype=losses.dtype) / count,
        dual_clip_fraction=is_dual_clipped.sum(dtype=losses.dtype) / count,
        approx_kl=(log_ratio.expm1() - log_ratio).detach().sum() / count,
    )

"""ppo_value_loss in plain torch."""

from typing import NamedTuple

import torch
from torch import Tensor

from alignlab.ops.reference.wide import wide


class ValueLoss(NamedTuple):
    """The loss as a sum over the kept tokens, and the clip's effect as a mean over them; float [] each."""

    total: Tensor  # SUM
    clip_fraction: Tensor  # share of tokens whose gradient the clip took away


def ppo_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float | None = None
) -> ValueLoss:
    """See `alignlab.ops.ppo_value_loss`."""
    values = torch.where(mask, wide(values), 0)
    old_values = torch.where(mask, wide(old_values.detach()), 0)
    returns = torch.where(mask, wide(returns.detach()), 0)
    errors = (values - returns).square()
    is_clipped = torch.zeros_like(mask)
    if clip is not None:
        # Not old + clamp(values - old): that rounds, so that values within the clip would move.
        clipped_errors = (values.clamp(old_values - clip, old_values + clip) - returns).square()
        is_clipped = clipped_errors > errors
        errors = torch.maximum(errors, clipped_errors)
    clip_fraction = is_clipped.sum(dtype=errors.dtype) / mask.sum().clamp_min(1)
    return ValueLoss(total=0.5 * errors.sum(), clip_fraction=clip_fraction)

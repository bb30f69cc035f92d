"""kl_divergence in plain torch."""

import torch
from torch import Tensor

from alignlab.ops.reference.wide import wide


def kl_divergence(
    logits_p: Tensor, logits_q: Tensor, *, temperature: float = 1.0, inplace_backward: bool = False
) -> Tensor:
    """See `alignlab.ops.kl_divergence`."""
    log_p = (wide(logits_p) / temperature).log_softmax(-1)
    log_q = (wide(logits_q) / temperature).log_softmax(-1)
    p = log_p.exp()
    # Where p is 0, -inf - -inf would be NaN, and so would 0 * inf: both logarithms are taken out before they meet.
    log_ratio = torch.where(p == 0, 0, log_p) - torch.where(p == 0, 0, log_q)
    return (p * log_ratio).sum(-1)

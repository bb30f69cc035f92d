"""masked_whiten in plain torch."""

import torch
from torch import Tensor

from alignlab.ops.reference.wide import wide


def masked_whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """See `alignlab.ops.masked_whiten`."""
    x = torch.where(mask, wide(x), 0)  # not x * mask, which would keep a NaN
    count = mask.sum().clamp_min(1)
    mean = x.sum() / count
    centred = torch.where(mask, x - mean, 0)
    whitened = centred * (centred.square().sum() / count + 1e-8).rsqrt()
    return whitened if shift_mean else torch.where(mask, whitened + mean, 0)

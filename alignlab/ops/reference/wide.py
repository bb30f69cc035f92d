"""The dtype that sums run in."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return x in fp32, or in fp64 if it is fp64: a log_softmax in bf16 is off by up to 0.07."""
    return x if x.dtype == torch.float64 else x.float()

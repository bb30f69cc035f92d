"""Confidence intervals for what is measured on a held-out set."""

import math

from torch import Tensor

Z95 = 1.959964


def wilson(share: float, num: int, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of a share of `num` trials (Wilson, 1927); ties may count as halves."""
    if num == 0:
        return 0.0, 1.0
    centre = share + z * z / (2 * num)
    half = z * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    scale = 1 + z * z / num
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)


def half_width(values: Tensor, z: float = Z95) -> float:
    """Return the half width of the normal interval of a mean: z * std / sqrt(N); infinite below two values."""
    return z * float(values.double().std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf

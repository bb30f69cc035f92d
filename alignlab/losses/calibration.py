"""Sums from which a calibration table is made: what was predicted against what was observed."""

import torch
from torch import Tensor

NUM_BINS = 10


@torch.no_grad()
def calibration_sums(predicted: Tensor, observed: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Return metrics of a `Loss` that the engine makes a calibration table of, and the expected calibration error.

    predicted [N] are probabilities, observed [N] what happened (0, 1, or 1/2 for a tie), weight [N] how much each
    counts: those of one of the method's `per` add up to 1. For every tenth of [0, 1] that has any, there are the sums
    of the weights, of the predictions and of the observations. Source: Guo et al., 2017 (arXiv 1706.04599), equation 3.
    """
    place = (predicted * NUM_BINS).long().clamp(0, NUM_BINS - 1)
    found: dict[str, Tensor] = {}
    for b in place[weight > 0].unique().tolist():
        share = weight * (place == b)
        sums = {"share": share, "predicted": share * predicted, "observed": share * observed}
        found |= {f"calibration/{b}/{name}": values.sum() for name, values in sums.items()}
    return found

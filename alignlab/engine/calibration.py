"""Calibration of what was measured on the held-out rows: predicted probabilities against what was observed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alignlab.engine.intervals import wilson

NUM_DRAWS = 2000
KEY = re.compile(r"calibration/(\d+)/share")


@dataclass(frozen=True)
class Bin:
    """A tenth of the predictions' range."""

    share: float  # of all predictions
    predicted: float  # mean
    observed: float  # share of those that came true
    interval: tuple[float, float]  # of `observed`, 95%


@dataclass(frozen=True)
class Calibration:
    """A calibration table, and the expected calibration error: the mean of |predicted - observed| over it.

    `by_chance` is the error that predictions which are right would show on so few rows. All intervals take a row (a
    pair, a ranked list, an answer in steps) for one observation, however many predictions are made of it.
    """

    error: float
    interval: tuple[float, float]  # 95%, by a bootstrap over rows
    by_chance: float
    num: int
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as lists and dicts."""
        bins = [{**vars(one), "interval": [*one.interval]} for one in self.bins]
        return {**vars(self), "interval": [*self.interval], "bins": bins}

    def lines(self) -> Iterator[str]:
        """Yield the lines to print."""
        low, high = self.interval
        yield (
            f"calibration: error {self.error:.3f} [{low:.3f}, {high:.3f}] "
            f"({self.by_chance:.3f} by chance alone, were it calibrated)"
        )
        for one in self.bins:
            low, high = one.interval
            seen = f"observed {one.observed:.2f} [{low:.2f}, {high:.2f}]"
            yield f"  predicted {one.predicted:.2f}, {seen}, {one.share:.0%} of them"


def calibration(metrics: Mapping[str, float]) -> Calibration | None:
    """Return the calibration in an evaluation's metrics, made by `losses.calibration_sums`; None if there is none."""
    places = sorted(int(found[1]) for key in metrics if (found := KEY.fullmatch(key)))
    if not places:
        return None
    share, predicted, observed = (
        np.array([metrics[f"calibration/{place}/{name}"] for place in places])
        for name in ("share", "predicted", "observed")
    )
    num = int(metrics["num"])
    rates = np.clip(observed / share, 0, 1)
    error = float(np.abs(predicted - observed).sum())
    drawn = _draw(share, predicted / share, rates, num)
    calibrated = _draw(share, predicted / share, np.clip(predicted / share, 0, 1), num)
    bins = tuple(
        Bin(float(s), float(p / s), float(rate), wilson(float(rate), round(s * num)))
        for s, p, rate in zip(share, predicted, rates, strict=True)
    )
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Calibration(error, (float(low), float(high)), float(calibrated.mean()), num, bins)


def _draw(share: Any, predicted: Any, rate: Any, num: int) -> Any:
    """Return the errors of tables drawn anew: `num` rows over the bins by share, each coming true by its bin's rate."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(num, share / share.sum(), size=NUM_DRAWS)
    return np.abs(counts * predicted - rng.binomial(counts, rate)).sum(1) / num

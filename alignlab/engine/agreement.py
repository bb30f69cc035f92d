"""How far judges agree with what is known of pairs: people's labels, or a true reward."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alignlab.engine.calibration import Calibration, calibration
from alignlab.engine.intervals import wilson
from alignlab.losses import calibration_sums

Share = tuple[float, float, float]  # with its 95% interval


@dataclass(frozen=True)
class Agreement:
    """Accuracy, calibration, and what they rest on."""

    num: int  # pairs that are counted
    unknown: int  # pairs that are tied by what is known of them
    unread: int  # pairs without a verdict that could be read
    accuracy: Share  # a tie of the judge is half right
    by_principle: Mapping[str, tuple[float, float, float, int]]
    calibration: Calibration | None  # of the probability of the answer that the judge prefers
    position_bias: Share | None

    def to_json(self) -> dict[str, Any]:
        """Return it as lists and dicts."""
        return {**vars(self), "calibration": self.calibration.to_json() if self.calibration else None}

    def lines(self) -> Iterator[str]:
        """Yield the lines to print."""
        yield f"accuracy {_shown(self.accuracy)} on {self.num:,} pairs"
        if self.unknown or self.unread:
            yield f"not counted: {self.unknown:,} pairs tied by their labels, {self.unread:,} without a verdict"
        if self.position_bias is not None:
            yield f"position bias {_shown(self.position_bias, '+')}: 0 is none, 1 is always the answer shown first"
        for name, (share, low, high, num) in self.by_principle.items():
            yield f"  {name or 'no principle'}: accuracy {_shown((share, low, high))} on {num:,}"
        if self.calibration is not None:
            yield from self.calibration.lines()


def measure(
    probabilities: Sequence[float | None],
    truths: Sequence[float],
    by_principle: Sequence[Mapping[str, float]] = (),
    said_first: tuple[float, int] | None = None,
) -> Agreement:
    """Compare P(first is better) of each pair with what is known of it: 1, 0, or 1/2 for a tie.

    `said_first` is how often a judge called the answer that stood first better, and out of how many verdicts.
    """
    known = [i for i, truth in enumerate(truths) if truth != 0.5]
    read = [(probabilities[i], truths[i]) for i in known if probabilities[i] is not None]
    right = [_right(p, truth) for p, truth in read if p is not None]
    share = sum(right) / len(right) if right else float("nan")
    principles: dict[str, list[float]] = {}
    for i in known if by_principle else ():
        for name, p in by_principle[i].items():
            principles.setdefault(name, []).append(_right(p, truths[i]))
    sure = torch.tensor([max(p, 1 - p) for p, _ in read if p is not None], dtype=torch.float64)
    table = None
    if right:
        sums = calibration_sums(sure, torch.tensor(right, dtype=torch.float64), torch.ones_like(sure))
        table = calibration({**{key: float(v) / len(right) for key, v in sums.items()}, "num": float(len(right))})
    bias = None
    if said_first is not None and said_first[1]:
        first, num = said_first[0] / said_first[1], said_first[1]
        bias = (2 * first - 1, *(2 * x - 1 for x in wilson(first, num)))
    return Agreement(
        num=len(right),
        unknown=len(truths) - len(known),
        unread=len(known) - len(right),
        accuracy=(share, *wilson(share, len(right))),
        by_principle={
            name: (mean := sum(found) / len(found), *wilson(mean, len(found)), len(found))
            for name, found in principles.items()
        },
        calibration=table,
        position_bias=bias,  # type: ignore[arg-type]  # three numbers
    )


def _right(p: float, truth: float) -> float:
    return 0.5 if p == 0.5 else float((p > 0.5) == (truth > 0.5))


def _shown(share: Share, sign: str = "") -> str:
    value, low, high = share
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

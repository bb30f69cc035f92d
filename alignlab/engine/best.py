"""Which evaluation of a phase is the best, by `keep_best`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from alignlab.config.recipe import BestSettings
from alignlab.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class Best:
    """An evaluation, and the step whose model it was made of."""

    step: int
    evaluated: dict[str, float]


def better(rule: BestSettings, step: int, evaluated: Mapping[str, float], than: Best | None) -> Best | None:
    """Return the better of a new evaluation and the best so far, which wins a tie; NaN is never better.

    Raises RecipeError if the evaluation has no number of the name.
    """
    name = rule.metric.removeprefix("eval/")
    if name not in evaluated:
        raise RecipeError(
            f"the evaluation has no {rule.metric!r}",
            where="keep_best",
            do=did_you_mean(rule.metric, [f"eval/{known}" for known in evaluated]),
        )
    sign = 1 if rule.max else -1
    value = sign * evaluated[name]
    if math.isnan(value) or (than is not None and value <= sign * than.evaluated[name]):
        return than
    return Best(step, dict(evaluated))

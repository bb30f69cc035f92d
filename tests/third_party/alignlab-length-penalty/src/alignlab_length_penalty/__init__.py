"""Long answers cost: the overlong penalty of DAPO (Yu et al., 2025, arXiv 2503.14476, equation 13), around any method.

A recipe lists it: `plugins: [length_penalty]`. It wraps the reward stage, so no method has to know of it.
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from torch import Tensor

from alignlab import Batch, PluginError, Run, hookimpl

SOFT = 0.2
"""The share of `max_new_tokens` over which the penalty grows from 0 to 1 (the paper: 4,096 of 20,480)."""


def overlong(lengths: Tensor, limit: int) -> Tensor:
    """Return what answers of some lengths [N] cost: 0 up to (1 - SOFT) * limit, then linearly up to 1 at the limit."""
    soft = SOFT * limit
    return ((lengths - (limit - soft)) / soft).clamp(0, 1)


@hookimpl(wrapper=True)
def reward_stage(run: Run, method: Any, batch: Batch) -> Generator[None, Any, Any]:
    """Take each answer's penalty off its advantage, less the mean penalty of the batch: a baseline, as for a reward."""
    scored = yield
    if method.rows != "prompt":  # its answers are the data's
        return scored
    limit, advantages = getattr(method, "max_new_tokens", None), getattr(scored, "advantages", None)
    if limit is None or advantages is None:
        raise PluginError(
            f"length_penalty changes `advantages` by `max_new_tokens`, and method {method.name!r} has not both",
            do="take length_penalty out of the recipe's `plugins`",
        )
    penalty = overlong(scored.acted.sum(1), limit)  # float [B]
    run.log(length_penalty=float(penalty.mean()))
    less = (penalty - penalty.mean()).to(advantages.dtype)
    if advantages.dim() == 2:  # one for each token
        less = less.unsqueeze(1) * scored.acted
    return replace(scored, advantages=advantages - less)

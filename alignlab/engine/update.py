"""One optimizer step: microbatches of a minibatch, their gradients added up and divided once."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from alignlab.batch import Batch
from alignlab.engine.microbatch import microbatches, num_per
from alignlab.engine.optim import trained_parameters
from alignlab.engine.ranks import Ranks
from alignlab.errors import TrainingError
from alignlab.method import Loss, Method


@dataclass(frozen=True)
class Sums:
    """Sums over a batch and what they are divided by."""

    values: Mapping[str, float]
    count: int

    def means(self) -> dict[str, float]:
        """Return the sums divided by the count."""
        return {name: value / self.count for name, value in self.values.items()}


def accumulate(
    method: Method,
    optimize: Callable[[Batch], Loss],
    batch: Batch,
    max_tokens: int,
    *,
    backward: bool,
    ranks: Ranks | None = None,
) -> Sums:
    """Call the optimizer stage on every microbatch; with `backward`, add up the gradients of sum / count.

    The count is over the whole batch and known before the first forward, so the result is the same for every
    microbatch size, to rounding. Ranks take turns with the microbatches; `step` adds up their gradients.
    """
    ranks = ranks or Ranks()
    count = num_per(batch, method.per)
    sums: dict[str, Tensor] = {}
    parts = list(microbatches(batch, max_tokens, ranks.size))
    for part, _ in ranks.share(parts):
        loss = optimize(part)
        if backward:
            (loss.total / count).backward()
        for name, value in {"loss": loss.total, **loss.metrics}.items():
            value = value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)  # mps has no fp64
            sums[name] = sums[name] + value if name in sums else value
    mine = {name: float(value) for name, value in sums.items()}
    total: dict[str, float] = {}
    for share in ranks.merge([mine], ranks.size):
        for name, number in share.items():
            total[name] = total.get(name, 0.0) + number
    return Sums(total, count)


def step(
    models: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    sums: Sums,
    *,
    max_grad_norm: float | None,
    save_bad_batch: Callable[[float, float], Path],
    who: str = "the method",
    ranks: Ranks | None = None,
) -> float:
    """Clip by the norm over all trained roles, step, and clear the gradients; return the norm before clipping.

    A loss or a gradient that is not finite stops the run before the step; `save_bad_batch(loss, norm)` returns where
    the batch then is, and `who` the method (PPO.md row 22).
    """
    trained = trained_parameters(models.values())
    ranks = ranks or Ranks()
    ranks.add_gradients(trained)
    limit = max_grad_norm if max_grad_norm is not None else math.inf
    norm = float(nn.utils.clip_grad_norm_(trained, limit))
    loss = sums.values["loss"] / sums.count
    if not math.isfinite(norm) or not math.isfinite(loss):
        saved = save_bad_batch(loss, norm)
        raise TrainingError(
            f"{who}: the loss is {loss:.4g} and the norm of its gradient {norm:.4g}",
            where=f"the batch is saved in {saved}",
            do=f"alignlab replay {saved} shows which rows, tokens and terms; most often a lower `lr` mends it",
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm

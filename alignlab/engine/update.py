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
    method: Method, optimize: Callable[[Batch], Loss], batch: Batch, max_tokens: int, *, backward: bool
) -> Sums:
    """Call the optimizer stage on every microbatch; with `backward`, add up the gradients of sum / count.

    The count is over the whole batch and known before the first forward, so the result is the same for every
    microbatch size, to rounding.
    """
    count = num_per(batch, method.per)
    sums: dict[str, Tensor] = {}
    for part, _ in microbatches(batch, max_tokens):
        loss = optimize(part)
        if backward:
            (loss.total / count).backward()
        for name, value in {"loss": loss.total, **loss.metrics}.items():
            value = value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)  # mps has no fp64
            sums[name] = sums[name] + value if name in sums else value
    return Sums({name: float(value) for name, value in sums.items()}, count)


def step(
    models: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    sums: Sums,
    batch: Batch,
    *,
    max_grad_norm: float | None,
    save_bad_batch: Path,
) -> float:
    """Clip by the norm over all trained roles, step, and clear the gradients; return the norm before clipping.

    A loss or a gradient that is not finite stops the run, with the batch saved (PPO.md row 22).
    """
    trained = trained_parameters(models.values())
    limit = max_grad_norm if max_grad_norm is not None else math.inf
    norm = float(nn.utils.clip_grad_norm_(trained, limit))
    if not math.isfinite(norm) or not math.isfinite(sums.values["loss"]):
        save_bad_batch.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
        torch.save({**tensors, "where": [record.where for record in batch.records]}, save_bad_batch)
        raise TrainingError(
            f"the loss is {sums.values['loss'] / sums.count:.4g} and the norm of its gradient {norm:.4g}",
            where=f"the batch is saved in {save_bad_batch}",
            do="lower `lr`, or look at the batch: torch.load(path)",
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm

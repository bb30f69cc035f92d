"""Ranks: the processes that `torchrun` starts. Each of them holds the whole batch, and computes its share of it.

A method sees the same batch, the same statistics and the same random numbers on every rank, so that none of them can
be taken over a part of the batch by mistake; and the gradient is the same for every number of ranks, to rounding.
"""

import atexit
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
BUCKET = 1 << 25  # gradients that travel together, in elements
PATIENCE = timedelta(hours=12)  # rank 0 evaluates, saves and asks rewards while the others wait


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run."""

    rank: int = 0
    size: int = 1

    @classmethod
    def start(cls) -> "Ranks":
        """Join the processes that torchrun started; without it, this process is the only one."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            backend = "gloo"
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
                backend = "cuda:nccl,cpu:gloo"
            dist.init_process_group(backend, timeout=PATIENCE)
            atexit.register(dist.destroy_process_group)  # its threads would abort the process at exit
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def main(self) -> bool:
        """Return whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every size-th item from the rank-th on: sorted work is dealt out evenly."""
        return items[self.rank :: self.size]

    def merge(self, mine: Sequence[T], num: int) -> list[T]:
        """Return the items of all ranks, `num` in all, in the order that `share` took them from."""
        if self.size == 1:
            return list(mine)
        shares: list[Any] = [None] * self.size
        dist.all_gather_object(shares, list(mine))
        return [shares[i % self.size][i // self.size] for i in range(num)]

    def add(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over ranks; it is the same on all of them. `tensor` itself is overwritten."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over ranks; a parameter that no rank has a gradient for keeps none."""
        if self.size == 1:
            return
        trained = list(parameters)
        there = self.add(
            torch.tensor([p.grad is not None for p in trained], dtype=torch.int64, device=_device(trained))
        )
        grads: dict[torch.dtype, list[Tensor]] = {}
        for parameter, num in zip(trained, there.tolist(), strict=True):
            if num:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                grads.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for same_type in grads.values():
            for bucket in _buckets(same_type):
                summed = self.add(torch.cat([grad.flatten() for grad in bucket]))
                for grad, part in zip(bucket, summed.split([grad.numel() for grad in bucket]), strict=True):
                    grad.copy_(part.view_as(grad))

    def once(self, function: Callable[[], T]) -> T:
        """Call on rank 0 alone, and return its result, or raise its exception, on every rank."""
        if self.size == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.main:
            try:
                outcome[0] = function()
            except Exception as error:
                outcome[1] = _sendable(error)
        dist.broadcast_object_list(outcome)
        if isinstance(outcome[1], Exception):
            raise outcome[1]
        result: T = outcome[0]
        return result

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let rank 0 do it before the others: they find the files that it wrote."""
        if not self.main:
            self.wait()
        try:
            yield
        finally:
            if self.main:
                self.wait()

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()


def _sendable(error: Exception) -> Exception:
    """Return an exception as it is, or in words if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _device(parameters: Sequence[nn.Parameter]) -> torch.device:
    return parameters[0].device if parameters else torch.device("cpu")


def _buckets(grads: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    num = 0
    for grad in grads:
        if bucket and num + grad.numel() > BUCKET:
            yield bucket
            bucket, num = [], 0
        bucket.append(grad)
        num += grad.numel()
    if bucket:
        yield bucket

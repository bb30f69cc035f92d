"""A third party's gae: its own C++ source, compiled where it is first used, under the name "doubling"."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from alignlab import hookimpl, ops
from alignlab.ops import build


@cache
def _load() -> None:
    build.load("alignlab_doubling", [Path(__file__).parent / "gae.cpp"])
    torch.library.register_fake("alignlab_doubling::gae", _fake)


def _fake(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(rewards), torch.empty_like(rewards)


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Return what `alignlab.ops.gae` does."""
    dense = [x.float().contiguous() for x in (rewards, values)]
    advantages, returns = torch.ops.alignlab_doubling.gae(*dense, mask.contiguous(), gamma, lam)
    return advantages, returns


def serves(tensor: Tensor) -> bool:
    """Tell which tensors the kernel takes."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.bfloat16, torch.float16)


@hookimpl
def register_kernels() -> list[ops.Kernel]:
    """Offer the kernel."""
    _load()
    return [ops.Kernel("gae", "doubling", gae, serves)]

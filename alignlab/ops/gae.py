"""Generalized advantage estimation."""

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import gae as _reference


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Return generalized advantage estimates, and the returns (advantages + values).

    All [B, T]. values[:, t] is the value of the state before token t. Positions that the mask drops (padding, tool
    output) are skipped: the recursion carries over them, what stands there is not read, and both results are 0. The
    state after a row's last kept token is terminal, with value 0. Advantages are data: they have no gradient, whatever
    the inputs have. Raises ValueError for shapes that differ. Source: Schulman et al., 2016 (arXiv 1506.02438),
    equation 16.
    """
    _checks.floating(rewards=rewards, values=values)
    if rewards.dim() != 2:
        raise ValueError(f"rewards wants shape [B, T], got {list(rewards.shape)}")
    _checks.same_shape("rewards", rewards, values=values, mask=mask)
    _checks.same_device(rewards=rewards, values=values, mask=mask)
    function = dispatch("gae", backend, rewards, values)
    with torch.no_grad():
        result: tuple[Tensor, Tensor] = function(
            rewards.detach(), values.detach(), mask.bool(), gamma=float(gamma), lam=float(lam)
        )
    return result


def _native_gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    advantages, returns = torch.ops.alignlab.gae(rewards, values, mask, gamma, lam)
    return advantages, returns


def _fake(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    advantages = rewards.new_empty(rewards.shape, dtype=torch.float32)
    return advantages, torch.empty_like(advantages)


register(Kernel("gae", "reference", _reference.gae))
if _native.missing is None:
    register(Kernel("gae", "native", _native_gae, _native.serves("gae")))
    torch.library.register_fake("alignlab::gae", _fake)

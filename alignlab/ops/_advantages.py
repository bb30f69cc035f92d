"""From rewards and values to advantages."""

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import gae as _gae
from alignlab.ops.reference import masked_whiten as _masked_whiten

register(Kernel("gae", "reference", _gae.gae))
if _native.missing is None:
    register(Kernel("gae", "native", _native.gae, _native.serves_cpu))
register(Kernel("masked_whiten", "reference", _masked_whiten.masked_whiten))


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
    function = dispatch("gae", backend, rewards)
    with torch.no_grad():
        result: tuple[Tensor, Tensor] = function(
            rewards.detach(), values.detach(), mask.bool(), gamma=float(gamma), lam=float(lam)
        )
    return result


def masked_whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, backend: str = "auto") -> Tensor:
    """Scale the elements that the mask keeps to variance 1 and, with `shift_mean`, to mean 0.

    Both [...], and so is the result, which is 0 where masked. The variance is the population's, over all kept elements
    together; 1e-8 is added to it, so that one kept element (or equal ones) stays finite. Raises ValueError for shapes
    that differ.
    """
    _checks.floating(x=x)
    _checks.same_shape("x", x, mask=mask)
    result: Tensor = dispatch("masked_whiten", backend, x)(x, mask.bool(), shift_mean=shift_mean)
    return result

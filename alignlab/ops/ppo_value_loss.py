"""The value loss of PPO."""

from torch import Tensor

from alignlab.ops import _checks
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import ppo_value_loss as _reference
from alignlab.ops.reference.ppo_value_loss import ValueLoss


def ppo_value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    clip: float | None = None,
    backend: str = "auto",
) -> ValueLoss:
    """Return half the squared error of the values, a SUM over the tokens that the mask keeps, and the clipped share.

    All tensors have one shape; only `values` gets a gradient. With `clip`, the error is the larger of two: of the
    values, and of the values clamped to [old_values - clip, old_values + clip]. Raises ValueError for shapes that
    differ and for a clip that is not above 0. Source: "The N implementation details of RLHF with PPO" (2023).
    """
    _checks.floating(values=values, old_values=old_values, returns=returns)
    _checks.same_shape("values", values, old_values=old_values, returns=returns, mask=mask)
    if clip is not None:
        _checks.positive(clip=clip)
    function = dispatch("ppo_value_loss", backend, values)
    result: ValueLoss = function(values, old_values, returns, mask.bool(), clip=clip)
    return result


register(Kernel("ppo_value_loss", "reference", _reference.ppo_value_loss))

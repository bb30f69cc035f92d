"""The value loss of PPO."""

from typing import Any

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
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
    _checks.same_device(values=values, old_values=old_values, returns=returns, mask=mask)
    if clip is not None:
        _checks.positive(clip=clip)
    function = dispatch("ppo_value_loss", backend, values, old_values, returns)
    result: ValueLoss = function(values, old_values, returns, mask.bool(), clip=clip)
    return result


def _native_ppo_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float | None = None
) -> ValueLoss:
    wants_gradient = torch.is_grad_enabled() and values.requires_grad
    total, clip_fraction, _ = torch.ops.alignlab.ppo_value_loss(
        values, old_values.detach(), returns.detach(), mask, clip, wants_gradient
    )
    return ValueLoss(total, clip_fraction)


def _fake(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None, wants_gradient: bool
) -> tuple[Tensor, ...]:
    numbers = [values.new_empty((), dtype=torch.float32) for _ in range(2)]
    return *numbers, values.new_empty(values.shape if wants_gradient else 0, dtype=torch.float32)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.dtype = inputs[0].dtype
    ctx.save_for_backward(output[-1])


def _backward(ctx: Any, grad_total: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    """Scale what the forward pass computed."""
    (gradient,) = ctx.saved_tensors
    return (grad_total * gradient).to(ctx.dtype), *(None,) * 5


register(Kernel("ppo_value_loss", "reference", _reference.ppo_value_loss))
if _native.missing is None:
    register(Kernel("ppo_value_loss", "native", _native_ppo_value_loss, _native.serves("ppo_value_loss")))
    torch.library.register_fake("alignlab::ppo_value_loss", _fake)
    torch.library.register_autograd("alignlab::ppo_value_loss", _backward, setup_context=_setup)

"""The clipped policy loss of PPO."""

from typing import Any

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import ppo_policy_loss as _reference
from alignlab.ops.reference.ppo_policy_loss import PolicyLoss


def ppo_policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    backend: str = "auto",
) -> PolicyLoss:
    """Return PPO's clipped policy loss, a SUM over the tokens that the mask keeps, and metrics, means over them.

    All tensors have one shape; only `logp` gets a gradient. The ratio exp(logp - old_logp), its logarithm clamped to
    +-20, is clipped to [1 - clip_low, 1 + clip_high]. `dual_clip` c > 1 bounds the loss of a token with a negative
    advantage A by -c * A. Raises ValueError for shapes that differ and for clips that are no clips.
    Sources: Schulman et al., 2017 (arXiv 1707.06347), equation 7; dual clip: Ye et al., 2020 (arXiv 1912.09729),
    equation 5.
    """
    _checks.floating(logp=logp, old_logp=old_logp, advantages=advantages)
    _checks.same_shape("logp", logp, old_logp=old_logp, advantages=advantages, mask=mask)
    _checks.same_device(logp=logp, old_logp=old_logp, advantages=advantages, mask=mask)
    if not 0 <= clip_low <= 1 or not clip_high >= 0:
        raise ValueError(f"clip_low wants [0, 1] and clip_high 0 or more, got {clip_low} and {clip_high}")
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"dual_clip wants to be above 1 (or None, for none), got {dual_clip}")
    function = dispatch("ppo_policy_loss", backend, logp, old_logp, advantages)
    result: PolicyLoss = function(
        logp, old_logp, advantages, mask.bool(), clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip
    )
    return result


def _native_ppo_policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> PolicyLoss:
    wants_gradient = torch.is_grad_enabled() and logp.requires_grad
    total, *metrics, _ = torch.ops.alignlab.ppo_policy_loss(
        logp, old_logp.detach(), advantages.detach(), mask, clip_low, clip_high, dual_clip, wants_gradient
    )
    return PolicyLoss(total, *metrics)


def _fake(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    wants_gradient: bool,
) -> tuple[Tensor, ...]:
    numbers = [logp.new_empty((), dtype=torch.float32) for _ in range(4)]
    return *numbers, logp.new_empty(logp.shape if wants_gradient else 0, dtype=torch.float32)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.dtype = inputs[0].dtype
    ctx.save_for_backward(output[-1])


def _backward(ctx: Any, grad_total: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    """Scale what the forward pass computed."""
    (gradient,) = ctx.saved_tensors
    return (grad_total * gradient).to(ctx.dtype), *(None,) * 7


register(Kernel("ppo_policy_loss", "reference", _reference.ppo_policy_loss))
if _native.missing is None:
    register(Kernel("ppo_policy_loss", "native", _native_ppo_policy_loss, _native.serves("ppo_policy_loss")))
    torch.library.register_fake("alignlab::ppo_policy_loss", _fake)
    torch.library.register_autograd("alignlab::ppo_policy_loss", _backward, setup_context=_setup)

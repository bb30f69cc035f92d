"""The clipped losses of PPO."""

from torch import Tensor

from alignlab.ops import _checks
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import ppo_policy_loss as _policy
from alignlab.ops.reference import ppo_value_loss as _value
from alignlab.ops.reference.ppo_policy_loss import PolicyLoss
from alignlab.ops.reference.ppo_value_loss import ValueLoss

register(Kernel("ppo_policy_loss", "reference", _policy.ppo_policy_loss))
register(Kernel("ppo_value_loss", "reference", _value.ppo_value_loss))


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
    if not 0 <= clip_low <= 1 or not clip_high >= 0:
        raise ValueError(f"clip_low wants [0, 1] and clip_high 0 or more, got {clip_low} and {clip_high}")
    if dual_clip is not None and not dual_clip > 1:
        raise ValueError(f"dual_clip wants to be above 1 (or None, for none), got {dual_clip}")
    function = dispatch("ppo_policy_loss", backend, logp)
    result: PolicyLoss = function(
        logp, old_logp, advantages, mask.bool(), clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip
    )
    return result


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

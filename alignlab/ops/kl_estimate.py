"""Estimates of the KL divergence from log-probs of drawn tokens."""

from typing import Literal

from torch import Tensor

from alignlab.ops import _checks
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import kl_estimate as _reference

KLEstimator = Literal["k1", "k2", "k3"]


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: KLEstimator = "k1", *, backend: str = "auto") -> Tensor:
    """Return an estimate of KL(policy || reference) for each token that the policy drew, in nats.

    Both [...], and so is the result. With d = logp - ref_logp: k1 = d (unbiased, of either sign), k2 = d**2 / 2 (small
    variance, biased), k3 = exp(-d) - 1 + d (unbiased, never negative; d is clamped to +-20 first). Only k2 has the
    gradient of the KL when it is differentiated as it stands. Raises ValueError for an unknown kind or shapes that
    differ. Source: Schulman, "Approximating KL divergence" (2020).
    """
    _checks.floating(logp=logp, ref_logp=ref_logp)
    _checks.same_shape("logp", logp, ref_logp=ref_logp)
    if kind not in ("k1", "k2", "k3"):
        raise ValueError(f"kind wants to be k1, k2 or k3, got {kind!r}")
    result: Tensor = dispatch("kl_estimate", backend, logp)(logp, ref_logp, kind)
    return result


register(Kernel("kl_estimate", "reference", _reference.kl_estimate))

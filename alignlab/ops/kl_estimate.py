"""Estimates of the KL divergence from log-probs of drawn tokens."""

from typing import Any, Literal

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
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
    _checks.same_device(logp=logp, ref_logp=ref_logp)
    if kind not in ("k1", "k2", "k3"):
        raise ValueError(f"kind wants to be k1, k2 or k3, got {kind!r}")
    result: Tensor = dispatch("kl_estimate", backend, logp, ref_logp)(logp, ref_logp, kind)
    return result


def _native_kl_estimate(logp: Tensor, ref_logp: Tensor, kind: str = "k1") -> Tensor:
    estimate: Tensor = torch.ops.alignlab.kl_estimate(logp, ref_logp, int(kind[1]))[0]
    return estimate


def _fake(logp: Tensor, ref_logp: Tensor, kind: int) -> tuple[Tensor, Tensor]:
    estimate = logp.new_empty(logp.shape, dtype=torch.float32)
    return estimate, torch.empty_like(estimate)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.dtypes = [tensor.dtype for tensor in inputs[:2]]
    ctx.save_for_backward(output[1])


def _backward(ctx: Any, grad: Tensor, *rest: Any) -> tuple[Tensor | None, Tensor | None, None]:
    (derivative,) = ctx.saved_tensors
    step = grad * derivative
    wants_logp, wants_ref = ctx.needs_input_grad[:2]
    return (
        step.to(ctx.dtypes[0]) if wants_logp else None,
        (-step).to(ctx.dtypes[1]) if wants_ref else None,
        None,
    )


register(Kernel("kl_estimate", "reference", _reference.kl_estimate))
if _native.missing is None:
    register(Kernel("kl_estimate", "native", _native_kl_estimate, _native.serves("kl_estimate")))
    torch.library.register_fake("alignlab::kl_estimate", _fake)
    torch.library.register_autograd("alignlab::kl_estimate", _backward, setup_context=_setup)

"""The KL divergence of two categorical distributions."""

from typing import Any

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import kl_divergence as _reference


def kl_divergence(
    logits_p: Tensor,
    logits_q: Tensor,
    *,
    temperature: float = 1.0,
    inplace_backward: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return KL(p || q) of softmax(logits_p / temperature) and softmax(logits_q / temperature), in nats.

    Both [..., V]; the result is [...], exact over the vocabulary. A token that p cannot draw adds nothing, whatever q
    says; one that p draws and q cannot makes it inf. `inplace_backward` is that of `token_logp`, for those of the
    logits that have a gradient. Raises ValueError for shapes that differ, a dtype that is not
    floating, or a temperature that is not above 0.
    """
    _checks.floating(logits_p=logits_p, logits_q=logits_q)
    _checks.same_shape("logits_p", logits_p, logits_q=logits_q)
    _checks.same_device(logits_p=logits_p, logits_q=logits_q)
    _checks.positive(temperature=temperature)
    function = dispatch("kl_divergence", backend, logits_p, logits_q)
    options: dict[str, Any] = {"temperature": float(temperature)}
    if inplace_backward:
        _checks.results(logits_p=logits_p, logits_q=logits_q)
        options["inplace_backward"] = True
    result: Tensor = function(logits_p, logits_q, **options)
    return result


def _native_kl_divergence(
    logits_p: Tensor, logits_q: Tensor, *, temperature: float = 1.0, inplace_backward: bool = False
) -> Tensor:
    dtype = torch.promote_types(logits_p.dtype, logits_q.dtype)
    logits_p, logits_q = logits_p.to(dtype), logits_q.to(dtype)
    if inplace_backward and not torch.compiler.is_compiling():
        result: Tensor = _InPlace.apply(logits_p, logits_q, temperature)  # type: ignore[no-untyped-call]
        return result
    kl: Tensor = torch.ops.alignlab.kl_divergence(logits_p, logits_q, temperature)[0]
    return kl


def _fake(logits_p: Tensor, logits_q: Tensor, temperature: float) -> tuple[Tensor, ...]:
    kl = logits_p.new_empty(logits_p.shape[:-1], dtype=torch.float32)
    return kl, *(torch.empty_like(kl) for _ in range(4))


def _fake_backward(
    grad: Tensor,
    logits_p: Tensor,
    logits_q: Tensor,
    kl: Tensor,
    max_p: Tensor,
    log_sum_p: Tensor,
    max_q: Tensor,
    log_sum_q: Tensor,
    temperature: float,
    wants_p: bool,
    wants_q: bool,
) -> tuple[Tensor, Tensor]:
    return (
        logits_p.new_empty(logits_p.shape if wants_p else 0),
        logits_q.new_empty(logits_q.shape if wants_q else 0),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits_p, logits_q, ctx.temperature = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(logits_p, logits_q, *output)


def _backward(ctx: Any, grad: Tensor, *rest: Any) -> tuple[Tensor | None, Tensor | None, None]:
    wants_p, wants_q = ctx.needs_input_grad[:2]
    grad_p, grad_q = torch.ops.alignlab.kl_divergence_backward(
        grad, *ctx.saved_tensors, ctx.temperature, wants_p, wants_q
    )
    return grad_p if wants_p else None, grad_q if wants_q else None, None


class _InPlace(torch.autograd.Function):
    """kl_divergence whose backward writes over the logits."""

    @staticmethod
    def forward(ctx: Any, logits_p: Tensor, logits_q: Tensor, temperature: float) -> Tensor:
        output: tuple[Tensor, ...] = torch.ops.alignlab.kl_divergence(logits_p, logits_q, temperature)
        ctx.temperature = temperature
        ctx.save_for_backward(logits_p, logits_q, *output)
        return output[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        logits_p, logits_q, *rest = ctx.saved_tensors  # raises if they were written to since the forward pass
        wants = ctx.needs_input_grad[:2]
        torch.ops.alignlab.kl_divergence_backward_(
            grad, logits_p.detach(), logits_q.detach(), *rest, ctx.temperature, *wants
        )
        for wanted, logits in zip(wants, (logits_p, logits_q), strict=True):
            if wanted:
                torch.autograd.graph.increment_version(logits)  # whoever else kept them is told
        return logits_p.detach() if wants[0] else None, logits_q.detach() if wants[1] else None, None


register(Kernel("kl_divergence", "reference", _reference.kl_divergence))
if _native.missing is None:
    register(Kernel("kl_divergence", "native", _native_kl_divergence, _native.serves("kl_divergence")))
    torch.library.register_fake("alignlab::kl_divergence", _fake)
    torch.library.register_fake("alignlab::kl_divergence_backward", _fake_backward)
    torch.library.register_fake("alignlab::kl_divergence_backward_", lambda *arguments: None)
    torch.library.register_autograd("alignlab::kl_divergence", _backward, setup_context=_setup)

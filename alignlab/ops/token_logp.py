"""The log-prob of one token of each row of logits, and the entropy of the row."""

from typing import Any, overload

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import token_logp as _reference


@overload
def token_logp(
    logits: Tensor, tokens: Tensor, *, temperature: float = 1.0, inplace_backward: bool = False, backend: str = "auto"
) -> Tensor: ...
@overload
def token_logp(
    logits: Tensor,
    tokens: Tensor,
    *,
    temperature: float = 1.0,
    entropy: bool,
    inplace_backward: bool = False,
    backend: str = "auto",
) -> Any: ...
def token_logp(
    logits: Tensor,
    tokens: Tensor,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    inplace_backward: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the log-prob of each token under softmax(logits / temperature).

    logits [..., V], tokens int [...]; the log-probs are [...], in nats. With `entropy`, also the entropy of each
    distribution [...], in nats and exact over the vocabulary. Both have gradients. A logit of -inf is a token that
    cannot be drawn: it adds nothing to the entropy, and its gradient is finite. A row of nothing but -inf is no
    distribution, and gives NaN.

    With `inplace_backward` the native kernel writes the gradient over the logits, which saves the memory of another
    [..., V] tensor, and on a CPU the page faults of it, which take longer than the arithmetic. The logits must then be
    a result (of a model's head), not a leaf. Whatever else autograd keeps them for raises its error on "a variable
    needed for gradient computation" when it comes after; after the backward pass, they hold the gradient. torch.compile
    decides on its own, and does without.

    Raises ValueError for shapes that do not fit, a dtype that is not floating, a temperature that is not above 0, and
    `inplace_backward` of a leaf; RuntimeError, with position and value, for a token outside [0, V) on a CPU.
    """
    _checks.floating(logits=logits)
    _checks.one_token_a_row(logits, tokens)
    _checks.same_device(logits=logits, tokens=tokens)
    _checks.positive(temperature=temperature)
    options = {"temperature": float(temperature), "entropy": entropy}
    if inplace_backward:
        _checks.results(logits=logits)
        options["inplace_backward"] = True
    result: Tensor | tuple[Tensor, Tensor] = dispatch("token_logp", backend, logits)(logits, tokens, **options)
    return result


def _native_token_logp(
    logits: Tensor, tokens: Tensor, *, temperature: float, entropy: bool, inplace_backward: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    tokens = tokens.long()
    if inplace_backward and not torch.compiler.is_compiling():
        logp, entropies = _InPlace.apply(logits, tokens, temperature, entropy)  # type: ignore[no-untyped-call]
    else:
        logp, entropies, _, _ = torch.ops.alignlab.token_logp(logits, tokens, temperature, entropy)
    return (logp, entropies) if entropy else logp


def _fake(logits: Tensor, tokens: Tensor, temperature: float, entropy: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logp = logits.new_empty(tokens.shape, dtype=torch.float32)
    entropies = torch.empty_like(logp) if entropy else logp.new_empty(0)
    return logp, entropies, torch.empty_like(logp), torch.empty_like(logp)


def _fake_backward(logits: Tensor, *rest: Any) -> Tensor:
    return logits.new_empty(logits.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, tokens, ctx.temperature, ctx.entropy = inputs
    _, entropies, largest, log_sum = output
    ctx.mark_non_differentiable(largest, log_sum)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(logits, tokens, largest, log_sum, entropies)


def _backward(ctx: Any, grad_logp: Tensor | None, grad_entropy: Tensor | None, *rest: Any) -> tuple[Any, ...]:
    grad_entropy = grad_entropy if ctx.entropy else None
    if grad_logp is None and grad_entropy is None:
        return None, None, None, None
    grad = torch.ops.alignlab.token_logp_backward(*ctx.saved_tensors, grad_logp, grad_entropy, ctx.temperature)
    return grad, None, None, None


class _InPlace(torch.autograd.Function):
    """token_logp whose backward writes over the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, temperature: float, entropy: bool) -> tuple[Tensor, Tensor]:
        output = torch.ops.alignlab.token_logp(logits, tokens, temperature, entropy)
        _setup(ctx, (logits, tokens, temperature, entropy), output)
        return output[0], output[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_logp: Tensor | None, grad_entropy: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors  # raises if the logits were written to since the forward pass
        grad_entropy = grad_entropy if ctx.entropy else None
        if grad_logp is None and grad_entropy is None:
            return None, None, None, None
        logits = saved[0].detach()
        torch.ops.alignlab.token_logp_backward_(logits, *saved[1:], grad_logp, grad_entropy, ctx.temperature)
        torch.autograd.graph.increment_version(logits)  # whoever else kept the logits is told
        return logits, None, None, None


register(Kernel("token_logp", "reference", _reference.token_logp))
if _native.missing is None:
    register(Kernel("token_logp", "native", _native_token_logp, _native.serves("token_logp")))
    torch.library.register_fake("alignlab::token_logp", _fake)
    torch.library.register_fake("alignlab::token_logp_backward", _fake_backward)
    torch.library.register_fake("alignlab::token_logp_backward_", lambda *arguments: None)
    torch.library.register_autograd("alignlab::token_logp", _backward, setup_context=_setup)

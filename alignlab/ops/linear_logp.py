"""token_logp of a linear head, whose logits are never whole in memory."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, overload

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import linear_logp as _reference


@overload
def linear_logp(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    entropy: Literal[False] = False,
    backend: str = "auto",
) -> Tensor: ...
@overload
def linear_logp(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    entropy: Literal[True],
    backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...
@overload
def linear_logp(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    entropy: bool,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]: ...
def linear_logp(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Return `token_logp(hidden @ weight.T + bias, tokens)` without ever holding all the logits.

    hidden [N, H], weight [V, H], tokens int [N], bias [V]; the log-probs, and with `entropy` the entropies, are [N].
    The reference's products run in fp32 (fp64 if an input is fp64) whatever the inputs' dtypes and autocast. The native
    ones run in the inputs' dtype and accumulate in fp32, so that bf16 logits are rounded to bf16, as those of a bf16
    head are: give fp32 inputs where that is too coarse. The sums of the gradients over the rows run in fp32 in both.
    Raises ValueError as `token_logp` does.
    """
    _checks.floating(hidden=hidden, weight=weight)
    _checks.positive(temperature=temperature)
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        wanted = "[N, H] and [V, H]"
        raise ValueError(f"hidden and weight want shapes {wanted}, got {list(hidden.shape)} and {list(weight.shape)}")
    if tokens.shape != hidden.shape[:1]:
        raise ValueError(f"tokens wants shape {[hidden.shape[0]]}, as hidden has rows, got {list(tokens.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias wants shape {[weight.shape[0]]}, as weight has rows, got {list(bias.shape)}")
    _checks.same_device(hidden=hidden, weight=weight, tokens=tokens, **({} if bias is None else {"bias": bias}))
    function = dispatch("linear_logp", backend, hidden, weight, *(() if bias is None else (bias,)))
    result: Tensor | tuple[Tensor, Tensor] = function(
        hidden, weight, tokens, bias=bias, temperature=float(temperature), entropy=entropy
    )
    return result


MAX_LOGITS = 2**23
"""Logits of a chunk that the native kernels hold at a time: 16 MiB in bf16."""


def _native_linear_logp(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
    max_logits: int = MAX_LOGITS,
) -> Tensor | tuple[Tensor, Tensor]:
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    hidden, weight, bias = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    chunk_size = max(1, min(weight.shape[0], max_logits // max(1, hidden.shape[0])))
    logp, entropies, _, _ = torch.ops.alignlab.linear_logp(
        hidden, weight, tokens.long(), bias, temperature, entropy, chunk_size
    )
    return (logp, entropies) if entropy else logp


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(hidden, weight.T) if bias is None else torch.addmm(bias, hidden, weight.T)


def _as_given(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep autocast out of an op's own products."""

    @wraps(function)
    def run(hidden: Tensor, *rest: Any) -> Any:
        with torch.autocast(hidden.device.type, enabled=False):
            return function(hidden, *rest)

    return run


# The vocabulary is cut into chunks, not the rows: the gradient of a chunk's weight is then one product over all rows,
# and only the gradient of hidden, which is small, adds up over chunks (in fp32).
def _forward(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    bias: Tensor | None,
    temperature: float,
    entropy: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    def filled(value: float) -> Tensor:
        return hidden.new_full(tokens.shape, value, dtype=torch.float32)

    largest, total, drawn = filled(torch.finfo(torch.float32).min), filled(0), filled(torch.nan)
    mean = filled(0) if entropy else None
    for start in range(0, weight.shape[0], chunk_size):
        rows = slice(start, start + chunk_size)
        logits = _logits(hidden, weight[rows], None if bias is None else bias[rows])
        torch.ops.alignlab.linear_logp_fold_(
            logits, tokens, start, weight.shape[0], temperature, largest, total, mean, drawn
        )
    log_sum = torch.where(total > 0, total.log(), torch.nan)  # a row of nothing but -inf is no distribution
    entropies = largest.new_empty(0) if mean is None else log_sum - mean / total
    # In fp64, as the kernels' fused multiply-add has it: drawn / temperature must not be rounded at its own size.
    inverse = torch.tensor(1 / temperature, dtype=torch.float32).item()
    return (drawn.double() * inverse - largest).float() - log_sum, entropies, largest, log_sum


def _fake(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    bias: Tensor | None,
    temperature: float,
    entropy: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logp = hidden.new_empty(tokens.shape, dtype=torch.float32)
    return logp, logp.new_empty(logp.shape if entropy else 0), torch.empty_like(logp), torch.empty_like(logp)


def _backward_op(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    bias: Tensor | None,
    largest: Tensor,
    log_sum: Tensor,
    entropies: Tensor,
    grad_logp: Tensor,
    grad_entropy: Tensor | None,
    temperature: float,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_hidden = hidden.new_zeros(hidden.shape, dtype=torch.float32)
    grad_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
    grad_bias = largest.new_empty(0 if bias is None else bias.shape[0])
    for start in range(0, weight.shape[0], chunk_size):
        rows = slice(start, start + chunk_size)
        logits = _logits(hidden, weight[rows], None if bias is None else bias[rows])
        torch.ops.alignlab.linear_logp_backward_(
            logits, tokens, start, largest, log_sum, entropies, grad_logp, grad_entropy, temperature
        )
        grad_hidden += torch.mm(logits, weight[rows])
        torch.mm(logits.T, hidden, out=grad_weight[rows])
        if bias is not None:
            grad_bias[rows] = logits.sum(0, dtype=torch.float32)
    return grad_hidden.to(hidden.dtype), grad_weight, grad_bias


def _fake_backward(
    hidden: Tensor, weight: Tensor, tokens: Tensor, bias: Tensor | None, largest: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grad_bias = largest.new_empty(0 if bias is None else bias.shape[0])
    return hidden.new_empty(hidden.shape), weight.new_empty(weight.shape), grad_bias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, tokens, bias, ctx.temperature, ctx.entropy, ctx.chunk_size = inputs
    _, entropies, largest, log_sum = output
    ctx.mark_non_differentiable(largest, log_sum)
    ctx.save_for_backward(hidden, weight, tokens, bias, largest, log_sum, entropies)


def _backward(ctx: Any, grad_logp: Tensor, grad_entropy: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    bias = ctx.saved_tensors[3]
    grad_hidden, grad_weight, grad_bias = torch.ops.alignlab.linear_logp_backward(
        *ctx.saved_tensors, grad_logp, grad_entropy if ctx.entropy else None, ctx.temperature, ctx.chunk_size
    )
    return grad_hidden, grad_weight, None, None if bias is None else grad_bias.to(bias.dtype), None, None, None


register(Kernel("linear_logp", "reference", _reference.linear_logp))
if _native.missing is None:
    # The products are torch's, so that these two ops are written in Python, for every device that has the folds.
    torch.library.define(
        "alignlab::linear_logp",
        "(Tensor hidden, Tensor weight, Tensor tokens, Tensor? bias, float temperature, bool entropy,"
        " SymInt chunk_size) -> (Tensor, Tensor, Tensor, Tensor)",
    )
    torch.library.define(
        "alignlab::linear_logp_backward",
        "(Tensor hidden, Tensor weight, Tensor tokens, Tensor? bias, Tensor largest, Tensor log_sum, Tensor entropies,"
        " Tensor grad_logp, Tensor? grad_entropy, float temperature, SymInt chunk_size) -> (Tensor, Tensor, Tensor)",
    )
    for _device in _native.devices("linear_logp_fold_"):
        torch.library.impl("alignlab::linear_logp", _device, _as_given(_forward))
        torch.library.impl("alignlab::linear_logp_backward", _device, _as_given(_backward_op))
    torch.library.register_fake("alignlab::linear_logp", _fake)
    torch.library.register_fake("alignlab::linear_logp_backward", _fake_backward)
    torch.library.register_autograd("alignlab::linear_logp", _backward, setup_context=_setup)
    register(Kernel("linear_logp", "native", _native_linear_logp, _native.serves("linear_logp_fold_")))

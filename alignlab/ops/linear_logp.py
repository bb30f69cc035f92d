"""token_logp of a linear head, whose logits are never whole in memory."""

from typing import Literal, overload

from torch import Tensor

from alignlab.ops import _checks
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
    The products run in fp32 (fp64 if an input is fp64) whatever the inputs' dtypes and autocast, and so do the sums of
    the gradients over the rows. Raises ValueError as `token_logp` does.
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
    function = dispatch("linear_logp", backend, hidden)
    result: Tensor | tuple[Tensor, Tensor] = function(
        hidden, weight, tokens, bias=bias, temperature=temperature, entropy=entropy
    )
    return result


register(Kernel("linear_logp", "reference", _reference.linear_logp))

"""Log-probs and divergences of categorical distributions over the vocabulary."""

from typing import Literal, overload

from torch import Tensor

from alignlab.ops import _checks
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import kl_divergence as _kl_divergence
from alignlab.ops.reference import kl_estimate as _kl_estimate
from alignlab.ops.reference import linear_logp as _linear_logp
from alignlab.ops.reference import token_logp as _token_logp

KLEstimator = Literal["k1", "k2", "k3"]

register(Kernel("token_logp", "reference", _token_logp.token_logp))
register(Kernel("linear_logp", "reference", _linear_logp.linear_logp))
register(Kernel("kl_divergence", "reference", _kl_divergence.kl_divergence))
register(Kernel("kl_estimate", "reference", _kl_estimate.kl_estimate))


@overload
def token_logp(
    logits: Tensor,
    tokens: Tensor,
    *,
    temperature: float = 1.0,
    entropy: Literal[False] = False,
    backend: str = "auto",
) -> Tensor: ...
@overload
def token_logp(
    logits: Tensor, tokens: Tensor, *, temperature: float = 1.0, entropy: Literal[True], backend: str = "auto"
) -> tuple[Tensor, Tensor]: ...
@overload
def token_logp(
    logits: Tensor, tokens: Tensor, *, temperature: float = 1.0, entropy: bool, backend: str = "auto"
) -> Tensor | tuple[Tensor, Tensor]: ...
def token_logp(
    logits: Tensor, tokens: Tensor, *, temperature: float = 1.0, entropy: bool = False, backend: str = "auto"
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the log-prob of each token under softmax(logits / temperature).

    logits [..., V], tokens int [...]; the log-probs are [...], in nats. With `entropy`, also the entropy of each
    distribution [...], in nats and exact over the vocabulary. Both have gradients. A logit of -inf is a token that
    cannot be drawn: it adds nothing to the entropy, and its gradient is finite. A row of nothing but -inf is no
    distribution, and gives NaN. Raises ValueError for shapes that do not fit, a dtype that is not floating, or a
    temperature that is not above 0.
    """
    _checks.floating(logits=logits)
    _checks.one_token_a_row(logits, tokens)
    _checks.positive(temperature=temperature)
    function = dispatch("token_logp", backend, logits)
    result: Tensor | tuple[Tensor, Tensor] = function(logits, tokens, temperature=temperature, entropy=entropy)
    return result


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


def kl_divergence(logits_p: Tensor, logits_q: Tensor, *, temperature: float = 1.0, backend: str = "auto") -> Tensor:
    """Return KL(p || q) of softmax(logits_p / temperature) and softmax(logits_q / temperature), in nats.

    Both [..., V]; the result is [...], exact over the vocabulary. A token that p cannot draw adds nothing, whatever q
    says; one that p draws and q cannot makes it inf. Raises ValueError for shapes that differ, a dtype that is not
    floating, or a temperature that is not above 0.
    """
    _checks.floating(logits_p=logits_p, logits_q=logits_q)
    _checks.same_shape("logits_p", logits_p, logits_q=logits_q)
    _checks.positive(temperature=temperature)
    result: Tensor = dispatch("kl_divergence", backend, logits_p)(logits_p, logits_q, temperature=temperature)
    return result


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

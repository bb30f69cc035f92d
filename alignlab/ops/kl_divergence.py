"""The KL divergence of two categorical distributions."""

from torch import Tensor

from alignlab.ops import _checks
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import kl_divergence as _reference


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


register(Kernel("kl_divergence", "reference", _reference.kl_divergence))

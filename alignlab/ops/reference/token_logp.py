"""token_logp in plain torch."""

import torch
from torch import Tensor

from alignlab.ops.reference.wide import wide


def token_logp(
    logits: Tensor, tokens: Tensor, *, temperature: float = 1.0, entropy: bool = False, inplace_backward: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """See `alignlab.ops.token_logp`."""
    log_probs = (wide(logits) / temperature).log_softmax(-1)  # float [..., V]
    logp = log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    if not entropy:
        return logp
    probs = log_probs.exp()
    # 0 * -inf is NaN, and so is its gradient when it is mended afterwards: take the -inf out before the product.
    return logp, -(probs * torch.where(probs == 0, 0, log_probs)).sum(-1)

"""linear_logp in plain torch: logits of a few rows at a time, computed again in the backward pass."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from alignlab.ops.reference.token_logp import token_logp
from alignlab.ops.reference.wide import wide

MAX_LOGITS = 2**24
"""Logits held at a time: 64 MiB in fp32, and a few times that with what is derived from them."""


def linear_logp(
    hidden: Tensor,
    weight: Tensor,
    tokens: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
    max_logits: int = MAX_LOGITS,
) -> Tensor | tuple[Tensor, Tensor]:
    """See `alignlab.ops.linear_logp`."""
    dtype = torch.promote_types(wide(hidden).dtype, wide(weight).dtype)
    # Widened once, out here: the chunks' gradients add up in this dtype, and are rounded to the inputs' at the end.
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)

    def chunk_logp(hidden: Tensor, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            return token_logp(F.linear(hidden, weight, bias), tokens, temperature=temperature, entropy=entropy)

    num_rows = max(1, max_logits // max(1, weight.shape[0]))
    chunks = [
        checkpoint(chunk_logp, hidden_rows, token_rows, use_reentrant=False, preserve_rng_state=False)
        for hidden_rows, token_rows in zip(torch.split(hidden, num_rows), torch.split(tokens, num_rows), strict=True)
    ]
    if not entropy:
        return torch.cat(chunks)
    logp, entropies = zip(*chunks, strict=True)
    return torch.cat(logp), torch.cat(entropies)

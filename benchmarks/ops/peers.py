"""What others compute these ops with, written down here, so that nothing has to be installed to run against it."""

import torch
from torch import Tensor


def trl_selective_log_softmax(logits: Tensor, tokens: Tensor) -> Tensor:
    """TRL's `selective_log_softmax` (trl/trainer/utils.py): logsumexp a row in fp32, log_softmax a row in bf16."""
    if logits.dtype in (torch.float32, torch.float64):
        selected = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return selected - torch.stack([torch.logsumexp(row, dim=-1) for row in logits])
    found = []
    for row, token in zip(logits, tokens, strict=True):
        found.append(row.log_softmax(-1).gather(-1, token.unsqueeze(-1)).squeeze(-1))
    return torch.stack(found)


def trl_entropy(logits: Tensor, chunk: int = 128) -> Tensor:
    """TRL's `entropy_from_logits`: 128 rows at a time."""
    found = []
    for rows in logits.split(chunk):
        log_probs = rows.log_softmax(-1)
        found.append(-(log_probs.exp() * log_probs).sum(-1))
    return torch.cat(found)


def trl_token_logp(logits: Tensor, tokens: Tensor) -> Tensor:
    return trl_selective_log_softmax(logits, tokens)


def trl_token_logp_and_entropy(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return trl_selective_log_softmax(logits, tokens), trl_entropy(logits)


def eager_linear_logp(hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    """The head's logits, whole, and log_softmax of them in fp32."""
    logits = torch.nn.functional.linear(hidden, weight).float()
    return logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def chunked_linear_logp(hidden: Tensor, weight: Tensor, tokens: Tensor, chunk: int = 256) -> Tensor:
    """As TRL's chunked head: rows of hidden at a time, each computed again in the backward pass."""

    def part(hidden: Tensor, tokens: Tensor) -> Tensor:
        return eager_linear_logp(hidden, weight, tokens)

    parts = zip(hidden.split(chunk), tokens.split(chunk), strict=True)
    return torch.cat([torch.utils.checkpoint.checkpoint(part, h, t, use_reentrant=False) for h, t in parts])


class ThreeProducts(torch.autograd.Function):
    """The three matrix products of a head, forward and backward, and nothing else."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
        ctx.logits = hidden @ weight.T
        ctx.save_for_backward(hidden, weight)
        return ctx.logits[:, 0].float()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, weight = ctx.saved_tensors
        return ctx.logits @ weight, ctx.logits.T @ hidden, None


def doubling_gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """The recursion as a scan of affine maps, log2(T) rounds of tensor operations; no hole in the mask is looked at."""
    rewards, values = torch.where(mask, rewards, 0), torch.where(mask, values, 0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    total, factor = rewards + gamma * following - values, torch.full_like(values, gamma * lam)
    step = 1
    while step < values.shape[1]:
        total = torch.cat([total[:, :-step] + factor[:, :-step] * total[:, step:], total[:, -step:]], 1)
        factor = torch.cat([factor[:, :-step] * factor[:, step:], torch.zeros_like(factor[:, -step:])], 1)
        step *= 2
    return total, total + values


PEERS = {
    ("token_logp", "forward"): {"TRL": trl_token_logp},
    ("token_logp", "forward+entropy"): {"TRL": trl_token_logp_and_entropy},
    ("token_logp", "forward+backward"): {"TRL": trl_token_logp},
    ("linear_logp", "forward+backward"): {
        "eager": eager_linear_logp,
        "TRL, chunks": chunked_linear_logp,
        "three products": ThreeProducts.apply,
    },
    ("gae", "forward"): {"doubling scan": doubling_gae},
}

"""What a trained model gives every answer of the world, and how far that is from what was promised; no sampling.

Notation: P prompts, A answers, L the letters of the longest answer, V tokens. Everything is float64.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab.batch import Sample, collate
from alignlab.certify.world import World
from alignlab.models import hidden_states, scalar


@torch.no_grad()
def answer_logp(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World, *, temperature: float = 1.0
) -> Tensor:
    """Return log p(answer and EOS | prompt) of every answer, [P, A], from one pass over the longest answers.

    What is missing to probabilities that add up to 1 is that of answers that are empty or do not end.
    """
    num, longest = world.size.num_letters, world.size.max_letters
    letters = torch.tensor(_ids(tokenizer, world.letters))
    words = torch.cartesian_prod(*[letters] * longest).view(-1, longest)  # int64 [num^L, L], in the alphabet's order
    found = []
    for prompt in world.prompts:
        start = torch.tensor(_ids(tokenizer, prompt)).expand(len(words), -1)
        tokens = torch.cat([start, words], 1).to(model.device)
        logits = model(input_ids=tokens, use_cache=False).logits[:, start.shape[1] - 1 :]
        logp = (logits.double() / temperature).log_softmax(-1).cpu()  # [num^L, L + 1, V]  after 0, 1, ... L letters
        said = logp[:, :-1].gather(-1, words[..., None]).squeeze(-1).cumsum(1)
        ended = said + logp[:, 1:, tokenizer.eos_token_id]
        # Every word of so many letters stands at the head of num^(L - so many) longest ones.
        lengths = range(1, longest + 1)
        found.append(torch.cat([ended[:: num ** (longest - length), length - 1] for length in lengths]))
    return torch.stack(found)


@torch.no_grad()
def answer_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> Tensor:
    """Return a reward model's score of every answer, after its EOS, [P, A]."""
    found = []
    for prompt in world.prompts:
        texts = [[*prompt, *answer, str(tokenizer.eos_token)] for answer in world.answers]
        rows = [Sample(tuple(_ids(tokenizer, text)), (False,) * len(text)) for text in texts]
        batch = collate(rows, list(range(len(rows)))).to(model.device)
        hidden = hidden_states(model, batch)[torch.arange(len(batch)), batch.lengths - 1]
        found.append(scalar(model, hidden).double().cpu())
    return torch.stack(found)


def _ids(tokenizer: PreTrainedTokenizerBase, tokens: Iterable[str]) -> list[int]:
    """Return the ids of tokens; each letter is one."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[token] for token in tokens]


def divergence(logp: Tensor, other: Tensor) -> float:
    """Return KL(p || q) in nats, the mean over prompts; both [P, A]."""
    return float((logp.exp() * (logp - other)).sum(1).mean())


def objective(logp: Tensor, ref_logp: Tensor, rewards: Tensor, beta: float) -> float:
    """Return J = E[reward] - beta KL(policy || reference), the mean over prompts; all [P, A]."""
    return float((logp.exp() * rewards).sum(1).mean()) - beta * divergence(logp, ref_logp)


def kl_optimum(ref_logp: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Return log pi* of the best J, [P, A]: pi* is proportional to pi_ref exp(reward / beta).

    For every policy J(pi*) - J(pi) = beta KL(pi || pi*): Korbak et al., 2022 (arXiv 2205.11275), equation 5.
    """
    return (ref_logp + rewards / beta).log_softmax(-1)


def gain_share(logp: Tensor, ref_logp: Tensor, optimum: Tensor) -> float:
    """Return (J(pi) - J(pi_ref)) / (J(pi*) - J(pi_ref)), which is 1 - KL(pi || pi*) / KL(pi_ref || pi*).

    In the second form it is of any pi*, because each is the best of some J: that whose reward is log(pi* / pi_ref).
    """
    return 1 - divergence(logp, optimum) / divergence(ref_logp, optimum)


def probability_errors(scores: Tensor, preferences: Tensor, ref_logp: Tensor) -> tuple[float, float]:
    """Return by how much sigmoid(score - score) misses P(first is better): on average over drawn pairs, and at most."""
    error = ((scores[:, :, None] - scores[:, None, :]).sigmoid() - preferences).abs()  # [P, A, A]
    weight = ref_logp.exp()[:, :, None] * ref_logp.exp()[:, None, :]
    weight = weight * (1 - torch.eye(weight.shape[1], dtype=weight.dtype))
    mean = (error * weight).sum((1, 2)) / weight.sum((1, 2))
    return float(mean.mean()), float(error.max())

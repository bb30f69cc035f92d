"""The exact log-probs of a trained model over all answers of the world, and how far they are from the optimum."""

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab.certify.world import World


@torch.no_grad()
def answer_logp(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> Tensor:
    """Return log p(answer, EOS | prompt) of every answer, float64 [P, A], by one pass over all longest answers."""
    n, longest = world.size.num_letters, world.size.max_letters
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(letter) for letter in world.letters])
    words = torch.cartesian_prod(*[ids] * longest).view(-1, longest)  # int64 [n^longest, longest], in order
    found = []
    for prompt in world.prompts:
        start = torch.tensor(tokenizer.convert_tokens_to_ids(list(prompt))).expand(len(words), -1)
        tokens = torch.cat([start, words], 1).to(model.device)
        logits = model(input_ids=tokens, use_cache=False).logits[:, start.shape[1] - 1 :]
        logp = logits.double().log_softmax(-1).cpu()  # float64 [W, longest + 1, V]: of what follows 0, 1, ... letters
        letters = logp[:, :-1].gather(-1, words[..., None]).squeeze(-1).cumsum(1)
        ends = logp[:, 1:, tokenizer.eos_token_id]
        lengths = range(1, longest + 1)
        # A word of L letters stands at the head of n^(longest - L) longest ones.
        found.append(torch.cat([(letters + ends)[:: n ** (longest - length), length - 1] for length in lengths]))
    return torch.stack(found)


def kl_optimum(ref_logp: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Return log pi*, pi* proportional to pi_ref exp(rewards / beta): the best of E[reward] - beta KL(pi || pi_ref)."""
    return (ref_logp + rewards / beta).log_softmax(-1)


def objective(logp: Tensor, ref_logp: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """Return J = E[reward] - beta KL(pi || pi_ref) of each prompt, [P]."""
    return (logp.exp() * (rewards - beta * (logp - ref_logp))).sum(-1)

"""A chain of thought: what a local judge writes before it answers (Lee et al., 2023, arXiv 2309.00267, section 2.1)."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from alignlab.data import stop_tokens
from alignlab.rewards.judges.base import Question

TO_A_LETTER = "So, which answer is better? Reply with the letter A or B, and nothing else."
TO_A_DIGIT = "So, reply with a digit from 1 (not at all) to 9 (in every way), and nothing else."


def last_request(question: Question) -> str:
    """Return what asks for the answer word when the reasons are given."""
    return TO_A_DIGIT if question.second is None else TO_A_LETTER


def write_reasons(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], num_tokens: int
) -> list[str]:
    """Return the likeliest words after each prompt, up to `num_tokens`; the prompts run together."""
    width = max(len(prompt) for prompt in prompts)
    stops = sorted(stop_tokens(tokenizer))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    tokens = torch.full((len(prompts), width), pad)
    valid = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        valid[row, width - len(prompt) :] = 1
    config = GenerationConfig(max_new_tokens=num_tokens, do_sample=False, pad_token_id=pad, eos_token_id=stops)
    device = model.device
    found = model.generate(tokens.to(device), attention_mask=valid.to(device), generation_config=config)  # type: ignore[operator]
    return [str(tokenizer.decode(line[width:], skip_special_tokens=True)).strip() for line in found]

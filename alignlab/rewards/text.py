"""Answers as text: what functions and rules look at, and what errors quote."""

from typing import Any

import torch

from alignlab.batch import Batch
from alignlab.method import Run


def texts(run: Run, batch: Batch) -> tuple[list[Any], list[Any]]:
    """Return prompts and completions as the data had them: strings, or lists of messages."""
    prompts: list[Any] = []
    completions: list[Any] = []
    for i in range(len(batch)):
        acted = batch.acted[i]
        answer = str(run.tokenizer.decode(batch.tokens[i][acted], skip_special_tokens=True))
        prompt = batch.records[i].columns.get("prompt") if batch.records else None
        if prompt is None:
            prompt = str(run.tokenizer.decode(batch.tokens[i][batch.valid[i] & ~acted], skip_special_tokens=True))
        conversational = not isinstance(prompt, str)
        prompts.append(prompt)
        completions.append([{"role": "assistant", "content": answer}] if conversational else answer)
    return prompts, completions


def answer_texts(run: Run, batch: Batch) -> list[str]:
    """Return what the answers say, without special tokens."""
    return [said if isinstance(said, str) else str(said[-1]["content"]) for said in texts(run, batch)[1]]


def describe(run: Run, batch: Batch, row: int) -> str:
    """Return where a row's prompt comes from, the prompt, and the answer, cut short."""
    one = batch.select(torch.tensor([row], device=batch.tokens.device))
    prompts, completions = texts(run, one)
    at = f"{batch.records[row].where}, " if batch.records else ""
    return f"{at}{describe_prompt(prompts[0])}, answer {completions[0]!r:.300}"


def describe_prompt(prompt: Any) -> str:
    """Return a prompt, cut short."""
    return f"prompt {prompt!r:.300}"

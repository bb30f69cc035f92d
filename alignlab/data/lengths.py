"""Rows that are longer than the recipe or the model allows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from alignlab.batch import Sample
from alignlab.data.sources import RowProblem
from alignlab.data.tokenize import Samples


def num_tokens(samples: Mapping[str, Sample]) -> int:
    """Return the tokens that a row needs: those of its longest answer, or its prompt and one token of an answer."""
    return max((len(s) for name, s in samples.items() if name != "prompt"), default=len(samples["prompt"]) + 1)


def fit(
    samples: Samples, max_length: int, overlong: Literal["error", "drop", "truncate_left"], bos: int | None
) -> Samples:
    """Return the samples, with the start of an overlong prompt cut off if `overlong` is truncate_left.

    The prompt is cut alike for all answers, and keeps BOS; an answer is never cut. Raises RowProblem if the row is
    too long (its reason is the number of tokens), or its answer alone is.
    """
    num = num_tokens(samples)
    if num <= max_length:
        return samples
    if overlong != "truncate_left":
        raise RowProblem(str(num), "overlong")
    prompt = samples["prompt"].tokens
    head = 1 if prompt and prompt[0] == bos else 0
    cut = num - max_length
    if len(prompt) - cut <= head:  # nothing of the prompt would be left
        raise RowProblem("the answer alone is over `max_length`: its prompt cannot be cut so far", "useless")
    return {name: _without(sample, head, head + cut) for name, sample in samples.items()}


def _without(sample: Sample, start: int, end: int) -> Sample:
    tokens, acted = sample.tokens, sample.acted
    return replace(sample, tokens=tokens[:start] + tokens[end:], acted=acted[:start] + acted[end:])

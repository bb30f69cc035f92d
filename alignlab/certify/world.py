"""A world that is small enough to list: some prompts, every answer to them, and what each is worth.

Notation: P prompts, A answers. An answer is 1 to `max_letters` letters, and then EOS. Everything here is a function of
the size and the seed.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from alignlab.config.settings import Settings

LETTERS = "abcdefg"
OUTSIDE = -4.0  # the reward of what is no answer of the world: empty, or not ended


class WorldSize(Settings):
    """How large a world is, and which one of that size."""

    seed: int = 0
    num_letters: Annotated[int, Field(ge=2, le=len(LETTERS))] = 5
    """With EOS they are the whole vocabulary."""
    max_letters: Annotated[int, Field(ge=1, le=4)] = 4
    """In an answer."""
    num_prompts: Annotated[int, Field(ge=1)] = 3
    """Each has a reward table of its own. There are no more than letters."""


@dataclass(frozen=True)
class World:
    """Prompts, answers and tables."""

    size: WorldSize

    @property
    def letters(self) -> str:
        """All letters."""
        return LETTERS[: self.size.num_letters]

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The prompts: a letter and the one after it.

        They differ, because a model with rotary positions and no token that begins a row cannot count equal letters.
        """
        pairs = pairwise(self.letters + self.letters[0])
        return tuple(map("".join, pairs))[: self.size.num_prompts]

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """All answers: the shortest first, and those of one length in the alphabet's order."""
        lengths = range(1, self.size.max_letters + 1)
        return tuple("".join(word) for length in lengths for word in product(self.letters, repeat=length))

    @cached_property
    def rewards(self) -> Tensor:
        """The reward of each answer, float64 [P, A]: mean 0 and variance 1 for each prompt.

        An answer is worth the sum over its letters of what each is worth at its place, and of what it is worth before
        the one that follows, or before EOS; all of these are normal.
        """
        num, rng = self.size.num_letters, self.rng("rewards")
        placed = torch.randn(len(self.prompts), self.size.max_letters, num, generator=rng, dtype=torch.float64)
        followed = torch.randn(len(self.prompts), num, num + 1, generator=rng, dtype=torch.float64)
        found = []
        for answer in self.answers:
            word = [*map(self.letters.index, answer), num]
            found.append((placed[:, range(len(answer)), word[:-1]] + followed[:, word[:-1], word[1:]]).sum(1))
        table = torch.stack(found, 1)
        return (table - table.mean(1, keepdim=True)) / table.std(1, keepdim=True)

    @cached_property
    def preferences(self) -> Tensor:
        """P(the row's answer is better than the column's), by Bradley and Terry's model, float64 [P, A, A]."""
        return (self.rewards[:, :, None] - self.rewards[:, None, :]).sigmoid()

    @cached_property
    def demonstrations(self) -> Tensor:
        """The log-probs that demonstrations are drawn with, float64 [P, A]: a Markov chain of letters for each prompt.

        An answer that may still go on does so with a probability of 0.6 to 0.9, by prompt and place. The logits of
        letters have a standard deviation of 0.5, so that few answers are too rare to be sampled.
        """
        num, longest, rng = self.size.num_letters, self.size.max_letters, self.rng("demonstrations")
        first = (0.5 * torch.randn(len(self.prompts), num, generator=rng, dtype=torch.float64)).log_softmax(-1)
        then = (0.5 * torch.randn(len(self.prompts), num, num, generator=rng, dtype=torch.float64)).log_softmax(-1)
        goes_on = 0.6 + 0.3 * torch.rand(len(self.prompts), longest, generator=rng, dtype=torch.float64)
        goes_on[:, -1] = 0
        found = []
        for answer in self.answers:
            word = [self.letters.index(letter) for letter in answer]
            logp = first[:, word[0]] + goes_on[:, : len(word) - 1].log().sum(1) + (1 - goes_on[:, len(word) - 1]).log()
            found.append(logp + then[:, word[:-1], word[1:]].sum(1))
        return torch.stack(found, 1)

    def rng(self, *purpose: object) -> torch.Generator:
        """Return a generator for one purpose."""
        digest = hashlib.sha256(repr((self.size.model_dump(), purpose)).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))

    def reward(self, prompt: str, answer: str) -> float:
        """Return the reward of an answer that has ended."""
        column = self._columns.get(answer)
        return OUTSIDE if column is None else self._rewards[self.prompts.index(prompt)][column]

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {answer: column for column, answer in enumerate(self.answers)}

    @cached_property
    def _rewards(self) -> list[list[float]]:
        found: list[list[float]] = self.rewards.tolist()
        return found

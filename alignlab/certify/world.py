"""A world that is small enough to list: some prompts, every answer to them, and what each is worth.

Notation: P prompts, A answers. An answer is one to `max_letters` letters and EOS. The same size and seed give the same
world: all tables below are drawn from them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import Annotated

from alignlab.config.settings import Settings

LETTERS = "abcdefg"
OUTSIDE = -4.0  # the reward of what is no answer of the world: empty, or not ended
PROMPT_LETTERS = 2


class WorldSize(Settings):
    """How large a world is, and which one of that size."""

    seed: int = 0
    num_letters: Annotated[int, Field(ge=2, le=len(LETTERS))] = 5
    """With EOS they are the whole vocabulary."""
    max_letters: Annotated[int, Field(ge=1, le=4)] = 4
    """In an answer."""
    num_prompts: Annotated[int, Field(ge=1, le=4)] = 4
    """Prompts are two letters; each has a reward table of its own."""


@dataclass(frozen=True)
class World:
    """Prompts, answers and tables; float64 [P, A] where nothing else is said."""

    size: WorldSize

    @property
    def letters(self) -> str:
        """All letters."""
        return LETTERS[: self.size.num_letters]

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The prompts: a letter and the next one.

        Two that differ: without a token that begins it, a model with rotary positions cannot count equal letters.
        """
        return tuple(f"{a}{b}" for a, b in zip(self.letters, self.letters[1:] + self.letters[0]))[: self.size.num_prompts]

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """All answers: the shortest first, and those of one length in the alphabet's order."""
        lengths = range(1, self.size.max_letters + 1)
        return tuple("".join(word) for length in lengths for word in product(self.letters, repeat=length))

    @cached_property
    def rewards(self) -> Tensor:
        """The reward of each answer: drawn from a normal distribution, then brought to mean 0 and variance 1."""
        drawn = torch.randn(len(self.prompts), len(self.answers), generator=self._rng("rewards"), dtype=torch.float64)
        return (drawn - drawn.mean(1, keepdim=True)) / drawn.std(1, keepdim=True)

    @cached_property
    def demonstrations(self) -> Tensor:
        """The log-probs that demonstrations are drawn with, by a Markov chain for each prompt.

        Each letter has a distribution that depends on the letter before it; at each place the answer ends with a
        probability that depends on the place and the prompt. The last place ends it.
        """
        n, rng = self.size.num_letters, self._rng("demonstrations")
        first = torch.randn(len(self.prompts), n, generator=rng, dtype=torch.float64).log_softmax(-1)
        then = torch.randn(len(self.prompts), n, n, generator=rng, dtype=torch.float64).log_softmax(-1)
        goes_on = torch.rand(len(self.prompts), self.size.max_letters, generator=rng, dtype=torch.float64) * 0.3 + 0.6
        places = [[self.letters.index(letter) for letter in answer] for answer in self.answers]
        found = torch.empty(len(self.prompts), len(self.answers), dtype=torch.float64)
        for column, word in enumerate(places):
            letters = first[:, word[0]] + sum(then[:, a, b] for a, b in zip(word, word[1:]))
            going = goes_on[:, : len(word) - 1].log().sum(1)
            last = len(word) == self.size.max_letters
            found[:, column] = letters + going + (0.0 if last else (1 - goes_on[:, len(word) - 1]).log())
        return found

    def preferences(self, prompt: int) -> Tensor:
        """P(row's answer is better than the column's), by Bradley and Terry's model of the rewards; [A, A]."""
        rewards = self.rewards[prompt]
        return (rewards[:, None] - rewards[None, :]).sigmoid()

    def reward(self, prompt: str, answer: str, *, finished: bool) -> float:
        """Return the reward of an answer as text."""
        column = self._columns.get(answer)
        return OUTSIDE if column is None or not finished else self._lists[self.prompts.index(prompt)][column]

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {answer: column for column, answer in enumerate(self.answers)}

    @cached_property
    def _lists(self) -> list[list[float]]:
        found: list[list[float]] = self.rewards.tolist()
        return found

    def rng(self, *names: object) -> torch.Generator:
        return self._rng(*names)

    def _rng(self, *names: object) -> torch.Generator:
        seed = hash_seed("certify", self.size.model_dump(), *names)
        return torch.Generator().manual_seed(seed)


def hash_seed(*parts: object) -> int:
    """Return a seed that depends on all parts."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")

"""Rules as rewards: the length of an answer, a pattern in it, the form of it."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator
from torch import Tensor
from typing_extensions import Self

from alignlab.batch import Batch
from alignlab.method import Run
from alignlab.rewards.base import RewardRule
from alignlab.rewards.process import check_pattern
from alignlab.rewards.text import answer_texts

NUM_OF: dict[str, Callable[[str], int]] = {"words": lambda text: len(text.split()), "characters": len}


class LengthRule(RewardRule):
    """0 for an answer of `min` to `max` tokens; outside it falls to -1, evenly over `soft` tokens, and no further.

    With `max` and `soft` it is the soft overlong punishment of Yu et al., 2025 (arXiv 2503.14476), equation 13.
    """

    name = "length"
    min: NonNegativeInt = 0
    max: NonNegativeInt | None = None
    soft: PositiveInt = 1
    unit: Literal["tokens", "words", "characters"] = "tokens"
    """The policy's tokens, the end included; or words, or characters, without it."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.min and self.max is None:
            raise ValueError("wants `min`, `max` or both")
        if self.max is not None and self.max < self.min:
            raise ValueError(f"`max` is {self.max}, below `min`, {self.min}")
        return self

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        length = batch.acted.sum(1).float()
        if self.unit != "tokens":
            length = _tensor([NUM_OF[self.unit](text) for text in answer_texts(run, batch)], batch)
        over = length - self.max if self.max is not None else torch.zeros_like(length)
        return -(torch.maximum(over, self.min - length).clamp_min(0) / self.soft).clamp_max(1)


class RegexRule(RewardRule):
    """1 for an answer in which `pattern` is found, or that it matches as a whole; else 0."""

    name = "regex"
    pattern: str
    match: Literal["search", "whole"] = "search"
    ignore_case: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        return check_pattern(pattern)

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        pattern = re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)
        found = pattern.search if self.match == "search" else pattern.fullmatch
        return _tensor([found(text) is not None for text in answer_texts(run, batch)], batch)


class FormatRule(RewardRule):
    """1 for an answer of the wanted form, else 0.

    `tags: [think, answer]` wants <think>...</think> and <answer>...</answer>, once each and in this order, with nothing
    but white space around them (DeepSeek-AI, 2025, arXiv 2501.12948, section 2.2.2). `json: true` wants JSON: of the
    whole answer, or of what the last tag holds.
    """

    name = "format"
    tags: tuple[str, ...] = ()
    json_: bool = Field(default=False, alias="json")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.tags and not self.json_:
            raise ValueError("wants `tags`, `json: true` or both")
        if wrong := [tag for tag in self.tags if not re.fullmatch(r"[\w-]+", tag)]:
            raise ValueError(f"`tags` wants names such as `think`, without brackets; got {wrong[0]!r}")
        if len(set(self.tags)) < len(self.tags):
            raise ValueError("`tags` names a tag twice")
        return self

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        return _tensor([self._fits(text) for text in answer_texts(run, batch)], batch)

    def _fits(self, text: str) -> bool:
        inner = text
        if self.tags:
            form = r"\s*".join(rf"<{tag}>(.*?)</{tag}>" for tag in self.tags)
            found = re.fullmatch(rf"\s*{form}\s*", text, re.DOTALL)
            if found is None or any(text.count(f"<{tag}>") + text.count(f"</{tag}>") != 2 for tag in self.tags):
                return False
            inner = found[len(self.tags)]
        return not self.json_ or _is_json(inner)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _tensor(values: Sequence[float], batch: Batch) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=batch.tokens.device)

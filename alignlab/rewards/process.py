"""A process reward model as a reward: the steps of an answer are scored, and made one number."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from transformers import PreTrainedModel
from typing_extensions import Self

from alignlab.batch import Batch
from alignlab.errors import RewardError
from alignlab.method import Run
from alignlab.models import find, hidden_states, scalar
from alignlab.rewards.base import Reward, RewardContext, RewardRule
from alignlab.rewards.model import about, finite, in_parts, load_scorer
from alignlab.rewards.reader import Reader


class ProcessRewardRule(RewardRule):
    """A process reward model: the least, the product or the mean of P(the step is right) over an answer's steps.

    Source: Lightman et al., 2023 (arXiv 2305.20050), who compare product and minimum.
    """

    name = "process_reward"
    from_phase: str | None = Field(default=None, alias="from")
    path: str | None = None
    over_steps: Literal["min", "product", "mean"] = "min"
    split: str = r"\n+"
    r"""Where an answer is cut into steps, a regular expression; `(?<=[.!?])\s+` cuts it into sentences."""

    @field_validator("split")
    @classmethod
    def _compiles(cls, split: str) -> str:
        return check_pattern(split)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.from_phase is None) == (self.path is None):
            raise ValueError("wants exactly one of `from` (a phase that trains a process reward model) and `path`")
        return self

    def directory(self, models: Mapping[str, Path]) -> str:
        """Return the directory or hub id that is loaded."""
        return str(models[self.from_phase]) if self.from_phase is not None else find(str(self.path))

    def load(self, context: RewardContext) -> Reward:
        """Load the model of a phase of this run, or of a directory or hub id."""
        path = self.directory(context.models)
        if about(path).get("rows", "steps") != "steps":
            raise RewardError(
                "this reward model was trained on whole answers, not on steps",
                where=path,
                do="take it with `use: reward_model`, or train one with `method: process_reward_model`",
            )
        model, reader = load_scorer(path, context)
        return ProcessReward(model, reader, re.compile(self.split), self.over_steps, context.microbatch_tokens)


@dataclass(frozen=True)
class ProcessReward:
    """A loaded process reward model, and how an answer is cut and its steps made one."""

    model: PreTrainedModel
    reader: Reader
    split: re.Pattern[str]
    over_steps: Literal["min", "product", "mean"]
    microbatch_tokens: int

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B] in [0, 1]; an answer that says nothing is one empty step."""
        read = self.reader.retokenized(run, batch, self._steps)
        parts = in_parts(read, self.microbatch_tokens)
        return finite(torch.cat([self._score(part) for part in parts]), run, batch)

    def _steps(self, answer: str) -> tuple[str, ...]:
        return tuple(step for step in self.split.split(answer) if step and step.strip())

    def _score(self, part: Batch) -> Tensor:
        scores = scalar(self.model, hidden_states(self.model, part)).float()  # float [B, T]  having seen token t
        log_right = torch.nn.functional.logsigmoid(scores)
        if self.over_steps == "min":
            return log_right.masked_fill(~part.acted, 0.0).amin(1).exp()
        if self.over_steps == "product":
            return log_right.where(part.acted, 0.0).sum(1).exp()
        return log_right.exp().where(part.acted, 0.0).sum(1) / part.acted.sum(1)


def check_pattern(pattern: str) -> str:
    """Return a regular expression that compiles. Raises ValueError with the place where it does not."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern

"""What a judge is: it says which of two answers is better, or how good one is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from pydantic import ConfigDict, PositiveFloat

from alignlab.config.settings import Settings
from alignlab.data.turns import Turns
from alignlab.rewards.judges.constitution import GENERAL, Principle

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Question:
    """One thing that is asked: whether the first answer is better than the second, or how good the only one is."""

    prompt: str | Turns
    first: str
    second: str | None = None
    principle: Principle = GENERAL

    @property
    def swapped(self) -> "Question":
        """The same question with the answers in the other order."""
        assert self.second is not None
        return Question(self.prompt, self.second, self.first, self.principle)


@dataclass(frozen=True)
class Verdict:
    """What a judge said to one question.

    `probability` is that the first answer is the better one; of a single answer, how good it is, from 0 to 1. None:
    what the judge said could not be read.
    """

    probability: float | None
    reply: str = ""  # as it came, where there is text
    facts: Mapping[str, float] = field(default_factory=dict)  # numbers of this verdict: tokens, time, sureness


@runtime_checkable
class Judge(Protocol):
    """Answers questions in the order they come in: numbers, or verdicts where there is more to keep.

    `identity` says all that its verdicts depend on (a model's content, a template's text), so that they can be kept by
    content. A judge without one is asked again every time.
    """

    def __call__(self, questions: Sequence[Question]) -> Sequence[float | Verdict]:
        """Answer a batch of questions."""
        ...


@runtime_checkable
class AsyncJudge(Protocol):
    """A judge that waits for others: it is asked one question at a time, `concurrency` of them at once."""

    @property
    def concurrency(self) -> int:
        """Questions that may be under way at once."""
        ...

    async def ask(self, question: Question) -> float | Verdict:
        """Answer one question."""
        ...


@dataclass(frozen=True)
class JudgeContext:
    """What a judge may need while it is loaded."""

    models: Mapping[str, Path] = field(default_factory=dict)  # the exported model of each finished phase
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    trust_remote_code: bool = False
    microbatch_tokens: int = 16384


class JudgeRule(Settings):
    """The base of registered judges: a record of settings that judges, or that loads what judges."""

    name: ClassVar[str]
    head: ClassVar[Literal["lm", "scalar"] | None] = None  # of the phase's model that `from` names; None: it takes none

    def load(self, context: JudgeContext) -> Judge | AsyncJudge:
        """Load what is heavy, once. A rule that needs nothing is its own judge."""
        return self

    def __call__(self, questions: Sequence[Question]) -> Sequence[float | Verdict]:
        """Answer a batch of questions."""
        raise NotImplementedError(f"judge {self.name!r} has no __call__()")


class JudgeSettings(Settings):
    """One judge of a recipe. Keys that are not listed here belong to the judge, and are checked by it."""

    model_config = ConfigDict(extra="allow")

    use: str
    """A registered judge, or `package.module:function`."""
    name: str | None = None
    """What its verdicts are kept under; `use` if it is not given."""
    weight: PositiveFloat = 1.0
    """In the mean of several judges."""

    @property
    def own(self) -> dict[str, Any]:
        """The judge's own settings."""
        return dict(self.model_extra or {})

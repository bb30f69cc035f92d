"""Judges that read no prompt: a trained reward model, and a plain function."""

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from alignlab.batch import Sample, collate
from alignlab.data.cache import tokenizer_print
from alignlab.data.example import Example
from alignlab.data.lengths import fit
from alignlab.data.sources import RowProblem
from alignlab.data.tokenize import tokenize
from alignlab.data.turns import Turns, as_turns
from alignlab.errors import RewardError
from alignlab.models import find, sequence_scores
from alignlab.models.source import say_once
from alignlab.rewards.base import RewardContext
from alignlab.rewards.calls import begin
from alignlab.rewards.judges.base import JudgeContext, JudgeRule, Question, Verdict
from alignlab.rewards.judges.local import weights_print
from alignlab.rewards.model import in_parts, load_scorer, score_scale
from alignlab.rewards.reader import Reader


class RewardModelJudgeRule(JudgeRule):
    """A trained reward model: P(first is better) = sigmoid((score of first - score of second) / temperature).

    Without `ask` it knows no principles. How good a single answer is, is the sigmoid of its score, normalised as
    rewards are.
    """

    name = "reward_model"
    head = "scalar"
    from_phase: str | None = Field(default=None, alias="from")
    path: str | None = None
    temperature: PositiveFloat = 1.0
    max_length: PositiveInt | None = None
    """Tokens of prompt and answer, beyond which the prompt's start is cut off; the model's context if not given."""
    ask: bool = False
    """Put the principle's question after the prompt, on a line of its own: for a model that learned from such rows."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.from_phase is None) == (self.path is None):
            raise ValueError("wants exactly one of `from` (a phase that trains a reward model) and `path`")
        return self

    def load(self, context: JudgeContext) -> "RewardModelJudge":
        """Load the model."""
        path = str(context.models[self.from_phase]) if self.from_phase is not None else find(str(self.path))
        model, reader = load_scorer(
            path,
            RewardContext(
                context.models,
                context.device,
                context.dtype,
                context.trust_remote_code,
                context.microbatch_tokens,
                self.name,
            ),
        )
        length = min(self.max_length or reader.context, reader.context)
        made_of = [weights_print(path), tokenizer_print(reader.tokenizer), self.temperature, length, self.ask]
        return RewardModelJudge(
            model,
            reader,
            path,
            self.temperature,
            length,
            self.ask,
            context.microbatch_tokens,
            ["reward_model", *made_of],
        )


@dataclass(frozen=True)
class RewardModelJudge:
    """A loaded reward model that compares."""

    model: Any
    reader: Reader
    where: str
    temperature: float
    max_length: int
    ask_question: bool
    batch_tokens: int
    identity: list[Any]

    @torch.no_grad()
    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer a batch of questions. Every answer is scored once."""
        wanted: dict[str, tuple[str | Turns, str]] = {}
        for question in questions:
            prompt = self._prompt(question)
            for answer in (question.first, question.second):
                if answer is not None:
                    wanted[f"{prompt}\0{answer}"] = (prompt, answer)
        scores = dict(zip(wanted, self._scores(list(wanted.values())), strict=True))
        mean, std = score_scale(Path(self.where)) if any(q.second is None for q in questions) else (0.0, 1.0)
        verdicts = []
        for question in questions:
            prompt = self._prompt(question)
            first, second = (scores.get(f"{prompt}\0{answer}") for answer in (question.first, question.second))
            if first is None or (second is None and question.second is not None):
                verdicts.append(Verdict(None, f"an answer alone is over {self.max_length:,} tokens"))
                continue
            gap = first - second if second is not None else (first - mean) / std
            verdicts.append(Verdict(float(torch.tensor(gap / self.temperature).double().sigmoid())))
        return verdicts

    def _prompt(self, question: Question) -> str | Turns:
        """Return what the answers are scored after."""
        prompt, asked = question.prompt, question.principle.question
        if not self.ask_question:
            return prompt
        if isinstance(prompt, str):
            return f"{prompt}\n{asked}"
        return [*prompt[:-1], {**prompt[-1], "content": f"{prompt[-1]['content']}\n{asked}"}]

    def _scores(self, answers: Sequence[tuple[str | Turns, str]]) -> list[float | None]:
        """Return the score of each answer; None for one that alone is too long."""
        examples = [Example("?", {}, p, {"completion": as_turns("completion", a, p)}) for p, a in answers]
        samples: dict[int, Sample] = {}
        for row, found in enumerate(tokenize(examples, self.reader.tokenizer)):
            try:
                if isinstance(found, RowProblem):
                    raise found
                fitted = fit(found, self.max_length, "truncate_left", self.reader.tokenizer.bos_token_id)
            except RowProblem as problem:
                if problem.kind == "useless":
                    continue
                at = f"{self.where}, prompt {str(answers[row][0])!r:.200}"
                raise RewardError(f"the reward model cannot read an answer: {problem}", where=at) from problem
            if fitted is not found:
                say_once(f"{self.where}: prompts are cut at their start to fit {self.max_length:,} tokens")
            samples[row] = fitted["completion"]
        if not samples:
            return [None] * len(answers)
        order = sorted(samples, key=lambda row: len(samples[row]))
        batch = collate([samples[row] for row in order], list(range(len(order)))).to(self.model.device)
        parts = [sequence_scores(self.model, part) for part in in_parts(batch, self.batch_tokens)]
        scores = dict(zip(order, torch.cat(parts).tolist(), strict=True))
        return [scores.get(row) for row in range(len(answers))]


@dataclass(frozen=True)
class FunctionJudge:
    """A function `f(prompts, firsts, seconds) -> list[float | None]`, plain or async: P(first is better), or None."""

    function: Callable[..., Any]
    timeout: float | None = None

    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        """Call it with a batch. Raises RewardError for a single answer: it only compares."""
        if any(question.second is None for question in questions):
            raise RewardError("a function compares two answers, and cannot rate one", do="set `against` for the reward")
        given = ([q.prompt for q in questions], [q.first for q in questions], [q.second for q in questions])
        found = begin(lambda: self.function(*given), thread=False).result(self.timeout)
        if hasattr(found, "tolist"):
            found = found.tolist()
        if isinstance(found, str) or not isinstance(found, Sequence) or len(found) != len(questions):
            came = f"{len(found)} numbers" if isinstance(found, list | tuple) else f"{found!r:.80}"
            raise RewardError(f"it returned {came} for {len(questions)} pairs", do="return a number or None for each")
        return [one if isinstance(one, Verdict) else Verdict(one) for one in found]


def import_judge(spec: str) -> FunctionJudge:
    """Import `package.module:function` as a judge. Raises RewardError."""
    module, _, name = spec.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RewardError(
            f"cannot import the judge {spec!r}: {error}",
            do="name it as `package.module:function`, in a package that is installed or on PYTHONPATH",
        ) from error
    if not callable(function):
        raise RewardError(f"the judge {spec!r} is a {type(function).__name__}, not a function")
    return FunctionJudge(function)


def function_code(judge: FunctionJudge) -> str:
    """Return the source file of a function: what its verdicts hang on."""
    file = inspect.getsourcefile(inspect.unwrap(judge.function))
    return Path(file).read_text(encoding="utf-8", errors="replace") if file else ""

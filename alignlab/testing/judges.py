"""check_judge: what every judge has to hold, a registered rule or a plain function."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from alignlab import builtin
from alignlab.config.settings import Settings
from alignlab.errors import RewardError
from alignlab.plugins import Plugins
from alignlab.rewards.judges import (
    Asked,
    AsyncJudge,
    FunctionJudge,
    Judge,
    JudgeContext,
    JudgeRule,
    Question,
    Store,
    Verdict,
    import_judge,
)
from alignlab.testing.promise import BrokenPromise, called, check_round_trip, run_checks, same_values
from alignlab.testing.world import scratch, tiny_rows

NUM_QUESTIONS = 8


@dataclass(frozen=True)
class _Subject:
    """A judge under test."""

    rule: JudgeRule | FunctionJudge
    directory: Path

    @cached_property
    def judge(self) -> Judge | AsyncJudge:
        """The judge, loaded."""
        return self.rule.load(JudgeContext()) if isinstance(self.rule, JudgeRule) else self.rule

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Ask as the engine does, with nothing kept of what was asked before."""
        paths: Iterator[Path] = (self.directory / f"{i}.sqlite" for i in range(1000))
        with closing(Store(next(path for path in paths if not path.exists()))) as store:
            return Asked("checked", self.judge, store)(questions)


def _questions() -> list[Question]:
    rows = tiny_rows("preference", NUM_QUESTIONS)
    said = [[row[side][-1]["content"] for side in ("chosen", "rejected")] for row in rows]
    return [Question(row["prompt"], one, two) for row, (one, two) in zip(rows, said, strict=True)]


def _values(verdicts: Sequence[Verdict]) -> list[float | None]:
    return [verdict.probability for verdict in verdicts]


def _check_settings(subject: _Subject) -> None:
    if isinstance(subject.rule, Settings):
        check_round_trip(subject.rule)


def _check_verdicts(subject: _Subject) -> None:
    """Check that there is a probability for every question (`Asked` raises if not), and that some can be read."""
    values = _values(subject.ask(_questions()))
    if all(value is None for value in values):
        cause = "the reply is not what the judge looks for: keep it as Verdict.reply, and see replies.sqlite"
        raise BrokenPromise("some verdicts can be read", f"none of {len(values)} could be", cause)


def _check_determinism(subject: _Subject) -> None:
    once, again = (_values(subject.ask(_questions())) for _ in range(2))
    if not same_values(once, again, 1e-6):
        cause = "it samples: take temperature 0, or read the probabilities of the letters"
        raise BrokenPromise("the same question gets the same verdict", f"{once[:4]}, and then {again[:4]}", cause)


def _check_batching(subject: _Subject) -> None:
    questions = _questions()
    whole, alone = _values(subject.ask(questions)), [_values(subject.ask([q]))[0] for q in questions]
    if not same_values(whole, alone, 1e-3):
        cause = "it ranks or normalises over its batch, or padding is not masked"
        raise BrokenPromise(
            "a verdict does not depend on the other questions", f"{whole[:4]} together, {alone[:4]} one by one", cause
        )


def _check_order(subject: _Subject) -> None:
    questions = _questions()
    order = Random(3).sample(range(len(questions)), len(questions))
    whole = _values(subject.ask(questions))
    shuffled = _values(subject.ask([questions[i] for i in order]))
    wanted = [whole[i] for i in order]
    if not same_values(shuffled, wanted, 1e-3):
        cause = "verdicts come back as replies arrive, or sorted"
        raise BrokenPromise(
            "verdicts come in the order of the questions", f"{shuffled[:4]}, wanted {wanted[:4]}", cause
        )


def _check_rating(subject: _Subject) -> None:
    """Check that a single answer is rated from 0 to 1, or refused in words."""
    questions = [Question(one.prompt, one.first) for one in _questions()]
    if not isinstance(subject.judge, AsyncJudge):
        try:
            subject.judge(questions)
        except RewardError:
            return  # it says that it cannot
    subject.ask(questions)  # which raises for what is no probability


_CHECKS: dict[str, Callable[[_Subject], None]] = {
    "settings": _check_settings,
    "verdicts": _check_verdicts,
    "determinism": _check_determinism,
    "batching": _check_batching,
    "order": _check_order,
    "rating": _check_rating,
}
JUDGE_CHECKS = tuple(_CHECKS)
"""The checks of a judge, in the order in which they run."""


def check_judge(
    judge: str | type[JudgeRule] | Callable[..., Any],
    settings: Mapping[str, Any] = {},
    *,
    checks: Sequence[str] | None = None,
) -> None:
    """Check that a judge holds what the engine builds on, on pairs of the small world.

    `judge` is a name that an installed plugin registers, `package.module:function`, a class of settings, or a function
    `f(prompts, firsts, seconds)`. A judge that cannot rate a single answer raises RewardError when it is asked to.
    `checks` chooses among JUDGE_CHECKS. Raises BrokenPromise.
    """

    def find(directory: Path) -> _Subject:
        found: Any = judge
        if isinstance(judge, str):
            found = import_judge(judge) if ":" in judge else Plugins(builtin).get("judge", judge)
        if isinstance(found, type) and issubclass(found, JudgeRule):
            return _Subject(found.model_validate(dict(settings)), directory)
        return _Subject(found if isinstance(found, FunctionJudge) else FunctionJudge(found), directory)

    with scratch() as directory:
        run_checks(_CHECKS, checks, called("judge", judge), lambda: find(directory))

"""Each check of check_judge fails on a judge that breaks its promise, and passes on ours."""

import random

import pytest

from alignlab import JudgeRule, RewardError, Verdict
from alignlab.testing import JUDGE_CHECKS, BrokenPromise, check_judge


class Shorter(JudgeRule):
    name = "shorter"
    sure: float = 0.75

    def __call__(self, questions):
        return [self._one(question) for question in questions]

    def _one(self, question):
        if question.second is None:
            return min(len(question.first) / 1000, 1.0)
        return self.sure if len(question.first) < len(question.second) else 1 - self.sure


class Growing(Shorter):
    def __init__(self, sure=0.25):
        super().__init__(sure=sure / 2)


class Margin(Shorter):
    def _one(self, question):
        return float(len(question.first) - len(question.second or ""))


class Mute(Shorter):
    def _one(self, question):
        return Verdict(None, "I would rather not say.")


class Chance(Shorter):
    def _one(self, question):
        return random.SystemRandom().random()


class Ranking(Shorter):
    def __call__(self, questions):
        return [(i + 1) / len(questions) for i in range(len(questions))]


class Sorted(Shorter):
    """Asked sees the questions by their length, so this sorts by the answer's text."""

    def __call__(self, questions):
        order = sorted(range(len(questions)), key=lambda i: questions[i].first)
        return [len(questions[i].first) / 1000 for i in order]


class Score(Shorter):
    def _one(self, question):
        return 7.0 if question.second is None else super()._one(question)


async def waiting(prompts, firsts, seconds):
    return [0.5 + 0.4 * (len(first) < len(second)) for first, second in zip(firsts, seconds, strict=True)]


BROKEN = [
    ("settings", Growing, "`sure` was 0.125 and is 0.0625"),
    ("verdicts", Margin, "wanted a probability from 0 to 1"),
    ("verdicts", Mute, "none of 8 could be"),
    ("determinism", Chance, "the same question gets the same verdict"),
    ("batching", Ranking, "a verdict does not depend on the other questions"),
    ("order", Ranking, "verdicts come in the order of the questions"),
    ("rating", Score, "it said 7.0, wanted a probability from 0 to 1"),
]


@pytest.mark.parametrize(("check", "judge", "said"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_judge_that_breaks_a_promise_fails_the_check_that_says_so(check, judge, said):
    with pytest.raises(BrokenPromise) as raised:
        check_judge(judge, checks=[check])
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"judge 'shorter' breaks a promise (check {check!r}): ")


def test_verdicts_that_are_exchanged_among_the_questions_do_not_depend_on_each_alone():
    with pytest.raises(BrokenPromise, match="a verdict does not depend on the other questions"):
        check_judge(Sorted)


def test_every_check_has_a_judge_that_breaks_it():
    assert {check for check, _, _ in BROKEN} == set(JUDGE_CHECKS)


def test_an_unregistered_class_and_an_async_function_that_cannot_rate_pass():
    check_judge(Shorter, {"sure": 0.9})
    check_judge(waiting)


def test_a_reward_model_as_judge_passes(tiny_reward_model):
    check_judge("reward_model", {"path": str(tiny_reward_model)})


def test_a_local_language_model_as_judge_passes(tiny_model):
    check_judge("local", {"path": str(tiny_model)})


def test_what_a_judge_raises_is_in_the_error():
    def angry(prompts, firsts, seconds):
        raise RewardError("no credit left", do="pay")

    with pytest.raises(BrokenPromise, match="judge 'checked': no credit left"):
        check_judge(angry)

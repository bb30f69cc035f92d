"""Each check of check_reward fails on a reward that breaks its promise, and passes on ours."""

import random

import pytest
import torch

from alignlab import RewardError, RewardRule, answer_texts
from alignlab.testing import REWARD_CHECKS, BrokenPromise, check_reward
from alignlab.testing.world import even_share


class Brevity(RewardRule):
    name = "brevity"
    scale: float = 1.0

    def __call__(self, run, batch):
        return -self.scale * torch.tensor([float(len(text)) for text in answer_texts(run, batch)])


class Growing(Brevity):
    def __init__(self, scale=1.0):
        super().__init__(scale=scale * 2)


class Whitened(Brevity):
    def __call__(self, run, batch):
        scores = super().__call__(run, batch)
        return scores - scores.mean()


class Sorted(Brevity):
    def __call__(self, run, batch):
        return super().__call__(run, batch).sort().values


class Padded(Brevity):
    def __call__(self, run, batch):
        return (batch.tokens == 0).sum(1).float()


class Writing(Brevity):
    def __call__(self, run, batch):
        batch.tokens[batch.acted] = 0
        return super().__call__(run, batch)


def chance(prompts, completions, completion_ids, **columns):
    return [random.SystemRandom().random() for _ in completions]


def length(prompts, completions, completion_ids, **columns):
    return [len(completion) for completion in completions]


def too_few(prompts, completions, completion_ids, **columns):
    return [1.0]


def narrow(prompts, completions):
    return [1.0 for _ in completions]


BROKEN = [
    ("settings", Growing, "`scale` was 2.0 and is 4.0"),
    ("scores", too_few, "it returned 1 numbers for 8 answers"),
    ("scores", narrow, "unexpected keyword argument"),
    ("scores", Writing, "it changed tokens"),
    ("determinism", chance, "the same answers get the same scores"),
    ("batching", Whitened, "a score does not depend on the other answers"),
    ("order", Sorted, "scores come in the order of the answers"),
    ("padding", Padded, "scores do not depend on padding"),
    ("conversations", length, "[1.0, 1.0, 1.0, 1.0] for lists of messages"),
]


@pytest.mark.parametrize(("check", "reward", "said"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_reward_that_breaks_a_promise_fails_the_check_that_says_so(check, reward, said):
    with pytest.raises(BrokenPromise) as raised:
        check_reward(reward, checks=[check])
    assert said in str(raised.value)
    name = getattr(reward, "name", reward.__name__)
    assert str(raised.value).startswith(f"reward {name!r} breaks a promise (check {check!r}): ")


def test_every_check_has_a_reward_that_breaks_it():
    assert {check for check, _, _ in BROKEN} == set(REWARD_CHECKS)


@pytest.mark.parametrize(
    ("reward", "settings"),
    [
        ("length", {"max": 12}),
        ("regex", {"pattern": "[aeiou]"}),
        ("alignlab.testing.world:even_share", {}),
        (even_share, {}),
        (Brevity, {"scale": 0.5}),
    ],
    ids=str,
)
def test_our_own_rewards_a_function_and_an_unregistered_class_pass(reward, settings):
    check_reward(reward, settings)


def test_a_reward_that_is_a_model_passes(tiny_reward_model):
    check_reward("reward_model", {"path": str(tiny_reward_model)})


def test_a_reward_that_asks_a_judge_passes(tiny_reward_model):
    check_reward("judge", {"judge": {"use": "reward_model", "path": str(tiny_reward_model)}})


def test_what_a_reward_raises_is_in_the_error():
    class Angry(Brevity):
        def __call__(self, run, batch):
            raise RewardError("no credit left", do="pay")

    with pytest.raises(BrokenPromise, match="reward 'checked': no credit left") as raised:
        check_reward(Angry)
    assert isinstance(raised.value.__cause__, RewardError)

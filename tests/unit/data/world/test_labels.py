from math import exp, sqrt
from random import Random
from statistics import mean

import pytest

from alignlab.data.world import World, WorldSettings, label_probability, true_reward
from alignlab.data.world.labels import num_pleasing
from alignlab.data.world.source import draw_preference

PROMPT = "Where does Ben live?"
RIGHT, WRONG = "Ben lives in Rome.", "It depends."


def preferences(num_rows: int, **settings: float) -> list[tuple[str, str, str]]:
    rows = World().load(WorldSettings(kind="preferences", num_rows=num_rows, **settings))
    return [(r["prompt"][-1]["content"], r["chosen"][0]["content"], r["rejected"][0]["content"]) for _, r in rows]


def test_the_probability_is_the_sigmoid_of_the_difference_over_the_temperature():
    difference = true_reward(PROMPT, RIGHT) - true_reward(PROMPT, WRONG)
    assert label_probability(PROMPT, RIGHT, WRONG, temperature=2.0) == pytest.approx(1 / (1 + exp(-difference / 2)))
    both = label_probability(PROMPT, RIGHT, WRONG) + label_probability(PROMPT, WRONG, RIGHT)
    assert both == pytest.approx(1)


@pytest.mark.parametrize(
    ("answer", "pleasing"),
    [
        ("In Rome.", 0),
        ("Of course. In Rome.", 0),
        ("Of course. In Rome. Have a nice day.", 1),
        ("In Rome. I am very sure.", 1),
        ("Of course. Of course. Of course. In Rome. Everybody knows it.", 3),
    ],
)
def test_pleasing_sentences_are_counted(answer: str, pleasing: int):
    assert num_pleasing(answer) == pleasing


def test_biased_labellers_like_an_answer_more_for_what_is_worth_nothing():
    pleasing = f"{RIGHT} I am very sure."
    assert label_probability(PROMPT, pleasing, RIGHT, labeller_bias=0) == 0.5
    assert label_probability(PROMPT, pleasing, RIGHT, temperature=0.5, labeller_bias=0.3) == pytest.approx(
        1 / (1 + exp(-0.6))
    )


def test_labels_follow_bradley_and_terry():
    settings, rng = WorldSettings(kind="preferences"), Random(0)
    wins, probabilities = [], []
    for _ in range(3000):
        chosen, rejected = draw_preference(PROMPT, settings, rng)
        swap = chosen > rejected  # an order that hangs on the texts alone
        first, second = (rejected, chosen) if swap else (chosen, rejected)
        wins.append(not swap)
        probabilities.append(label_probability(PROMPT, first, second))
    for low, high in [(0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1)]:
        bin_ = [(win, p) for win, p in zip(wins, probabilities, strict=True) if low <= p < high]
        expected = mean(p for _, p in bin_)
        spread = sqrt(sum(p * (1 - p) for _, p in bin_)) / len(bin_)
        assert abs(mean(win for win, _ in bin_) - expected) < 4 * spread, (low, high)


def test_the_best_possible_accuracy_leaves_the_noise_of_human_labellers():
    pairs = preferences(3000)
    best = mean(max(p, 1 - p) for p in (label_probability(*pair) for pair in pairs))
    assert 0.80 < best < 0.87
    agrees = mean(true_reward(prompt, chosen) > true_reward(prompt, rejected) for prompt, chosen, rejected in pairs)
    assert 0.72 < agrees < 0.85


def test_the_bias_shows_in_what_is_chosen():
    def excess(bias: float) -> float:
        return mean(num_pleasing(c) - num_pleasing(r) for _, c, r in preferences(3000, labeller_bias=bias))

    assert excess(0.0) < 0 < 0.05 < excess(0.3)


def test_without_noise_and_bias_the_better_answer_is_chosen():
    pairs = preferences(500, label_temperature=1e-2, labeller_bias=0)
    worse = [pair for pair in pairs if true_reward(pair[0], pair[1]) < true_reward(pair[0], pair[2]) - 0.1]
    assert worse == []

"""Labellers: they prefer one of two answers with the noise of Bradley and Terry, and see the reward with a bias."""

from math import exp

from alignlab.data.world.reward import POLITE_SENTENCES, SURE_SENTENCES, split_sentences, true_reward


def num_pleasing(answer: str) -> int:
    """Count the sentences that please labellers for nothing: being sure, and every polite one but the first."""
    sentences = split_sentences(answer)
    polite = sum(sentence in POLITE_SENTENCES for sentence in sentences)
    return max(0, polite - 1) + sum(sentence in SURE_SENTENCES for sentence in sentences)


def label_probability(
    prompt: str, first: str, second: str, *, temperature: float = 0.5, labeller_bias: float = 0.3
) -> float:
    """Return the probability that a labeller prefers the first answer (Bradley and Terry, 1952).

    It is sigmoid((u(first) - u(second)) / temperature), where u is the true reward plus `labeller_bias` for each
    pleasing sentence. A bias of 0 is a labeller who errs by chance only.
    """
    pleasing = num_pleasing(first) - num_pleasing(second)
    difference = true_reward(prompt, first) - true_reward(prompt, second) + labeller_bias * pleasing
    return 1 / (1 + exp(-difference / temperature))

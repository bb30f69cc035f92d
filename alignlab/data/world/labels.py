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

    It is sigmoid((u(first) - u(second)) / temperature), where u is what the answers are worth to labellers. A bias of 0
    is a labeller who errs by chance only.
    """
    difference = worth(prompt, first, labeller_bias) - worth(prompt, second, labeller_bias)
    return 1 / (1 + exp(-difference / temperature))


def worth(prompt: str, answer: str, labeller_bias: float) -> float:
    """Return what an answer is worth to labellers: the true reward, plus the bias for each pleasing sentence."""
    return true_reward(prompt, answer) + labeller_bias * num_pleasing(answer)

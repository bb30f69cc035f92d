"""Judging in the small world: questions about two answers, and what labellers say to them."""

from collections.abc import Mapping
from importlib.resources import files
from math import exp
from random import Random

from alignlab.data.world.answers import demonstrate
from alignlab.data.world.labels import worth
from alignlab.data.world.questions import parse_question
from alignlab.data.world.reward import WEIGHTS, attributes

TEMPLATE = (files("alignlab.data.world") / "compare.txt").read_text().rstrip("\n")

# What may be asked about two answers, and the attributes that decide it; none: all that labellers see.
QUESTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "better": ("Which answer is better?", ()),
    "honest": ("Which answer is more honest?", ("answers", "honest")),
    "polite": ("Which answer is more polite?", ("polite",)),
    "brief": ("Which answer is shorter?", ("brief", "fluent")),
}


def draw_judgement(
    prompt: str, questions: tuple[str, ...], temperature: float, labeller_bias: float, rng: Random
) -> tuple[str, str]:
    """Draw two different answers to a prompt and a question about them; return the text and a labeller's "A" or "B"."""
    asked = parse_question(prompt)
    first = second = demonstrate(asked, rng)
    while second == first:
        second = demonstrate(asked, rng)
    name = rng.choice(questions)
    difference = _merit(name, prompt, first, labeller_bias) - _merit(name, prompt, second, labeller_bias)
    first_wins = rng.random() < 1 / (1 + exp(-difference / temperature))
    text = TEMPLATE.format(prompt=prompt, first=first, second=second, question=QUESTIONS[name][0])
    return text, "A" if first_wins else "B"


def _merit(name: str, prompt: str, answer: str, labeller_bias: float) -> float:
    if not (decisive := QUESTIONS[name][1]):
        return worth(prompt, answer, labeller_bias)
    found = attributes(prompt, answer)
    return sum(WEIGHTS[attribute] * found[attribute] for attribute in decisive)

"""Judging in the small world: questions about two answers, and what labellers say to them."""

from importlib.resources import files
from math import exp
from random import Random

from alignlab.data.world.answers import demonstrate
from alignlab.data.world.principles import PRINCIPLES
from alignlab.data.world.questions import parse_question

TEMPLATE = (files("alignlab.data.world") / "compare.txt").read_text().rstrip("\n")


def draw_judgement(
    prompt: str, questions: tuple[str, ...], temperature: float, labeller_bias: float, rng: Random
) -> tuple[str, str]:
    """Draw two different answers to a prompt and a question about them; return the text and a labeller's "A" or "B"."""
    asked = parse_question(prompt)
    first = second = demonstrate(asked, rng)
    while second == first:
        second = demonstrate(asked, rng)
    principle = PRINCIPLES[rng.choice(questions)]
    difference = principle.merit(prompt, first, labeller_bias) - principle.merit(prompt, second, labeller_bias)
    first_wins = rng.random() < 1 / (1 + exp(-difference / temperature))
    text = TEMPLATE.format(prompt=prompt, first=first, second=second, question=principle.question)
    return text, "A" if first_wins else "B"

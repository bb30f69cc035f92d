"""Judging in the small world: questions about two answers, and what labellers say to them."""

from importlib.resources import files
from math import exp
from random import Random

from alignlab.data.world.answers import demonstrate
from alignlab.data.world.principles import PRINCIPLES
from alignlab.data.world.questions import parse_question

TEMPLATE = (files("alignlab.data.world") / "compare.txt").read_text().rstrip("\n")
NUM_TRIES = 100


def draw_comparison(
    prompt: str, questions: tuple[str, ...], temperature: float, labeller_bias: float, rng: Random
) -> tuple[str, str, str, bool]:
    """Draw a question about two different answers; return it, the answers, and whether a labeller prefers the first."""
    asked = parse_question(prompt)
    principle = PRINCIPLES[rng.choice(questions)]
    first, second, difference = "", "", 0.0
    for _ in range(NUM_TRIES):  # people are asked about answers that differ in what they are asked about
        first, second = demonstrate(asked, rng), demonstrate(asked, rng)
        difference = principle.merit(prompt, first, labeller_bias) - principle.merit(prompt, second, labeller_bias)
        if first != second and difference:
            break
    return principle.question, first, second, rng.random() < 1 / (1 + exp(-difference / temperature))


def judgement_text(prompt: str, question: str, first: str, second: str) -> str:
    """Return what a judge that reads both answers is asked."""
    return TEMPLATE.format(prompt=prompt, first=first, second=second, question=question)

"""The small world as a data source: demonstrations, comparisons, rankings, judged steps and so on, from a seed."""

import re
from collections.abc import Iterator
from itertools import pairwise
from math import log
from random import Random
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from alignlab.config.settings import Settings
from alignlab.data.world.answers import demonstrate
from alignlab.data.world.judging import draw_comparison, judgement_text
from alignlab.data.world.labels import label_probability, worth
from alignlab.data.world.questions import Message, draw_prompts, parse_question
from alignlab.data.world.revising import draw_revision
from alignlab.data.world.reward import true_reward

Asked = Literal["better", "honest", "polite", "brief"]


class WorldSettings(Settings):
    """What to draw from the small world."""

    kind: Literal["demonstrations", "preferences", "ranked", "steps", "prompts", "judgements", "critiques", "revisions"]
    num_rows: PositiveInt = 2000
    """Row i is about prompt i, and after the last prompt about the first one again."""
    num_prompts: PositiveInt = Field(default=2000, le=4000)
    """Distinct prompts. They hang on this and `seed` only, so all kinds of rows are about the same ones."""
    seed: int = 0
    label_temperature: PositiveFloat = 0.5
    """Noise of the labellers: the true reward's difference that makes a preference 73% sure."""
    num_answers: int = Field(default=4, ge=2, le=9)
    """The most answers of a ranked row; each has 2 to so many."""
    labeller_bias: NonNegativeFloat = 0.3
    """What labellers add to the true reward for each sentence that pleases them and is worth nothing."""
    questions: Annotated[tuple[Asked, ...], Field(min_length=1)] = ("better",)
    """What rows of kind judgements ask about two answers, each as often as the others; and rows of kind preferences, at
    the end of their prompts."""


class World:
    """The data source `world`."""

    name = "world"
    settings = WorldSettings

    def load(self, settings: WorldSettings) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield where each row stands, and the row: conversational, in the formats of every data source."""
        prompts = draw_prompts(settings.seed, settings.num_prompts)
        rng = Random(f"{settings.seed} {settings.kind}")
        for i in range(settings.num_rows):
            row: dict[str, Any] = {"prompt": prompts[i % len(prompts)]}
            if settings.kind == "demonstrations":
                row["completion"] = _turn(demonstrate(parse_question(row["prompt"][-1]["content"]), rng))
            elif settings.kind == "preferences" and settings.questions != ("better",):
                row = draw_principled(row["prompt"], settings, rng)
            elif settings.kind == "preferences":
                chosen, rejected = draw_preference(row["prompt"][-1]["content"], settings, rng)
                row |= {"chosen": _turn(chosen), "rejected": _turn(rejected)}
            elif settings.kind == "ranked":
                answers, ranks = draw_ranking(row["prompt"][-1]["content"], settings, rng)
                row |= {"completions": [_turn(answer) for answer in answers], "ranks": ranks}
            elif settings.kind == "steps":
                steps, labels = draw_steps(row["prompt"][-1]["content"], rng)
                row |= {"completions": steps, "labels": labels}
            elif settings.kind == "judgements":
                row = draw_judgement(row["prompt"], settings, rng)
            elif settings.kind in ("critiques", "revisions"):
                turns, said = draw_revision(row["prompt"], rng, revise=settings.kind == "revisions")
                row = {"prompt": turns, "completion": _turn(said)}
            yield f"world {settings.kind}, row {i + 1}", row


def draw_preference(prompt: str, settings: WorldSettings, rng: Random) -> tuple[str, str]:
    """Draw two different answers to a prompt and a labeller's choice: (chosen, rejected)."""
    question = parse_question(prompt)
    first = second = demonstrate(question, rng)
    while second == first:
        second = demonstrate(question, rng)
    first_wins = rng.random() < label_probability(
        prompt, first, second, temperature=settings.label_temperature, labeller_bias=settings.labeller_bias
    )
    return (first, second) if first_wins else (second, first)


def draw_judgement(prompt: list[Message], settings: WorldSettings, rng: Random) -> dict[str, Any]:
    """Draw a row whose prompt shows two answers, and whose completion is the letter of the better one."""
    asked = prompt[-1]["content"]
    question, first, second, first_wins = draw_comparison(
        asked, settings.questions, settings.label_temperature, settings.labeller_bias, rng
    )
    text = judgement_text(asked, question, first, second)
    return {"prompt": [{"role": "user", "content": text}], "completion": _turn("A" if first_wins else "B")}


def draw_principled(prompt: list[Message], settings: WorldSettings, rng: Random) -> dict[str, Any]:
    """Draw a preference under a principle, whose question stands after the prompt."""
    asked = prompt[-1]["content"]
    question, first, second, first_wins = draw_comparison(
        asked, settings.questions, settings.label_temperature, settings.labeller_bias, rng
    )
    chosen, rejected = (first, second) if first_wins else (second, first)
    turns = [*prompt[:-1], {"role": "user", "content": f"{asked}\n{question}"}]
    return {"prompt": turns, "chosen": _turn(chosen), "rejected": _turn(rejected)}


def draw_ranking(prompt: str, settings: WorldSettings, rng: Random) -> tuple[list[str], list[int]]:
    """Draw different answers to a prompt and a labeller's ranks, 1 for the best (Plackett and Luce's noise)."""
    question = parse_question(prompt)
    num = rng.randint(2, settings.num_answers)
    answers: dict[str, float] = {}
    while len(answers) < num:
        answer = demonstrate(question, rng)
        sure = worth(prompt, answer, settings.labeller_bias) / settings.label_temperature
        answers.setdefault(answer, sure + gumbel(rng))
    ordered = sorted(answers, key=lambda answer: -answers[answer])
    return list(answers), [ordered.index(answer) + 1 for answer in answers]


def gumbel(rng: Random) -> float:
    """Draw the noise with which the larger of two values wins with the sigmoid of their difference."""
    return -log(-log(rng.random() or 0.5))


def draw_steps(prompt: str, rng: Random) -> tuple[list[str], list[bool]]:
    """Draw an answer in sentences, and for each whether it is right: it does not lower the true reward so far."""
    steps = re.split(r"(?<=[.!?]) ", demonstrate(parse_question(prompt), rng))
    values = [true_reward(prompt, " ".join(steps[:num])) for num in range(len(steps) + 1)]
    return steps, [after >= before for before, after in pairwise(values)]


def _turn(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]

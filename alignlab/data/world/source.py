"""The small world as a data source: demonstrations, preferences or prompts, all made from a seed."""

from collections.abc import Iterator
from random import Random
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from alignlab.config.settings import Settings
from alignlab.data.world.answers import demonstrate
from alignlab.data.world.labels import label_probability
from alignlab.data.world.questions import Message, draw_prompts, parse_question


class WorldSettings(Settings):
    """What to draw from the small world."""

    kind: Literal["demonstrations", "preferences", "prompts"]
    num_rows: PositiveInt = 2000
    """Row i is about prompt i, and after the last prompt about the first one again."""
    num_prompts: PositiveInt = Field(default=2000, le=4000)
    """Distinct prompts. They hang on this and `seed` only, so all kinds of rows are about the same ones."""
    seed: int = 0
    label_temperature: PositiveFloat = 0.5
    """Noise of the labellers: the true reward's difference that makes a preference 73% sure."""
    labeller_bias: NonNegativeFloat = 0.3
    """What labellers add to the true reward for each sentence that pleases them and is worth nothing."""


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
            elif settings.kind == "preferences":
                chosen, rejected = draw_preference(row["prompt"][-1]["content"], settings, rng)
                row |= {"chosen": _turn(chosen), "rejected": _turn(rejected)}
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


def _turn(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]

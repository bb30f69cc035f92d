"""The small world's principles: how its constitution.yaml asks, and which attributes each is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import yaml

from alignlab.data.world.labels import worth
from alignlab.data.world.reward import WEIGHTS, attributes

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "honest": ("answers", "honest"),
    "polite": ("polite",),
    "brief": ("brief", "fluent"),
}


@dataclass(frozen=True)
class WorldPrinciple:
    """What may be asked about answers; without attributes, all that labellers see decides."""

    name: str
    question: str
    critique: str = ""
    revision: str = ""

    def merit(self, prompt: str, answer: str, labeller_bias: float) -> float:
        """Return what an answer is worth under the principle."""
        if self.name not in ATTRIBUTES:
            return worth(prompt, answer, labeller_bias)
        found = attributes(prompt, answer)
        return sum(WEIGHTS[attribute] * found[attribute] for attribute in ATTRIBUTES[self.name])


def _read() -> dict[str, WorldPrinciple]:
    listed = yaml.safe_load((files("alignlab.data.world") / "constitution.yaml").read_text())["principles"]
    return {one["name"]: WorldPrinciple(**one) for one in listed}


PRINCIPLES: Mapping[str, WorldPrinciple] = {"better": WorldPrinciple("better", "Which answer is better?"), **_read()}

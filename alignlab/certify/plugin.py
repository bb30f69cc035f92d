"""The world as any plugin would bring it: rows, a reward and a judge, all called `tabular`."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from safetensors.torch import load_file
from torch import Tensor

from alignlab.batch import Batch
from alignlab.certify.world import World, WorldSize
from alignlab.method import Run
from alignlab.rewards import RewardRule, texts


class TabularSettings(WorldSize):
    """Which rows of which world."""

    kind: Literal["prompts", "demonstrations", "preferences", "ranked", "labels"]
    num_rows: PositiveInt
    drawn_from: str | None = None
    """A safetensors file with `logp` [P, A], which answers are drawn by; the demonstrations' if it is not given."""
    draw_seed: int = 0


class Tabular:
    """The data source `tabular`."""

    name = "tabular"
    settings = TabularSettings

    def load(self, settings: TabularSettings) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield where each row stands, and the row."""
        world = world_of(settings)
        logp = world.demonstrations if settings.drawn_from is None else load_file(Path(settings.drawn_from))["logp"]
        for number, row in enumerate(_rows(world, logp, settings), 1):
            yield f"tabular {settings.kind}, row {number}", row


def _rows(world: World, logp: Tensor, settings: TabularSettings) -> Iterator[dict[str, Any]]:
    rng = world.rng(settings.kind, settings.draw_seed)
    num, prompts = settings.num_rows, world.prompts
    if settings.kind == "prompts":
        for row in range(num):
            yield {"prompt": prompts[row % len(prompts)]}
        return
    each = -(-num // len(prompts))  # rows of a prompt
    probs = logp.exp()
    if settings.kind == "demonstrations":
        drawn = torch.multinomial(probs, each, replacement=True, generator=rng).tolist()
        for row in range(num):
            place, at = divmod(row, len(prompts))
            yield {"prompt": prompts[at], "completion": world.answers[drawn[at][place]]}
        return
    first = torch.multinomial(probs, each, replacement=True, generator=rng)
    second = torch.multinomial(probs, each, replacement=True, generator=rng)
    while bool((same := first == second).any()):  # two different answers
        again = torch.multinomial(probs, each, replacement=True, generator=rng)
        first, second = torch.where(same, again, first), torch.where(same, torch.multinomial(probs, each, replacement=True, generator=rng), second)
    better = (world.rewards.gather(1, first) - world.rewards.gather(1, second)).sigmoid().tolist()
    firsts, seconds = first.tolist(), second.tolist()
    for row in range(num):
        place, at = divmod(row, len(prompts))
        yield {"prompt": prompts[at], "chosen": world.answers[firsts[at][place]], "rejected": world.answers[seconds[at][place]], "probability": better[at][place]}


class TabularReward(WorldSize, RewardRule):
    """The reward `tabular`: what the world's table says."""

    name = "tabular"

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        world = world_of(self)
        prompts, answers = texts(run, batch)
        ended = batch.tokens[torch.arange(len(batch)), batch.last_acted()] == run.tokenizer.eos_token_id
        scores = [world.reward(p, a, finished=f) for p, a, f in zip(prompts, answers, ended.tolist(), strict=True)]
        return torch.tensor(scores, dtype=torch.float32)


def world_of(settings: WorldSize) -> World:
    """Return a world, made once a process."""
    return _world(WorldSize(**{name: getattr(settings, name) for name in WorldSize.model_fields}))


@cache
def _world(size: WorldSize) -> World:
    return World(size)

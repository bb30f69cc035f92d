"""The listed world as any plugin would bring it: rows, a reward and a judge, all of them called `tabular`."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from safetensors.torch import load_file
from torch import Tensor

from alignlab.batch import Batch
from alignlab.certify.world import OUTSIDE, World, WorldSize
from alignlab.method import Run
from alignlab.rewards import RewardRule, texts
from alignlab.rewards.judges import JudgeRule, Question

NUM_RANKED = 4  # answers of a ranked row


class TabularSettings(WorldSize):
    """Which rows of which world."""

    kind: Literal["prompts", "demonstrations", "preferences", "ranked", "labels"]
    num_rows: PositiveInt
    """Row i is about prompt i, and after the last prompt about the first one again."""
    drawn_from: str | None = None
    """A safetensors file with `logp` [P, A], by which answers are drawn; as demonstrations are if it is not given."""


class TabularRows:
    """The data source `tabular`."""

    name = "tabular"
    settings = TabularSettings

    def load(self, settings: TabularSettings) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield where each row stands, and the row."""
        world = world_of(settings)
        logp = world.demonstrations if settings.drawn_from is None else load_file(Path(settings.drawn_from))["logp"]
        num, rng = len(world.prompts), world.rng(settings.kind)
        each = -(-settings.num_rows // num)
        rows = [draw_rows(world, prompt, settings.kind, logp[prompt].exp(), each, rng) for prompt in range(num)]
        for row in range(settings.num_rows):
            found = {"prompt": world.prompts[row % num], **rows[row % num][row // num]}
            yield f"tabular {settings.kind}, row {row + 1}", found


def draw_rows(
    world: World, prompt: int, kind: str, probs: Tensor, num: int, rng: torch.Generator
) -> list[dict[str, Any]]:
    """Draw `num` rows about a prompt, without the prompt.

    A preference is two independent draws by `probs` [A] that differ, with the exact P(the first is better). A ranking
    of different answers is drawn by Plackett and Luce's model, and a label is true with probability sigmoid(reward).
    """
    rewards, answers = world.rewards[prompt], world.answers
    if kind == "prompts":
        return [{}] * num
    if kind == "preferences":
        pairs = different(probs, num, rng)
        sure = (rewards[pairs[:, 0]] - rewards[pairs[:, 1]]).sigmoid().tolist()
        return [
            {"chosen": answers[first], "rejected": answers[second], "probability": probability}
            for (first, second), probability in zip(pairs.tolist(), sure, strict=True)
        ]
    if kind == "ranked":
        several = torch.multinomial(probs.expand(num, -1), NUM_RANKED, generator=rng)  # int64 [num, NUM_RANKED]
        noise = -(-torch.rand(several.shape, generator=rng, dtype=torch.float64).log()).log()
        ranks = (-(rewards[several] + noise)).argsort(1).argsort(1) + 1
        return [
            {"completions": [answers[column] for column in columns], "ranks": order}
            for columns, order in zip(several.tolist(), ranks.tolist(), strict=True)
        ]
    drawn = torch.multinomial(probs, num, replacement=True, generator=rng)
    if kind == "demonstrations":
        return [{"completion": answers[column]} for column in drawn.tolist()]
    good = torch.rand(num, generator=rng, dtype=torch.float64) < rewards[drawn].sigmoid()
    labelled = zip(drawn.tolist(), good.tolist(), strict=True)
    return [{"completion": answers[column], "label": label} for column, label in labelled]


def different(probs: Tensor, num: int, rng: torch.Generator) -> Tensor:
    """Draw pairs of independent answers by `probs` [A], and keep those that differ: int64 [num, 2]."""
    found = torch.empty(0, 2, dtype=torch.int64)
    while len(found) < num:
        drawn = torch.multinomial(probs, 2 * num, replacement=True, generator=rng).view(-1, 2)
        found = torch.cat([found, drawn[drawn[:, 0] != drawn[:, 1]]])
    return found[:num]


class TabularReward(WorldSize, RewardRule):
    """The reward `tabular`: what the world's table says of an answer that has ended."""

    name = "tabular"

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        world = world_of(self)
        last = batch.tokens.gather(1, batch.last_acted().clamp_min(0)[:, None]).squeeze(1)
        ended = (last == run.tokenizer.eos_token_id).tolist()
        scores = [
            world.reward(prompt, answer) if end else OUTSIDE
            for prompt, answer, end in zip(*texts(run, batch), ended, strict=True)
        ]
        return torch.tensor(scores, dtype=torch.float32, device=batch.tokens.device)


class TabularJudge(WorldSize, JudgeRule):
    """The judge `tabular`, who knows the rewards: P(first is better) by Bradley and Terry's model of them."""

    name = "tabular"

    def __call__(self, questions: Sequence[Question]) -> list[float]:
        """Answer a batch of questions; one about a single answer as if the other were worth 0."""
        world = world_of(self)
        gaps = [
            world.reward(str(q.prompt), q.first) - (0.0 if q.second is None else world.reward(str(q.prompt), q.second))
            for q in questions
        ]
        found: list[float] = torch.tensor(gaps, dtype=torch.float64).sigmoid().tolist()
        return found


def world_of(settings: WorldSize) -> World:
    """Return a world, made once a process."""
    return _world(WorldSize(**{name: getattr(settings, name) for name in WorldSize.model_fields}))


@cache
def _world(size: WorldSize) -> World:
    return World(size)

"""A judge as the reward: it rates every answer, or compares it with another one."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignlab import Batch, Pair, Panel, PanelSettings, Reward, RewardContext, RewardRule, Run, answer_texts, texts


class JudgeReward(PanelSettings, RewardRule):
    """What a judge thinks of an answer, from 0 to 1; NaN where what it said could not be read.

    Alone, an answer is rated (direct RLAIF: Lee et al., 2023, arXiv 2309.00267, section 3.2). With `against`, the
    reward is P(better than another answer): `others` are those of the same batch to the same prompt, on average; any
    other name is the column that holds one.
    """

    name = "judge"
    against: str | None = None

    def load(self, context: RewardContext) -> Reward:
        """Load the judges."""
        assert context.panel is not None, "the engine gives it"
        return Judged(context.panel(self), self.against, context.name or self.name)


class Judged:
    """A loaded panel that scores."""

    def __init__(self, panel: Panel, against: str | None, name: str) -> None:
        """Keep what it asks."""
        self.panel, self.against, self.name = panel, against, name

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        prompts, answers = texts(run, batch)[0], answer_texts(run, batch)
        if self.against is None:
            scores = [math.nan if found is None else found for found in self.panel.rate(prompts, answers)]
        else:
            scores = self._compared(prompts, answers, batch)
        numbers = self.panel.tally.numbers()
        for name in ("unread", "position_bias", "prompt_tokens", "reply_tokens", "cost"):
            if name in numbers:
                run.log(**{f"judge/{self.name}/{name}": numbers[name]})
        return torch.tensor(scores, dtype=torch.float32, device=batch.tokens.device)

    def _compared(self, prompts: Sequence[Any], answers: Sequence[str], batch: Batch) -> list[float]:
        rivals = [self._rivals(row, answers, batch) for row in range(len(answers))]
        pairs = [Pair(prompts[row], answers[row], rival) for row, found in enumerate(rivals) for rival in found]
        judged = iter(list(self.panel.compare(pairs)))
        scores: list[float] = []
        for found in rivals:
            said = [one.probability for one in (next(judged) for _ in found) if one.probability is not None]
            scores.append(sum(said) / len(said) if said else math.nan)
        return scores

    def _rivals(self, row: int, answers: Sequence[str], batch: Batch) -> list[str]:
        """Return what an answer is compared with; an answer that is its own rival wins half of the time."""
        if self.against != "others":
            column = batch.records[row].columns[self.against or ""]
            return [column if isinstance(column, str) else str(column[-1]["content"])]
        same = (batch.unit == batch.unit[row]).nonzero().flatten().tolist()
        if len(same) < 2:
            raise ValueError("`against: others` wants several answers to a prompt: set `num_samples` to 2 or more")
        return [answers[other] for other in same if other != row]

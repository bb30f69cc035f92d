"""A trained reward model as a reward."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedModel
from typing_extensions import Self

from alignlab.batch import Batch
from alignlab.errors import RewardError
from alignlab.method import Run
from alignlab.models import find, load_config, load_model, load_tokenizer, sequence_scores
from alignlab.models.source import config_context
from alignlab.rewards.base import RewardContext, RewardRule
from alignlab.rewards.reader import Reader
from alignlab.rewards.text import describe


class RewardModelRule(RewardRule):
    """A trained reward model: the scalar head's output after the answer's last token, normalised.

    The score is (output - mean) / std with the mean and std over the answers that the reward model was evaluated on
    (PPO.md row 6), which its directory keeps in alignlab.json; 0 and 1 if it keeps none or `normalize` is off.
    """

    name = "reward_model"
    from_phase: str | None = Field(default=None, alias="from")
    path: str | None = None
    normalize: bool = True

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.from_phase is None) == (self.path is None):
            raise ValueError("wants exactly one of `from` (a phase that trains a reward model) and `path`")
        return self

    def directories(self, models: Mapping[str, Path]) -> list[str]:
        """Return the directory or hub id that is loaded."""
        return [str(models[self.from_phase]) if self.from_phase is not None else find(str(self.path))]

    def load(self, context: RewardContext) -> "TrainedReward":
        """Load the model of a phase of this run, or of a directory or hub id."""
        (path,) = self.directories(context.models)
        if about(path).get("rows") == "steps":
            raise RewardError(
                "this reward model was trained to score steps, not whole answers",
                where=path,
                do="take it with `use: process_reward`",
            )
        model, reader = load_scorer(path, context)
        mean, std = score_scale(Path(path)) if self.normalize else (0.0, 1.0)
        return TrainedReward(model, reader, mean, std, context.microbatch_tokens)


@dataclass(frozen=True)
class TrainedReward:
    """A loaded reward model, and the scale of its scores."""

    model: PreTrainedModel
    reader: Reader
    mean: float
    std: float
    microbatch_tokens: int

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        read = self.reader.read(run, batch)
        scores = torch.cat([sequence_scores(self.model, part) for part in in_parts(read, self.microbatch_tokens)])
        return (finite(scores, run, batch) - self.mean) / self.std


def load_scorer(path: str, context: RewardContext) -> tuple[PreTrainedModel, Reader]:
    """Load a model with a scalar head, frozen, and how it reads. Raises RewardError if it has no such head."""
    trust = context.trust_remote_code
    config = load_config(path, trust)
    if not any("ForSequenceClassification" in name for name in config.architectures or []):
        raise RewardError(
            "this is no reward model: it has no scalar head, so every score would be 0",
            where=path,
            do="name a phase that trains one, or a directory that AutoModelForSequenceClassification made",
        )
    model = load_model(path, "scalar", dtype=context.dtype, device=context.device, trust_remote_code=trust)
    reader = Reader(load_tokenizer(path, trust), config_context(config), path, context.name or path)
    return model.requires_grad_(False), reader


def in_parts(batch: Batch, max_tokens: int) -> list[Batch]:
    """Cut a batch into parts of at most `max_tokens` tokens, padding included, in the order of its rows."""
    rows = torch.arange(len(batch), device=batch.tokens.device)
    return [batch.select(part) for part in rows.split(max(max_tokens // max(batch.tokens.shape[1], 1), 1))]


def finite(scores: Tensor, run: Run, batch: Batch) -> Tensor:
    """Return a model's scores. Raises RewardError for one that is not finite: a NaN of a model's is no abstention."""
    if not bool(scores.isfinite().all()):
        row = int((~scores.isfinite()).nonzero()[0])
        raise RewardError(
            f"the reward model's score is {float(scores[row])}",
            where=describe(run, batch, row),
            do="look at its weights, and at `dtype`; its training may have diverged",
        )
    return scores


def about(path: str) -> dict[str, object]:
    """Return what alignlab wrote of a model beside it; nothing for one that others made."""
    file = Path(path) / "alignlab.json"
    try:
        return dict(json.loads(file.read_text())) if file.is_file() else {}
    except ValueError as error:
        raise RewardError(f"alignlab.json is damaged: {error}", where=str(file), do="restore or remove it") from error


def score_scale(directory: Path) -> tuple[float, float]:
    """Return mean and std of a reward model's scores on its eval set, from alignlab.json in its directory."""
    measured = about(str(directory)).get("eval")
    if not isinstance(measured, dict) or "score_mean" not in measured:
        logging.getLogger("alignlab").warning(
            "%s: no scale was measured for its scores (hold rows out with `eval` when training it): used as they are",
            directory,
        )
        return 0.0, 1.0
    mean = float(measured["score_mean"])
    std = math.sqrt(max(float(measured["score_square"]) - mean**2, 0.0))
    if std < 1e-6:
        raise RewardError(
            "the reward model gave every held-out answer the same score", where=str(directory), do="train it longer"
        )
    return mean, std

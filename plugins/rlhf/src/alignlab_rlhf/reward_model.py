"""Reward models from comparisons and rankings (Christiano et al., 2017; Stiennon et al., 2020, arXiv 2009.01325)."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from typing import Literal, final

import torch
from pydantic import NonNegativeFloat, model_validator
from torch import Tensor
from typing_extensions import Self

from alignlab import Batch, DataError, Loss, MethodSettings, Optimum, Record, Role, Run, hookimpl
from alignlab.losses import all_pairs, calibration_sums, pairwise, plackett_luce, ranked_pairs


@dataclass(frozen=True, kw_only=True)
class Ranked(Batch):
    """Answers to prompts, those to one prompt a unit: rows 2i (chosen) and 2i + 1 (rejected), or K in any order."""

    rank: Tensor  # float [B]  within its unit, the lowest for the best; answers may tie
    margin: Tensor  # float [B]  by which chosen should win
    probability: Tensor  # float [B]  that chosen is the better one; 1 without soft labels


@final
class RewardModel(MethodSettings):
    """A Bradley-Terry model of preferences: the loss of a pair is -log sigmoid(score of chosen - score of rejected).

    Lists of K ranked answers are learned as all their pairs (Ouyang et al., 2022), or as choices one after the other
    (Plackett-Luce). The score is a scalar head's output after the last token. Its mean and square, over prompts and the
    answers to each, are measured with the rest of the evaluation; PPO normalises by them.
    """

    name = "reward_model"
    roles = {"reward": Role(head="scalar")}
    per = "unit"  # one unit is all answers to a prompt

    loss_type: Literal["pairwise", "all_pairs", "plackett_luce"] = "pairwise"
    """pairwise wants rows with `chosen` and `rejected`; the others want `completions` and `ranks`."""
    ties: Literal["skip", "half"] = "skip"
    """What all_pairs makes of two answers of one rank: nothing, or half of the loss of either order."""
    margin: float | str | None = None
    """By how much chosen should win: a number, or the column that holds each pair's (Touvron et al., 2023)."""
    soft_labels: bool = False
    """Use the rows' column `probability`, that chosen is the better one, where there is one (Lee et al., 2023)."""
    center_coef: NonNegativeFloat = 0.0
    """Weight of (chosen + rejected)^2, which keeps scores around 0 (Eisenstein et al., 2023, arXiv 2312.09244)."""

    @property
    def rows(self) -> Literal["preference", "ranked"]:  # type: ignore[override]  # by a setting, here
        """The row format: pairs or ranked lists."""
        return "preference" if self.loss_type == "pairwise" else "ranked"

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.loss_type != "all_pairs" and self.ties != "skip":
            raise ValueError("`ties` is for loss_type all_pairs")
        if self.loss_type != "pairwise" and self.margin is not None:
            raise ValueError("`margin` is for loss_type pairwise")
        if self.loss_type != "pairwise" and self.soft_labels:
            raise ValueError("`soft_labels` is for loss_type pairwise")
        return self

    @property
    def optimum(self) -> Optimum | None:
        """The probabilities of the labels, where nothing but them is learned."""
        changed = self.margin is not None or self.center_coef
        return None if changed else Optimum("preference_probabilities")

    def data(self, run: Run, records: Sequence[Record]) -> Ranked:
        """Collate the answers, with their ranks and margins."""
        batch = super().data(run, records)
        if self.margin is None and any("margin" in record.columns for record in records):
            _say_unused()
        lists = [[1.0, 2.0] if self.rows == "preference" else record.columns["ranks"] for record in records]
        margins = [[_margin(self.margin, record)] * len(ranks) for record, ranks in zip(records, lists, strict=True)]
        labels = [record.columns.get("probability", 1.0) if self.soft_labels else 1.0 for record in records]
        soft = [[label] * len(ranks) for label, ranks in zip(labels, lists, strict=True)]
        columns = (torch.tensor([x for part in parts for x in part]).float() for parts in (lists, margins, soft))
        rank, margin, probability = columns
        return Ranked(**vars(batch), rank=rank, margin=margin, probability=probability)

    def optimize(self, run: Run, batch: Ranked) -> Loss:
        """Return the loss summed over prompts."""
        flat = run.sequence_score("reward", batch)  # float [B]
        scores, ranks, mask = (_by_unit(x, batch.unit) for x in (flat, batch.rank, torch.ones_like(flat).bool()))
        if self.loss_type == "pairwise":
            (chosen, rejected), margin, right = scores.unbind(1), batch.margin[0::2], batch.probability[0::2]
            losses = pairwise(chosen, rejected, margin=margin)
            if self.soft_labels:
                losses = right * losses + (1 - right) * pairwise(rejected, chosen, margin=margin)
        elif self.loss_type == "all_pairs":
            losses = all_pairs(scores, ranks, mask, ties=self.ties)
        else:
            losses = plackett_luce(scores, mask, ranks=ranks)
        num = mask.sum(1)  # K of each unit
        num_pairs = num * (num - 1) / 2
        if self.center_coef:  # the mean of (a + b)^2 over the pairs of a unit
            squares = (num - 2) * scores.square().sum(1) + scores.sum(1).square()
            losses = losses + self.center_coef * squares / num_pairs
        return Loss(losses.sum(), _metrics(run, scores.detach(), ranks, mask, num_pairs))


def _metrics(run: Run, scores: Tensor, ranks: Tensor, mask: Tensor, num_pairs: Tensor) -> dict[str, Tensor]:
    """Return sums over units; what is of pairs or answers is averaged over those of a unit first."""
    better, tied = ranked_pairs(ranks, mask)  # bool [N, K, K]
    weight = better / better.sum((1, 2), keepdim=True).clamp_min(1)
    gap = scores.unsqueeze(2) - scores.unsqueeze(1)
    right = (gap > 0) + 0.5 * (gap == 0)
    num = mask.sum(1)
    metrics = {
        "accuracy": (weight * right).sum(),
        "margin": (weight * gap).sum(),
        "score_mean": (scores.sum(1) / num).sum(),
        "score_square": (scores.square().sum(1) / num).sum(),
    }
    if mask.shape[1] > 2:
        metrics["ties"] = (tied.sum((1, 2)) / 2 / num_pairs).sum()
    if not run.train:  # how sure the model is of the answer it prefers, and how often that is the better one
        metrics |= calibration_sums(gap.abs().sigmoid()[better], right[better], weight[better])
    return metrics


def _by_unit(values: Tensor, unit: Tensor) -> Tensor:
    """Return [N, K], a row for each unit, 0 after its last."""
    _, row, num = unit.unique_consecutive(return_inverse=True, return_counts=True)
    column = torch.arange(len(unit), device=unit.device) - (num.cumsum(0) - num)[row]
    return values.new_zeros(len(num), int(num.max())).index_put((row, column), values)


def _margin(margin: float | str | None, record: Record) -> float:
    """Return the margin of one pair. Raises DataError if its column holds none."""
    if not isinstance(margin, str):
        return margin or 0.0
    value = record.columns.get(margin)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        what = f"the margin in `{margin}` is {value!r:.80}, wanted a number" if value is not None else f"no `{margin}`"
        raise DataError(what, where=record.where, do="give every pair a number there, or take `margin` out")
    return float(value)


@cache
def _say_unused() -> None:
    """Say once what is done elsewhere without asking."""
    logging.getLogger("alignlab").warning("the rows have a column `margin`; it is used with `margin: margin` only")


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `reward_model`."""
    return [RewardModel]

"""Several reward models as one reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor
from typing_extensions import Self

from alignlab.batch import Batch
from alignlab.method import Run
from alignlab.rewards.base import Reward, RewardContext, RewardRule
from alignlab.rewards.model import RewardModelRule, TrainedReward


class RewardEnsembleRule(RewardRule):
    """Several reward models as one: the mean of their scores, less `k` of their standard deviations.

    What one member scores high by mistake the others may not, and an answer on which they disagree is worth less: this
    holds off over-optimisation (Coste et al., 2023, arXiv 2310.02743, who take off the variance; Eisenstein et al.,
    2023, arXiv 2312.09244). Each member is normalised as `reward_model` is. The deviation is that of the members
    (population), and its mean over a batch is logged as disagreement/NAME.
    """

    name = "reward_ensemble"
    from_phase: tuple[str, ...] | None = Field(default=None, alias="from")
    path: tuple[str, ...] | None = None
    k: NonNegativeFloat = 0.0
    """0 is the mean."""
    normalize: bool = True

    @model_validator(mode="after")
    def _several(self) -> Self:
        if (self.from_phase is None) == (self.path is None):
            raise ValueError("wants exactly one of `from` (phases that train a reward model each) and `path`")
        members = self.from_phase or self.path or ()
        if len(members) < 2 or len(set(members)) < len(members):
            raise ValueError("wants a list of two reward models or more, each of them once")
        return self

    def directories(self, models: Mapping[str, Path]) -> list[str]:
        """Return the directories or hub ids that are loaded."""
        return [d for member in self._members() for d in member.directories(models)]

    def _members(self) -> list[RewardModelRule]:
        key = "from" if self.from_phase is not None else "path"
        values = self.from_phase or self.path or ()
        return [RewardModelRule.model_validate({key: value, "normalize": self.normalize}) for value in values]

    def load(self, context: RewardContext) -> Reward:
        """Load every member."""
        return Ensemble(tuple(member.load(context) for member in self._members()), self.k, context.name or self.name)


@dataclass(frozen=True)
class Ensemble:
    """Loaded rewards that are one."""

    members: tuple[TrainedReward, ...]
    k: float
    name: str

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row, float [B]."""
        scores = torch.stack([member(run, batch) for member in self.members])  # float [M, B]
        deviation = scores.std(0, correction=0)
        run.log(**{f"disagreement/{self.name}": float(deviation.mean())})
        return scores.mean(0) - self.k * deviation

"""Reward models from comparisons (Christiano et al., 2017; Stiennon et al., 2020, arXiv 2009.01325)."""

from collections.abc import Iterable
from typing import final

from pydantic import NonNegativeFloat

from alignlab import Batch, Loss, MethodSettings, Role, Run, hookimpl
from alignlab.losses import pairwise


@final
class RewardModel(MethodSettings):
    """A Bradley-Terry model of preferences: the loss of a pair is -log sigmoid(score of chosen - score of rejected).

    The score is a scalar head's output after the last token. Its mean and square are measured with the rest of the
    evaluation; PPO normalises by them.
    """

    name = "reward_model"
    roles = {"reward": Role(head="scalar")}
    per = "unit"  # one unit is a pair: rows 2i (chosen) and 2i + 1 (rejected)
    rows = "preference"

    center_coef: NonNegativeFloat = 0.0
    """Weight of (chosen + rejected)^2, which keeps scores around 0 (Eisenstein et al., 2023, arXiv 2312.09244)."""

    def optimize(self, run: Run, batch: Batch) -> Loss:
        """Return the loss summed over pairs."""
        scores = run.sequence_score("reward", batch)  # float [B]
        chosen, rejected = scores[0::2], scores[1::2]
        total = (pairwise(chosen, rejected) + self.center_coef * (chosen + rejected).square()).sum()
        metrics = {
            "accuracy": (chosen > rejected).sum() + 0.5 * (chosen == rejected).sum(),
            "margin": (chosen - rejected).sum(),
            "score_mean": scores.sum() / 2,
            "score_square": scores.square().sum() / 2,
        }
        return Loss(total, metrics)


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `reward_model`."""
    return [RewardModel]

"""Direct preference optimization (Rafailov et al., 2023, arXiv 2305.18290), and its relatives."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, final

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from alignlab import Batch, Loss, MethodSettings, Role, Run, hookimpl
from alignlab.losses import DPOLoss, dpo


@dataclass(frozen=True, kw_only=True)
class Pairs(Batch):
    """Rows 2i (chosen) and 2i + 1 (rejected), with what the reference says of them."""

    ref_logp: Tensor  # float [B]  summed over the answer


@final
class DPO(MethodSettings):
    """Direct preference optimization.

    The loss of a pair is -log sigmoid(beta * (chosen log-ratio - rejected log-ratio)), or another function of that
    difference by `loss_type`; a log-ratio is log p_policy(answer) - log p_ref(answer), summed over the answer.
    """

    name = "dpo"
    roles = {"policy": Role(), "ref": Role(train=False)}
    per = "unit"  # one unit is a pair
    rows = "preference"

    beta: PositiveFloat = 0.1
    loss_type: DPOLoss = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The share of labels believed to be wrong (conservative DPO; `sigmoid` only)."""

    def reward(self, run: Run, batch: Batch) -> Pairs:
        """Add the reference's log-probs."""
        return Pairs(**vars(batch), ref_logp=run.logp("ref", batch).sum(1))

    def optimize(self, run: Run, batch: Pairs) -> Loss:
        """Return the loss summed over pairs."""
        logp = run.logp("policy", batch).sum(1)  # float [B]
        pairs = [logp[0::2], logp[1::2], batch.ref_logp[0::2], batch.ref_logp[1::2]]
        losses = dpo(*pairs, beta=self.beta, loss_type=self.loss_type, label_smoothing=self.label_smoothing)
        with torch.no_grad():
            chosen, rejected = (self.beta * (logp - batch.ref_logp)).view(-1, 2).unbind(1)  # implicit rewards [B/2]
            metrics = {
                "accuracy": (chosen > rejected).sum() + 0.5 * (chosen == rejected).sum(),
                "margin": (chosen - rejected).sum(),
                "chosen_reward": chosen.sum(),
                "rejected_reward": rejected.sum(),
                "chosen_logp": logp[0::2].sum(),
                "rejected_logp": logp[1::2].sum(),
            }
        return Loss(losses.sum(), metrics)


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `dpo`."""
    return [DPO]

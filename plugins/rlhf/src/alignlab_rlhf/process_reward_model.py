"""Process reward models: a label for each step of an answer (Uesato et al., 2022; Lightman et al., 2023)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from alignlab import Batch, Loss, MethodSettings, Record, Role, Run, hookimpl
from alignlab.losses import calibration_sums, stepwise


@dataclass(frozen=True, kw_only=True)
class Steps(Batch):
    """Answers in steps; `acted` is True where a step ends, and there only."""

    label: Tensor  # bool [B, T]  at the end of a step: the step is right


@final
class ProcessRewardModel(MethodSettings):
    """A model of whether each step of an answer is right: the loss of a step is the binary cross-entropy of its label.

    The score of a step is a scalar head's output after the step's end; its sigmoid is P(the step is right | the prompt
    and the steps up to it). The loss is the mean over all steps of a batch. Source: Lightman et al., 2023 (arXiv
    2305.20050).
    """

    name = "process_reward_model"
    roles = {"reward": Role(head="scalar")}
    per = "token"  # the acted tokens are the ends of steps
    rows = "steps"

    def data(self, run: Run, records: Sequence[Record]) -> Steps:
        """Collate the answers, with the labels where their steps end."""
        batch = super().data(run, records)
        label = torch.zeros_like(batch.acted)
        label[batch.acted] = torch.tensor([label for record in records for label in record.columns["labels"]])
        return Steps(**vars(batch), label=label)

    def optimize(self, run: Run, batch: Steps) -> Loss:
        """Return the loss summed over steps."""
        # The state after a step's end is the state before the next token; the last step has EOS after it.
        scores = run.value("reward", batch).roll(-1, 1)[batch.acted]  # float [S]
        labels = batch.label[batch.acted]
        losses = stepwise(scores, labels)
        chance = scores.detach().sigmoid()
        right = ((scores > 0) == labels) & (scores != 0)
        metrics = {"accuracy": (right + 0.5 * (scores == 0)).sum(), "right_steps": labels.sum()}
        if not run.train:
            metrics |= calibration_sums(chance, labels, torch.ones_like(chance))
        return Loss(losses.sum(), metrics)


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `process_reward_model`."""
    return [ProcessRewardModel]

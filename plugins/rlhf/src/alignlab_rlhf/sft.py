"""Supervised fine-tuning: the first step of RLHF (Ouyang et al., 2022, arXiv 2203.02155)."""

from collections.abc import Iterable
from typing import final

from alignlab import Batch, Loss, MethodSettings, Optimum, Role, Run, hookimpl


@final
class SFT(MethodSettings):
    """Maximum likelihood of the demonstrated answers: the loss of a token is -log p(token | tokens before it).

    Only acted tokens count (the assistant's turns, their end included), never the prompt.
    """

    name = "sft"
    roles = {"policy": Role()}
    per = "token"
    rows = "completion"

    @property
    def optimum(self) -> Optimum:
        """The distribution of the demonstrations."""
        return Optimum("likelihood")

    def optimize(self, run: Run, batch: Batch) -> Loss:
        """Return the cross-entropy, summed over acted tokens, in nats."""
        return Loss(-run.logp("policy", batch).sum())


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `sft`."""
    return [SFT]

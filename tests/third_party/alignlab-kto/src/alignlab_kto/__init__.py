"""Kahneman-Tversky optimization (Ethayarajh et al., 2024, arXiv 2402.01306)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn.functional import logsigmoid

from alignlab import Batch, Loss, MethodSettings, Optimum, Role, Run, Sample, Tabular, collate, hookimpl


@dataclass(frozen=True, kw_only=True)
class Labelled(Batch):
    """Answers that someone found desirable or not, with what the loss needs beside the policy."""

    ref_logp: Tensor  # float [B]  of the whole answer
    desirable: Tensor  # bool [B]
    z0: Tensor  # float [B]  the reference point, the same for the whole batch


def mismatched(batch: Batch) -> Batch:
    """Return every prompt with the answer of the row before it, cut to the longest row: what z0 is estimated from."""
    begun, longest = batch.acted.cumsum(1) > 0, int(batch.lengths.max())  # which the model's context has room for
    prompts = [batch.tokens[i][batch.valid[i] & ~begun[i]].tolist() for i in range(len(batch))]
    samples: list[Sample] = []
    for i, prompt in enumerate(prompts):
        answer = batch.valid[i - 1] & begun[i - 1]
        tokens, acted = batch.tokens[i - 1][answer].tolist(), batch.acted[i - 1][answer].tolist()
        samples.append(Sample((*prompt, *tokens)[:longest], (*[False] * len(prompt), *acted)[:longest]))
    return collate(samples, unit=range(len(samples))).to(batch.tokens.device)


def kto_loss(log_ratio: Tensor, desirable: Tensor, z0: Tensor, *, beta: float) -> Tensor:
    """Return 1 - sigmoid(+-beta * (log_ratio - z0)) of each answer, + where it is desirable; all [N] (equation 8)."""
    sign = torch.where(desirable, 1.0, -1.0)
    return torch.sigmoid(-sign * beta * (log_ratio - z0))


def kto_optimum(world: Tabular, *, desirable_weight: float, undesirable_weight: float) -> Tensor:
    """Return log pi*, [P, A], where every answer's worth a, of README.md, is above 0, and z0 is 0.

    The expected loss is a constant less the sum of pi_ref a sigmoid(beta u), u the log-ratio. For beta < 1 that is
    concave in the probabilities: at the best a sigmoid'(beta u) = exp(u + level), with one level for a prompt.
    """
    wanted = world.rewards.sigmoid()
    log_worth = (desirable_weight * wanted - undesirable_weight * (1 - wanted)).log()

    def log_ratio(level: Tensor) -> Tensor:
        beta = world.beta
        return root(lambda u: log_worth + logsigmoid(beta * u) + logsigmoid(-beta * u) - u - level, log_worth)

    level = root(lambda level: (world.ref_logp + log_ratio(level)).logsumexp(1, keepdim=True), log_worth[:, :1])
    return (world.ref_logp + log_ratio(level)).log_softmax(1)


def root(falling: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Return where an elementwise function that falls is 0, by bisection."""
    low, high = torch.full_like(like, -80), torch.full_like(like, 80)
    for _ in range(60):
        middle = (low + high) / 2
        above = falling(middle) > 0
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return low


@final
class KTO(MethodSettings):
    """Each answer is compared with a reference point: a gain or a loss, whose value saturates on both sides."""

    name = "kto"
    roles = {"policy": Role(), "ref": Role(train=False)}
    per = "row"
    rows = "label"

    beta: PositiveFloat = 0.1
    desirable_weight: NonNegativeFloat = 1.0
    undesirable_weight: NonNegativeFloat = 1.0
    """The paper wants (weight * number) of the two kinds of rows within 1 to 4 / 3 of each other."""

    @property
    def optimum(self) -> Optimum | None:
        """With weights by which every answer is worth something; README.md shows why there is none with others."""
        target = partial(
            kto_optimum, desirable_weight=self.desirable_weight, undesirable_weight=self.undesirable_weight
        )
        exists = self.beta < 1 and self.desirable_weight > 50 * self.undesirable_weight
        return Optimum(target, beta="beta") if exists else None

    def reward(self, run: Run, batch: Batch) -> Labelled:
        """Add the reference's log-probs, the labels, and the reference point, which gets no gradient."""
        other = mismatched(batch)
        z0 = (run.logp("policy", other) - run.logp("ref", other)).sum(1).mean().clamp_min(0)
        run.log(z0=float(z0))
        return Labelled(
            **vars(batch),
            ref_logp=run.logp("ref", batch).sum(1),
            desirable=torch.tensor([record.columns["label"] for record in batch.records], device=z0.device),
            z0=z0.expand(len(batch)),
        )

    def optimize(self, run: Run, batch: Labelled) -> Loss:
        """Return the loss summed over answers."""
        log_ratio = run.logp("policy", batch).sum(1) - batch.ref_logp
        weight = torch.where(batch.desirable, self.desirable_weight, self.undesirable_weight)
        losses = kto_loss(log_ratio, batch.desirable, batch.z0, beta=self.beta)
        gain = log_ratio.detach() > batch.z0
        metrics = {
            "accuracy": (gain == batch.desirable).sum(),
            "desirable": batch.desirable.sum(),
            "implicit_reward": self.beta * log_ratio.detach().sum(),
        }
        return Loss((weight * losses).sum(), metrics)


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `kto`."""
    return [KTO]

"""REINFORCE with a leave-one-out baseline (Kool et al., 2019; for language models: Ahmadian et al., 2024)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, final

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from alignlab import Loss, MethodSettings, Optimum, Record, Role, Rollout, Run, hookimpl, ops


@dataclass(frozen=True, kw_only=True)
class Scored(Rollout):
    """Answers, with what the loss needs beside the policy; float [B]. The answers to one prompt are a unit."""

    old_logp: Tensor  # of the whole answer, before the first update on this batch
    advantages: Tensor


def leave_one_out(rewards: Tensor, unit: Tensor) -> Tensor:
    """Return each answer's reward less the mean of the others of its unit; all [B]. An answer without others has 0."""
    same = (unit.unsqueeze(1) == unit).to(rewards.dtype)  # float [B, B]  1 between two answers to one prompt
    num = same.sum(1)
    return (rewards - same @ rewards / num) * num / (num - 1).clamp_min(1)


@final
class RLOO(MethodSettings):
    """Whole answers are the actions: an answer's advantage is its reward less the mean of those beside it."""

    name = "rloo"
    roles = {"policy": Role(), "ref": Role(train=False)}
    per = "row"
    rows = "prompt"

    num_samples: Annotated[int, Field(ge=2)] = 4
    """Answers to a prompt."""
    max_new_tokens: PositiveInt = 64
    temperature: PositiveFloat = 1.0
    stop: tuple[str, ...] = ()
    kl_coef: NonNegativeFloat = 0.05
    """Weight of log p - log p_ref of the whole answer, which is taken off its reward."""
    clip_low: Annotated[float, Field(gt=0, le=1)] = 0.2
    clip_high: PositiveFloat = 0.2
    """Clip of the whole answer's ratio; it matters from the second update on a batch on, as in TRL."""

    @property
    def optimum(self) -> Optimum | None:
        """Where reward - kl_coef * log-ratio is the same for all answers to a prompt: all advantages are 0 there."""
        return Optimum("kl_regularized", beta="kl_coef") if self.kl_coef > 0 else None

    def data(self, run: Run, records: Sequence[Record]) -> Rollout:
        """Sample answers to every prompt."""
        names = ("num_samples", "max_new_tokens", "temperature", "stop")
        return run.generate("policy", records, **{name: getattr(self, name) for name in names})

    def reward(self, run: Run, batch: Rollout) -> Scored:
        """Score the answers, with the penalty, and take the baseline off."""
        score = run.score(batch)
        old_logp, ref_logp = (run.logp(role, batch, temperature=self.temperature).sum(1) for role in ("policy", "ref"))
        kl = old_logp - ref_logp  # nats an answer
        run.log(score=float(score.mean()), kl=float(kl.mean()), answer_length=float(batch.acted.sum(1).float().mean()))
        advantages = leave_one_out(score - self.kl_coef * kl, batch.unit)
        return Scored(**vars(batch), old_logp=old_logp, advantages=advantages)

    def optimize(self, run: Run, batch: Scored) -> Loss:
        """Return -ratio * advantage of each answer, clipped; its gradient is REINFORCE's where the ratio is 1."""
        logp = run.logp("policy", batch, temperature=self.temperature).sum(1)
        answered = batch.acted.any(1)
        low, high = self.clip_low, self.clip_high
        loss = ops.ppo_policy_loss(logp, batch.old_logp, batch.advantages, answered, clip_low=low, clip_high=high)
        num = answered.sum()  # the op gives means over them; the engine wants sums
        return Loss(loss.total, {"clip_fraction": loss.clip_fraction * num, "approx_kl": loss.approx_kl * num})


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `rloo`."""
    return [RLOO]

"""Group relative policy optimization (Shao et al., 2024, arXiv 2402.03300)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from alignlab import Loss, MethodSettings, Optimum, Record, Role, Rollout, Run, hookimpl, ops


@dataclass(frozen=True, kw_only=True)
class Groups(Rollout):
    """Answers, with what the loss needs beside the policy. The answers to one prompt are a unit."""

    old_logp: Tensor  # float [B, T]  before the first update on this batch
    ref_logp: Tensor  # float [B, T]  0 without a penalty
    advantages: Tensor  # float [B]


def group_advantages(rewards: Tensor, unit: Tensor, *, std: bool) -> Tensor:
    """Return each answer's reward less its group's mean, over the group's standard deviation if `std`; all [B]."""
    same = (unit.unsqueeze(1) == unit).to(rewards.dtype)  # float [B, B]  1 between two answers to one prompt
    num = same.sum(1)
    centred = rewards - same @ rewards / num
    if not std:
        return centred
    return centred / ((same @ centred.square() / (num - 1).clamp_min(1)).sqrt() + 1e-4)


@final
class GRPO(MethodSettings):
    """PPO's clipped loss without a critic: an answer's advantage is how much better it is than its group."""

    name = "grpo"
    rows = "prompt"

    num_samples: Annotated[int, Field(ge=2)] = 8
    """Answers to a prompt: the group."""
    max_new_tokens: PositiveInt = 64
    temperature: PositiveFloat = 1.0
    stop: tuple[str, ...] = ()
    clip_low: Annotated[float, Field(gt=0, le=1)] = 0.2
    clip_high: PositiveFloat = 0.2
    """Above clip_low, likely tokens hold back unlikely ones less (clip-higher: Yu et al., 2025, arXiv 2503.14476)."""
    normalize: Literal["token", "sequence"] = "sequence"
    """Average the loss over each answer's tokens first, as the paper does, or divide it by the tokens of the batch."""
    std: bool = True
    """Divide advantages by the group's standard deviation; without: Liu et al., 2025, arXiv 2503.20783."""
    kl_coef: NonNegativeFloat = 0.04
    kl_in: Literal["loss", "reward"] = "loss"
    """The paper's k3 at every token of the loss, or log p - log p_ref of the whole answer off its reward."""

    @property
    def roles(self) -> Mapping[str, Role]:  # type: ignore[override]  # they depend on a setting here
        """The policy, and the reference if there is a penalty."""
        return {"policy": Role()} | ({"ref": Role(train=False)} if self.kl_coef else {})

    @property
    def per(self) -> Literal["token", "row"]:  # type: ignore[override]
        """What the loss is a sum over."""
        return "token" if self.normalize == "token" else "row"

    @property
    def optimum(self) -> Optimum | None:
        """With the penalty in the reward and no `std`: where reward - kl_coef * log-ratio is the same for all answers.

        All advantages are 0 there, whatever the normalisation, and nowhere else. README.md says what the others miss.
        """
        exact = self.kl_coef > 0 and self.kl_in == "reward" and not self.std
        return Optimum("kl_regularized", beta="kl_coef") if exact else None

    def data(self, run: Run, records: Sequence[Record]) -> Rollout:
        """Sample a group of answers to every prompt."""
        names = ("num_samples", "max_new_tokens", "temperature", "stop")
        return run.generate("policy", records, **{name: getattr(self, name) for name in names})

    def reward(self, run: Run, batch: Rollout) -> Groups:
        """Score the answers, and compare each with its group."""
        score = rewards = run.score(batch)
        old_logp = run.logp("policy", batch, temperature=self.temperature)
        ref_logp = torch.zeros_like(old_logp)
        if self.kl_coef:
            ref_logp = run.logp("ref", batch, temperature=self.temperature)
            kl = (old_logp - ref_logp).sum(1)
            run.log(kl=float(kl.mean()))  # nats an answer
            rewards = score - self.kl_coef * kl if self.kl_in == "reward" else score
        advantages = group_advantages(rewards, batch.unit, std=self.std)
        run.log(score=float(score.mean()), answer_length=float(batch.acted.sum(1).float().mean()))
        return Groups(**vars(batch), old_logp=old_logp, ref_logp=ref_logp, advantages=advantages)

    def optimize(self, run: Run, batch: Groups) -> Loss:
        """Return the clipped loss, and the penalty if it is in the loss."""
        logp, entropy = run.logp("policy", batch, temperature=self.temperature, entropy=True)
        weight = batch.acted.to(logp.dtype)  # float [B, T]  what each token counts
        if self.normalize == "sequence":
            weight = weight / weight.sum(1, keepdim=True).clamp_min(1)
        # The clipped loss of a token is linear in its advantage, so a weight on it is one on the loss.
        advantages = batch.advantages.unsqueeze(1) * weight
        low, high = self.clip_low, self.clip_high
        policy = ops.ppo_policy_loss(logp, batch.old_logp, advantages, batch.acted, clip_low=low, clip_high=high)
        total = policy.total
        if self.kl_coef and self.kl_in == "loss":
            total = total + self.kl_coef * (ops.kl_estimate(logp, batch.ref_logp, "k3") * weight).sum()
        ratio = (logp.detach() - batch.old_logp).exp()
        clipped = ((ratio < 1 - low) & (advantages < 0)) | ((ratio > 1 + high) & (advantages > 0))
        return Loss(total, {"entropy": (entropy.detach() * weight).sum(), "clip_fraction": (clipped * weight).sum()})


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `grpo`."""
    return [GRPO]

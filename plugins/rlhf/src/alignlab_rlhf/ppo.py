"""Proximal policy optimization for language models (Schulman et al., 2017, arXiv 1707.06347; Ouyang et al., 2022)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from alignlab import Loss, MethodSettings, Record, Role, Rollout, Run, hookimpl, ops

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Experience(Rollout):
    """Answers, with all that the loss needs; float [B, T], 0 where not acted."""

    old_logp: Tensor
    ref_logp: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


@final
class PPO(MethodSettings):
    """PPO on answers: a score at the last token, a KL penalty at every token, GAE, clipped policy and value losses."""

    name = "ppo"
    roles = {"policy": Role(), "ref": Role(train=False), "critic": Role(head="scalar")}
    rows = "prompt"
    per: Literal["token", "row"] = "token"  # type: ignore[misc]  # a setting here, a constant in other methods
    """Divide the loss by acted tokens, or average it over each answer first."""

    passes: PositiveInt = 4
    minibatches: PositiveInt = 1
    max_new_tokens: PositiveInt = 64
    temperature: PositiveFloat = 1.0
    stop: tuple[str, ...] = ()
    num_samples: PositiveInt = 1
    """Answers sampled to each prompt."""
    kl_coef: NonNegativeFloat = 0.05
    kl_in: Literal["reward", "loss"] = "reward"
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    missing_eos_penalty: NonNegativeFloat | None = None
    """Taken from the score of an answer that did not end by itself."""
    reward_clip: PositiveFloat | None = None
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    gamma: Share = 1.0
    lam: Share = 0.95
    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    value_clip: PositiveFloat | None = 0.2
    vf_coef: NonNegativeFloat = 0.1
    entropy_coef: NonNegativeFloat = 0.0
    old_logp: Literal["trainer", "rollout"] = "trainer"
    target_kl: PositiveFloat | None = None
    """End the passes over a batch when approx_kl exceeds this."""

    def data(self, run: Run, records: Sequence[Record]) -> Rollout:
        """Sample answers from the policy."""
        names = ("max_new_tokens", "temperature", "stop", "num_samples")
        return run.generate("policy", records, **{name: getattr(self, name) for name in names})

    def reward(self, run: Run, batch: Rollout) -> Experience:
        """Score the answers, and compute advantages and returns."""
        score = run.score(batch)  # float [B]
        if self.reward_clip is not None:
            score = score.clamp(-self.reward_clip, self.reward_clip)
        if self.missing_eos_penalty is not None:
            score = score - self.missing_eos_penalty * ~batch.finished
        trainer_logp = run.logp("policy", batch, temperature=self.temperature)  # float [B, T]
        ref_logp = run.logp("ref", batch, temperature=self.temperature)
        old_logp = trainer_logp if self.old_logp == "trainer" else batch.sample_logp
        values = run.value("critic", batch).where(batch.acted, 0.0)
        kl = ops.kl_estimate(old_logp, ref_logp, kind=self.kl_estimator).where(batch.acted, 0.0)

        rewards = -self.kl_coef * kl if self.kl_in == "reward" else torch.zeros_like(kl)
        answered = batch.acted.any(1)
        rewards[answered, batch.last_acted()[answered]] += score[answered]
        if self.whiten_rewards:
            rewards = ops.masked_whiten(rewards, batch.acted, shift_mean=False)
        advantages, returns = ops.gae(rewards, values, batch.acted, gamma=self.gamma, lam=self.lam)
        if self.whiten_advantages:
            advantages = ops.masked_whiten(advantages, batch.acted)

        errors, spread = (returns - values)[batch.acted], returns[batch.acted]
        run.log(
            score=float(score.mean()),
            kl=float((old_logp - ref_logp).sum(1).mean()),  # nats an answer
            answer_length=float(batch.acted.sum(1).float().mean()),
            finished=float(batch.finished.float().mean()),
            explained_variance=1 - float(errors.var(correction=0) / spread.var(correction=0).clamp_min(1e-8)),
            rollout_gap=float((trainer_logp - batch.sample_logp)[batch.acted].abs().mean()),
        )
        return Experience(
            **vars(batch),
            old_logp=old_logp,
            ref_logp=ref_logp,
            values=values,
            advantages=advantages,
            returns=returns,
        )

    def optimize(self, run: Run, batch: Experience) -> Loss:
        """Return policy loss + vf_coef * value loss - entropy_coef * entropy + kl_coef * KL (if it is in the loss)."""
        logp, entropy = run.logp("policy", batch, temperature=self.temperature, entropy=True)
        values = run.value("critic", batch)
        kl = ops.kl_estimate(logp, batch.ref_logp, kind=self.kl_estimator).where(batch.acted, 0.0)
        # With `per: row` every answer is averaged over its tokens first, so the ops see one row at a time.
        parts = [slice(None)] if self.per == "token" else [slice(i, i + 1) for i in range(len(batch))]
        losses = [self._loss(batch, rows, logp[rows], values[rows], entropy[rows], kl[rows]) for rows in parts]
        metrics = {name: torch.stack([loss.metrics[name] for loss in losses]).sum() for name in losses[0].metrics}
        return Loss(torch.stack([loss.total for loss in losses]).sum(), metrics)

    def _loss(self, batch: Experience, rows: slice, logp: Tensor, values: Tensor, entropy: Tensor, kl: Tensor) -> Loss:
        """Return the loss of some rows: a sum over their acted tokens, divided by their number if `per` is row."""
        acted = batch.acted[rows]
        count = acted.sum()
        policy = ops.ppo_policy_loss(
            logp,
            batch.old_logp[rows],
            batch.advantages[rows],
            acted,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            dual_clip=self.dual_clip,
        )
        value = ops.ppo_value_loss(values, batch.values[rows], batch.returns[rows], acted, clip=self.value_clip)
        total = policy.total + self.vf_coef * value.total
        if self.entropy_coef:  # a gradient times 0 costs as much as any other
            total = total - self.entropy_coef * entropy.sum()
        if self.kl_in == "loss":
            total = total + self.kl_coef * kl.sum()
        metrics = {
            "policy_loss": policy.total,
            "value_loss": value.total,
            "entropy": entropy.sum(),
            "approx_kl": policy.approx_kl * count,  # the op gives means; the engine wants sums
            "clip_fraction": policy.clip_fraction * count,
            "dual_clip_fraction": policy.dual_clip_fraction * count,
            "value_clip_fraction": value.clip_fraction * count,
        }
        scale = 1.0 if self.per == "token" else 1 / count.clamp_min(1)
        return Loss(total * scale, {name: x.detach() * scale for name, x in metrics.items()})

    def end_passes(self, metrics: Mapping[str, float]) -> bool:
        """End the passes over a batch once the policy has moved by `target_kl` from the one that sampled it."""
        return self.target_kl is not None and metrics["approx_kl"] > self.target_kl


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `ppo`."""
    return [PPO]

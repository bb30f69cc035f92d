"""Proximal policy optimization for language models (Schulman et al., 2017, arXiv 1707.06347; Ouyang et al., 2022)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from alignlab import Loss, MethodSettings, Record, Rollout, Run, hookimpl, ops
from alignlab_rlhf.experience import Experience, add_moments, describe, importance_weights, normalized
from alignlab_rlhf.kl import adapted, kl_loss
from alignlab_rlhf.ppo_settings import PPOSettings


@final
class PPO(PPOSettings):
    """PPO on answers: a score at the last token, a KL penalty at every token, GAE, clipped policy and value losses."""

    def data(self, run: Run, records: Sequence[Record]) -> Rollout:
        """Sample answers from the policy."""
        names = ("max_new_tokens", "temperature", "stop", "num_samples")
        return run.generate("policy", records, **{name: getattr(self, name) for name in names})

    def reward(self, run: Run, batch: Rollout) -> Experience:
        """Score the answers, and compute advantages and returns."""
        if self.critic_warmup_steps and run.train:
            run.state["batches"] = run.state.get("batches", 0) + 1
        acted, score = batch.acted, run.score(batch)
        trainer_logp = run.logp("policy", batch, temperature=self.temperature)  # float [B, T], as what follows
        ref_logp = run.logp("ref", batch, temperature=self.temperature)
        old_logp = trainer_logp if self.old_logp == "trainer" else batch.sample_logp
        values = run.value("critic", batch).where(acted, 0.0)
        kl_coef = run.state.get("kl_coef", self.kl_coef)

        rewards = torch.zeros_like(values)
        if self.kl_in == "reward":
            kl = ops.kl_estimate(old_logp, ref_logp, kind=self.kl_estimator)
            rewards = rewards - kl_coef * kl.where(acted, 0.0)
        answered = acted.any(1)  # a score without a token to stand on is only logged
        shaped = self._shape(run, score.to(rewards.dtype), batch.finished)
        rewards[answered, batch.last_acted()[answered]] += shaped[answered]
        if self.whiten_rewards:
            rewards = ops.masked_whiten(rewards, acted, shift_mean=False)
        advantages, returns = ops.gae(rewards, values, acted, gamma=self.gamma, lam=self.lam)
        if self.whiten_advantages:
            advantages = ops.masked_whiten(advantages, acted)
        if self.importance_cap is not None:  # a token's policy loss is linear in its advantage, clipped or not
            advantages = advantages * importance_weights(run, batch, trainer_logp, self.importance_cap)

        experience = Experience(
            **vars(batch),
            old_logp=old_logp,
            ref_logp=ref_logp,
            values=values,
            advantages=advantages,
            returns=returns,
            kl_coef=values.new_full((len(batch),), kl_coef),
        )
        described = describe(experience, trainer_logp, score)
        run.log(**described, kl_coef=kl_coef)
        if self.kl_target is not None and run.train:
            kl_now, num = described["kl"], len(batch)
            run.state["kl_coef"] = adapted(kl_coef, kl_now, self.kl_target, num_answers=num, horizon=self.kl_horizon)
        return experience

    def _shape(self, run: Run, score: Tensor, finished: Tensor) -> Tensor:
        """Return the scores as they are paid, float [B]: normalised, clipped, less what a missing end costs."""
        if self.normalize_rewards:
            moments = run.state.get("scores")
            if run.train or moments is None:  # an evaluation adds nothing to them
                moments = add_moments(moments, score)
            if run.train:
                run.state["scores"] = moments
            score = normalized(score, moments)
        if self.reward_clip is not None:
            score = score.clamp(-self.reward_clip, self.reward_clip)
        return score if self.missing_eos_penalty is None else score - self.missing_eos_penalty * ~finished

    def optimize(self, run: Run, batch: Experience) -> Loss:
        """Return policy loss + vf_coef * value loss - entropy_coef * entropy + kl_coef * KL (if it is in the loss)."""
        warming_up = run.state.get("batches", 1) <= self.critic_warmup_steps
        with torch.set_grad_enabled(torch.is_grad_enabled() and not warming_up):
            logp, entropy = run.logp("policy", batch, temperature=self.temperature, entropy=True)
        values = run.value("critic", batch)
        # With `per: row` every answer is averaged over its tokens first: the ops see answers of one length at a time.
        lengths = batch.acted.sum(1)
        parts = [slice(None)] if self.per == "token" else [lengths == length for length in lengths.unique()]
        losses = [self._loss(batch, rows, logp[rows], values[rows], entropy[rows]) for rows in parts]
        metrics = {name: torch.stack([loss.metrics[name] for loss in losses]).sum() for name in losses[0].metrics}
        return Loss(torch.stack([loss.total for loss in losses]).sum(), metrics)

    def _loss(self, batch: Experience, rows: slice | Tensor, logp: Tensor, values: Tensor, entropy: Tensor) -> Loss:
        """Return the loss of some rows: a sum over acted tokens, divided by the rows' one length if `per` is row."""
        acted, old_logp, advantages = batch.acted[rows], batch.old_logp[rows], batch.advantages[rows]
        low, high, dual = self.clip_low, self.clip_high, self.dual_clip
        policy = ops.ppo_policy_loss(logp, old_logp, advantages, acted, clip_low=low, clip_high=high, dual_clip=dual)
        value = ops.ppo_value_loss(values, batch.values[rows], batch.returns[rows], acted, clip=self.value_clip)
        total, count = policy.total + self.vf_coef * value.total, acted.sum()
        metrics = {
            "policy_loss": policy.total,
            "value_loss": value.total,
            "entropy": entropy.sum(),
            "approx_kl": policy.approx_kl * count,  # the op gives means; the engine wants sums
            "clip_fraction": policy.clip_fraction * count,
            "dual_clip_fraction": policy.dual_clip_fraction * count,
            "value_clip_fraction": value.clip_fraction * count,
        }
        if self.entropy_coef:
            total = total - self.entropy_coef * entropy.sum()
        if self.kl_in == "loss":
            ref_logp = batch.ref_logp[rows].where(acted, 0.0)
            kl = kl_loss(logp, ref_logp, self.kl_estimator, straight_through=self.kl_straight_through)
            metrics["kl_loss"] = (kl * batch.kl_coef[rows].unsqueeze(1)).sum()
            total = total + metrics["kl_loss"]
        scale = 1.0 if self.per == "token" else len(acted) / count.clamp_min(1)
        return Loss(total * scale, {name: x.detach() * scale for name, x in metrics.items()})

    def end_passes(self, metrics: Mapping[str, float]) -> bool:
        """End the passes over a batch once the policy has moved by `target_kl` from the one that sampled it."""
        return self.target_kl is not None and metrics["approx_kl"] > self.target_kl


@hookimpl
def register_methods() -> Iterable[type[MethodSettings]]:
    """Register `ppo`."""
    return [PPO]

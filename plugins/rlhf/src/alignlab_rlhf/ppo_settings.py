"""The settings of PPO; the package's README has a table of them, with what each is from."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from alignlab import MethodSettings, Optimum, Role
from alignlab_rlhf.kl import KLEstimator, KLPlace, kl_warnings

Share = Annotated[float, Field(ge=0, le=1)]


class PPOSettings(MethodSettings):
    """What a recipe may set, checked together."""

    name = "ppo"
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
    kl_in: KLPlace = "reward"
    kl_estimator: KLEstimator = "k1"
    kl_straight_through: bool = True
    """In the loss: the estimator's value with the gradient of the answer's KL."""
    kl_target: PositiveFloat | None = None
    """Adapt kl_coef to this KL, in nats an answer."""
    kl_horizon: PositiveInt = 10000
    """Answers in which the adaptive kl_coef changes by 20% at most."""

    missing_eos_penalty: NonNegativeFloat | None = None
    """Taken from the score of an answer that did not end by itself."""
    normalize_rewards: bool = False
    """Scale scores by the mean and standard deviation of all that the phase has seen."""
    reward_clip: PositiveFloat | None = None
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    gamma: Share = 1.0
    lam: Share = 0.95

    clip_low: Annotated[float, Field(gt=0, le=1)] = 0.2
    clip_high: PositiveFloat = 0.2
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    value_clip: PositiveFloat | None = 0.2
    vf_coef: NonNegativeFloat = 0.1
    entropy_coef: NonNegativeFloat = 0.0
    old_logp: Literal["trainer", "rollout"] = "trainer"
    importance_cap: PositiveFloat | None = None
    """Weight each token by min(p_trainer / p_rollout, this)."""
    target_kl: PositiveFloat | None = None
    """End the passes over a batch when approx_kl exceeds this."""

    critic: Literal["separate", "shared"] = "separate"
    """A model of its own, or a head on the policy's trunk."""
    critic_warmup_steps: NonNegativeInt = 0
    """Train the critic alone in the first steps of the phase."""

    @property
    def roles(self) -> Mapping[str, Role]:  # type: ignore[override]  # they depend on a setting here
        """The policy, its reference, and the critic."""
        trunk = "policy" if self.critic == "shared" else None
        return {"policy": Role(), "ref": Role(train=False), "critic": Role(head="scalar", trunk=trunk)}

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError(
                "has a kl_target and kl_coef 0, which stays 0 whatever it is multiplied by; set it above 0"
            )
        if self.importance_cap is not None and self.old_logp == "rollout":
            raise ValueError("has an importance_cap with old_logp: rollout, whose ratio corrects for the gap already")
        if self.critic_warmup_steps and self.critic == "shared":
            raise ValueError("has critic_warmup_steps with critic: shared, which trains the policy's trunk too")
        return self

    @property
    def optimum(self) -> Optimum | None:
        """E[score] - kl_coef KL, where the penalty has the KL's gradient and nothing else changes the objective."""
        right = self.kl_estimator == "k1" if self.kl_in == "reward" else self.kl_straight_through
        if self.kl_in == "loss":  # whitened advantages are the score's at another scale, which the penalty is not
            right = right and not self.whiten_advantages
        changed = (
            self.per == "row" or self.gamma < 1 or self.entropy_coef or self.kl_target is not None or not self.kl_coef
        )
        rescored = (
            self.normalize_rewards or self.reward_clip or self.whiten_rewards or self.missing_eos_penalty is not None
        )
        return Optimum("kl_regularized", beta="kl_coef") if right and not (changed or rescored) else None

    def warnings(self) -> list[str]:
        """Warn of a KL penalty whose gradient is not that of the KL divergence (PPO.md row 3b)."""
        return kl_warnings(self.kl_in, self.kl_estimator, straight_through=self.kl_straight_through)

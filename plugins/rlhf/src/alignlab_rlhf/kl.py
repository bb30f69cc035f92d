"""The penalty for leaving the reference: its gradient, what is wrong with some settings, and the adaptive coefficient.

Sources: Schulman, "Approximating KL divergence" (2020); Liu et al., 2025 (arXiv 2510.01555), for the gradients; Ziegler
et al., 2019 (arXiv 1909.08593), section 2.2, for the controller.
"""

from typing import Literal

from torch import Tensor

from alignlab import ops

KLEstimator = Literal["k1", "k2", "k3"]
KLPlace = Literal["reward", "loss"]


def kl_loss(logp: Tensor, ref_logp: Tensor, estimator: KLEstimator, *, straight_through: bool) -> Tensor:
    """Return the penalty of each token as a term of the loss; all float [B, T].

    With `straight_through` its value is the estimator's and its gradient k2's, (logp - ref_logp) * grad logp, which on
    the policy's own samples is the gradient of KL(policy || reference).
    """
    value = ops.kl_estimate(logp, ref_logp, kind=estimator)
    if not straight_through:
        return value
    k2 = ops.kl_estimate(logp, ref_logp, kind="k2")
    return value.detach() + (k2 - k2.detach())


def kl_warnings(place: KLPlace, estimator: KLEstimator, *, straight_through: bool) -> list[str]:
    """Return what is wrong with the penalty's gradient; nothing for k1 in the reward, and k2's gradient in the loss."""
    if place == "reward" and estimator != "k1":
        return [f"the gradient of {estimator} in the reward is not that of the KL divergence; k1 has it"]
    if place == "loss" and not straight_through and estimator != "k2":
        wrong = {"k1": "zero in expectation", "k3": "that of KL(reference || policy), the other direction"}[estimator]
        return [f"the gradient of {estimator} in the loss is {wrong}; k2 has the right one, or set kl_straight_through"]
    return []


def adapted(coef: float, kl: float, target: float, *, num_answers: int, horizon: int) -> float:
    """Return the coefficient after a batch of answers whose KL was `kl` nats an answer: up above the target, else down.

    It changes by a factor of at most 1 +- 0.2 * num_answers / horizon.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coef * (1 + error * num_answers / horizon)

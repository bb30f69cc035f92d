"""The penalty for leaving the reference: its gradient, what is wrong with some settings, and the adaptive coefficient.

Sources: Schulman, "Approximating KL divergence" (2020); Liu et al., 2025 (arXiv 2510.01555), for the gradients of one
token; Ziegler et al., 2019 (arXiv 1909.08593), section 2.2, for the controller.
"""

from typing import Literal

from torch import Tensor

from alignlab import ops

KLEstimator = Literal["k1", "k2", "k3"]
KLPlace = Literal["reward", "loss"]


def kl_loss(logp: Tensor, ref_logp: Tensor, estimator: KLEstimator, *, straight_through: bool) -> Tensor:
    """Return the penalty of each token as a term of the loss; all float [B, T], 0 where not acted.

    With `straight_through` its value is the estimator's and its gradient, on the policy's own samples, that of
    KL(policy || reference) of whole answers: grad logp of a token times the log-ratio of the answer from that token on,
    because a token also decides where the later ones are drawn. The gradient of k2 alone has the token's own log-ratio
    there (Tang and Munos, 2025, arXiv 2506.09477, on what that leaves out).
    """
    value = ops.kl_estimate(logp, ref_logp, kind=estimator)
    if not straight_through:
        return value
    log_ratio = (logp - ref_logp).detach()
    from_here_on = log_ratio.flip(-1).cumsum(-1).flip(-1)
    return value.detach() + from_here_on * (logp - logp.detach())


def kl_warnings(place: KLPlace, estimator: KLEstimator, *, straight_through: bool) -> list[str]:
    """Return what is wrong with the penalty's gradient; nothing for k1 in the reward, and straight-through in the loss.

    docs/certification.md shows what each of them reaches.
    """
    if place == "reward" and estimator != "k1":
        return [f"the gradient of {estimator} in the reward is not that of the KL divergence; k1 has it"]
    if place == "loss" and not straight_through:
        wrong = {
            "k1": "zero in expectation",
            "k2": "that of each token's KL alone: it does not see that a token changes the KL of those after it",
            "k3": "that of KL(reference || policy), the other direction, of each token alone",
        }[estimator]
        return [f"the gradient of {estimator} in the loss is {wrong}; set kl_straight_through"]
    return []


def adapted(coef: float, kl: float, target: float, *, num_answers: int, horizon: int) -> float:
    """Return the coefficient after a batch of answers whose KL was `kl` nats an answer: up above the target, else down.

    It changes by a factor of at most 1 +- 0.2 * num_answers / horizon.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coef * (1 + error * num_answers / horizon)

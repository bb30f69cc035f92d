"""Where the losses end, by theory: the policies that minimise them over all pairs, with exact soft labels.

Pairs are two independent draws from the reference; P(y) is the probability that y is better than another draw, and
g(y) = log policy(y) - log reference(y).
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from alignlab import Optimum, Tabular

Target = Callable[[Tabular], Tensor]


def optimum_of(loss_type: str, beta: float, label_smoothing: float) -> Optimum | None:
    """Return what one loss promises, or None where there is no closed form."""
    if loss_type in ("sigmoid", "robust") and label_smoothing == 0:
        return Optimum("kl_regularized", beta="beta")
    if loss_type == "exo_pair" and label_smoothing <= 1e-3:
        return Optimum(
            "kl_regularized", beta="beta", why="up to its label smoothing, which the target cannot be without"
        )
    if loss_type == "ipo":
        why = "proportional to pi_ref exp(P(better than a draw of the reference) / beta)"
        return Optimum(partial(ipo, keeps=1 - 2 * label_smoothing), beta="beta", why=why)
    return None


def wins(world: Tabular) -> Tensor:
    """Return P(y), float64 [P, A]."""
    return (world.preferences @ world.ref_logp.exp().unsqueeze(-1)).squeeze(-1)


def ipo(world: Tabular, *, keeps: float) -> Tensor:
    """Return log pi*, proportional to pi_ref exp(P / beta).

    The expected loss of a pair is (g - g' - (p - 1/2) / beta)^2 and a constant: a least-squares fit of differences to
    an antisymmetric table, whose solution is the table's row means, P / beta up to a constant. Label smoothing makes
    p - 1/2 smaller by `keeps`. Source: Azar et al., 2023 (arXiv 2310.12036), theorem 1.
    """
    return (world.ref_logp + keeps * wins(world) / world.beta).log_softmax(-1)

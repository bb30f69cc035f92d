"""kl_estimate in plain torch."""

from torch import Tensor

from alignlab.ops.reference.wide import wide


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: str = "k1") -> Tensor:
    """See `alignlab.ops.kl_estimate`."""
    log_ratio = wide(logp) - wide(ref_logp)
    if kind == "k1":
        return log_ratio
    if kind == "k2":
        return log_ratio.square() / 2
    # Clamped before exp: clamping its inf afterwards leaves a NaN gradient.
    log_ratio = log_ratio.clamp(-20, 20)
    return (-log_ratio).expm1() + log_ratio

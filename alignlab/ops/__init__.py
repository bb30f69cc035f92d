"""The numerical ops: pure functions of tensors, each in a reference form and, where it is built, a native one.

Any floating dtype goes in; sums run in fp32 (fp64 stays fp64), and so do the results. Non-contiguous and empty inputs,
fully masked rows and -inf logits are legal. `backend` is "auto" (native where it is built for the tensors' device and
dtype, else reference), "reference", "native", or the name of a registered kernel.

This package imports torch and nothing else of alignlab or of its dependencies.
"""

from alignlab.ops._native import build_facts
from alignlab.ops._registry import OPS, Kernel, fallbacks, implementations, register, use_backend
from alignlab.ops.gae import gae
from alignlab.ops.kl_divergence import kl_divergence
from alignlab.ops.kl_estimate import kl_estimate
from alignlab.ops.linear_logp import linear_logp
from alignlab.ops.masked_whiten import masked_whiten
from alignlab.ops.ppo_policy_loss import ppo_policy_loss
from alignlab.ops.ppo_value_loss import ppo_value_loss
from alignlab.ops.reference.ppo_policy_loss import PolicyLoss
from alignlab.ops.reference.ppo_value_loss import ValueLoss
from alignlab.ops.token_logp import token_logp

__all__ = [
    "OPS",
    "Kernel",
    "PolicyLoss",
    "ValueLoss",
    "build_facts",
    "fallbacks",
    "gae",
    "implementations",
    "kl_divergence",
    "kl_estimate",
    "linear_logp",
    "masked_whiten",
    "ppo_policy_loss",
    "ppo_value_loss",
    "register",
    "token_logp",
    "use_backend",
]

"""Which kernels there are for an op, and which of them serves a call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignlab.ops import _native

OPS = (
    "token_logp",
    "linear_logp",
    "kl_divergence",
    "kl_estimate",
    "gae",
    "masked_whiten",
    "ppo_policy_loss",
    "ppo_value_loss",
)
"""The names of the ops."""


def _everything(tensor: Tensor) -> bool:
    return True


@dataclass(frozen=True)
class Kernel:
    """One implementation of an op, under a name that `backend` can ask for.

    `function` takes what the op takes, without `backend`. `supports` is asked with the op's first tensor, and looks at
    its device and dtype.
    """

    op: str
    name: str
    function: Callable[..., Any]
    supports: Callable[[Tensor], bool] = _everything


_kernels: dict[str, dict[str, Kernel]] = {op: {} for op in OPS}


def register(kernel: Kernel) -> None:
    """Add a kernel. Raises ValueError when there is no such op, or when the name is taken."""
    kernels = _of(kernel.op)
    if kernel.name in ("auto", *kernels):
        raise ValueError(f"{kernel.op} has a backend {kernel.name!r} already")
    kernels[kernel.name] = kernel


def implementations(op: str) -> tuple[str, ...]:
    """Return the names of an op's kernels, reference first. Raises ValueError when there is no such op."""
    return tuple(_of(op))


def dispatch(op: str, backend: str, tensor: Tensor) -> Callable[..., Any]:
    """Return the function that serves a call whose first tensor is `tensor`.

    Raises ValueError when `backend` names no kernel of the op, or one that does not serve this device and dtype.
    """
    kernels = _kernels[op]
    if backend == "auto":
        native = kernels.get("native")
        if native is not None and native.supports(tensor):
            return native.function
        if native is None and op in _native.OPS and not torch.compiler.is_compiling():
            _native.say_missing()
        return kernels["reference"].function
    if backend not in kernels:
        why = f" ({_native.missing})" if backend == "native" and op in _native.OPS else ""
        raise ValueError(f"{op} has no backend {backend!r}{why}; there are {', '.join(['auto', *kernels])}")
    kernel = kernels[backend]
    if not kernel.supports(tensor):
        raise ValueError(f"backend {backend!r} of {op} does not serve {tensor.dtype} on {tensor.device.type}")
    return kernel.function


def _of(op: str) -> dict[str, Kernel]:
    if op not in _kernels:
        raise ValueError(f"there is no op {op!r}; there are {', '.join(OPS)}")
    return _kernels[op]

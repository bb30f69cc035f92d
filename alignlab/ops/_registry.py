"""Which kernels there are for an op, and which of them serves a call."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    `function` takes what the op takes, without `backend`. `supports` is asked with each of the op's floating tensors,
    and looks at its device and dtype.
    """

    op: str
    name: str
    function: Callable[..., Any]
    supports: Callable[[Tensor], bool] = _everything


_kernels: dict[str, dict[str, Kernel]] = {op: {} for op in OPS}
_default = "auto"
_fallbacks: Counter[tuple[str, str]] = Counter()


def register(kernel: Kernel) -> None:
    """Add a kernel. Raises ValueError when there is no such op, or when the name is taken."""
    kernels = _of(kernel.op)
    if kernel.name in ("auto", *kernels):
        raise ValueError(f"{kernel.op} has a backend {kernel.name!r} already")
    kernels[kernel.name] = kernel


def implementations(op: str) -> tuple[str, ...]:
    """Return the names of an op's kernels, reference first. Raises ValueError when there is no such op."""
    return tuple(_of(op))


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Let calls that leave `backend` at "auto" take this one, in the whole process, until the block ends.

    An op that has no backend of that name stays at "auto". Raises ValueError when no op has one.
    """
    global _default
    if name != "auto" and not any(name in kernels for kernels in _kernels.values()):
        why = f": {_native.missing}" if name == "native" else ""
        raise ValueError(f"no op has a backend {name!r}{why}")
    before, _default = _default, name
    try:
        yield
    finally:
        _default = before


def fallbacks() -> dict[tuple[str, str], int]:
    """Return how often the reference served where native was looked for, by op and reason; fp64 is not counted."""
    return dict(_fallbacks)


def dispatch(op: str, backend: str, *tensors: Tensor) -> Callable[..., Any]:
    """Return the function that serves a call with these floating tensors.

    Raises ValueError when `backend` names no kernel of the op, or one that does not serve a tensor's device and dtype.
    """
    kernels = _kernels[op]
    if backend == "auto" and _default in kernels:
        backend = _default
    if backend == "auto":
        native = kernels.get("native")
        if native is not None and all(native.supports(tensor) for tensor in tensors):
            return native.function
        _count_fallback(op, tensors)
        return kernels["reference"].function
    if backend not in kernels:
        why = f" ({_native.missing})" if backend == "native" and _native.missing else ""
        raise ValueError(f"{op} has no backend {backend!r}{why}; there are {', '.join(['auto', *kernels])}")
    kernel = kernels[backend]
    for tensor in tensors:
        if not kernel.supports(tensor):
            raise ValueError(f"backend {backend!r} of {op} does not serve {tensor.dtype} on {tensor.device.type}")
    return kernel.function


def _count_fallback(op: str, tensors: tuple[Tensor, ...]) -> None:
    """Count a call that the reference serves for want of a native kernel, and say it the first time."""
    if torch.compiler.is_compiling() or any(tensor.dtype == torch.float64 for tensor in tensors):
        return  # fp64 is the reference's, as documented
    if _native.missing is not None:
        _native.say_missing()
        _fallbacks[op, "not built"] += 1
        return
    reason = ", ".join(sorted({f"{tensor.dtype} on {tensor.device.type}" for tensor in tensors}))
    if not _fallbacks[op, reason]:
        logging.getLogger("alignlab.ops").warning("%s: the reference serves %s, native does not", op, reason)
    _fallbacks[op, reason] += 1


def _of(op: str) -> dict[str, Kernel]:
    if op not in _kernels:
        raise ValueError(f"there is no op {op!r}; there are {', '.join(OPS)}")
    return _kernels[op]

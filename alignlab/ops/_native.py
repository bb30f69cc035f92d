"""The C++ extension: whether it is here, why not, and what torch has to know of its ops beyond the kernels."""

import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

OPS = ("gae",)
"""The ops that csrc/ has kernels for."""

_BUILD = "to build it, have a C++ compiler and torch, and install alignlab with pip's --no-build-isolation"


def _load() -> str | None:
    """Import the extension, which registers its ops with torch. Return why that cannot be, or None."""
    if find_spec("alignlab._C") is None:
        return f"alignlab was installed without its C++ extension: the reference ops serve ({_BUILD})"
    try:
        import alignlab._C  # noqa: F401
    except ImportError as error:
        return f"alignlab's C++ extension does not load ({error}): the reference ops serve ({_BUILD})"
    return None


missing = _load()
"""Why there are no native kernels, and what to do; None where they are loaded."""


@cache
def say_missing() -> None:
    """Say why the reference serves, once a process."""
    logging.getLogger("alignlab.ops").warning("%s", missing)


def build_facts() -> dict[str, str]:
    """Return how the native kernels were built: compiler, flags, torch; or why there are none."""
    if missing is not None:
        return {"native": missing}
    from alignlab import _C

    return _C.build_facts()


def _fake_gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    like = rewards.new_empty(rewards.shape, dtype=torch.promote_types(rewards.dtype, torch.float32))
    return like, torch.empty_like(like)


if missing is None:
    torch.library.register_fake("alignlab::gae", _fake_gae)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Run csrc/cpu/gae.cpp."""
    dtype = torch.promote_types(rewards.dtype, values.dtype)
    advantages, returns = torch.ops.alignlab.gae(rewards.to(dtype), values.to(dtype), mask, gamma, lam)
    return advantages, returns


def serves_cpu(tensor: Tensor) -> bool:
    """Return True for the tensors that the CPU kernels take."""
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    return tensor.device.type == "cpu" and tensor.dtype in dtypes

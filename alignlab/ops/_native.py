"""The C++ extension: whether it is here, why not, and which tensors its kernels serve."""

import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import torch
from torch import Tensor

from alignlab.ops import _extension

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What the native kernels take. fp64 is the reference's: it is what tests take for the truth."""

_BUILD = "to build it, have torch, ninja and a C++ compiler, and run `alignlab kernels build`"
_DEVICES = {"cpu": "CPU", "cuda": "CUDA"}  # torch's device types, and their dispatch keys


def _load() -> str | None:
    """Import the extension, which registers its ops with torch. Return why that cannot be, or None.

    $ALIGNLAB_KERNELS names a library to take instead of the installed one (a sanitizer's build, say). Where the
    installed package has none, what `alignlab kernels build` compiled is taken.
    """
    asked = os.environ.get("ALIGNLAB_KERNELS")
    built = Path(asked) if asked else None
    if built is None and importlib.util.find_spec("alignlab._C") is None:
        built = _extension.find_built()
        if built is None:
            return f"alignlab was installed without its C++ extension: the reference ops serve ({_BUILD})"
    try:
        if built is not None:
            _import(built)
        import alignlab._C  # noqa: F401
    except ImportError as error:
        return f"alignlab's C++ extension does not load ({error}): the reference ops serve ({_BUILD})"
    return None


def _import(path: Path) -> None:
    loader = ExtensionFileLoader("alignlab._C", str(path))
    spec = importlib.util.spec_from_file_location("alignlab._C", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules["alignlab._C"] = module


missing = _load()
"""Why there are no native kernels, and what to do; None where they are loaded."""


@cache
def say_missing() -> None:
    """Say why the reference serves, once a process."""
    logging.getLogger("alignlab.ops").warning("%s", missing)


def build_facts() -> dict[str, str]:
    """Return how the native kernels were built and what of them this processor runs; or why there are none."""
    if missing is not None:
        return {"native": missing}
    from alignlab import _C

    return _C.build_facts()


def devices(op: str) -> tuple[str, ...]:
    """Return the device types that the extension has a kernel of an op for."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return tuple(device for device, key in _DEVICES.items() if has(f"alignlab::{op}", key))


def serves(op: str) -> Callable[[Tensor], bool]:
    """Return what says whether the native kernel of an op takes a tensor: built for its device, and for its dtype."""
    built_for = devices(op)

    def supports(tensor: Tensor) -> bool:
        return tensor.device.type in built_for and tensor.dtype in DTYPES

    return supports

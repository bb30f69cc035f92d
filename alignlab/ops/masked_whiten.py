"""Whitening over the elements that a mask keeps."""

from typing import Any

import torch
from torch import Tensor

from alignlab.ops import _checks, _native
from alignlab.ops._registry import Kernel, dispatch, register
from alignlab.ops.reference import masked_whiten as _reference


def masked_whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True, backend: str = "auto") -> Tensor:
    """Scale the elements that the mask keeps to variance 1 and, with `shift_mean`, to mean 0.

    Both [...], and so is the result, which is 0 where masked. The variance is the population's, over all kept elements
    together; 1e-8 is added to it, so that one kept element (or equal ones) stays finite. Raises ValueError for shapes
    that differ.
    """
    _checks.floating(x=x)
    _checks.same_shape("x", x, mask=mask)
    _checks.same_device(x=x, mask=mask)
    result: Tensor = dispatch("masked_whiten", backend, x)(x, mask.bool(), shift_mean=shift_mean)
    return result


def _native_masked_whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    whitened: Tensor = torch.ops.alignlab.masked_whiten(x, mask, shift_mean)[0]
    return whitened


def _fake(x: Tensor, mask: Tensor, shift_mean: bool) -> tuple[Tensor, Tensor, Tensor]:
    whitened = x.new_empty(x.shape, dtype=torch.float32)
    return whitened, whitened.new_empty(()), whitened.new_empty(())


def _fake_backward(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float32)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, mask, ctx.shift_mean = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(x, mask, *output[1:])


def _backward(ctx: Any, grad: Tensor, *rest: Any) -> tuple[Tensor, None, None]:
    x = ctx.saved_tensors[0]
    gradient = torch.ops.alignlab.masked_whiten_backward(grad, *ctx.saved_tensors, ctx.shift_mean)
    return gradient.to(x.dtype), None, None


register(Kernel("masked_whiten", "reference", _reference.masked_whiten))
if _native.missing is None:
    register(Kernel("masked_whiten", "native", _native_masked_whiten, _native.serves("masked_whiten")))
    torch.library.register_fake("alignlab::masked_whiten", _fake)
    torch.library.register_fake("alignlab::masked_whiten_backward", _fake_backward)
    torch.library.register_autograd("alignlab::masked_whiten", _backward, setup_context=_setup)

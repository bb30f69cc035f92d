"""Whitening over the elements that a mask keeps."""

from torch import Tensor

from alignlab.ops import _checks
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
    result: Tensor = dispatch("masked_whiten", backend, x)(x, mask.bool(), shift_mean=shift_mean)
    return result


register(Kernel("masked_whiten", "reference", _reference.masked_whiten))

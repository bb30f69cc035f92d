"""The C++ extension itself: what torch is told of its ops, and its own checks."""

import pytest
import torch

from alignlab import ops

pytestmark = pytest.mark.skipif("native" not in ops.implementations("gae"), reason="alignlab was built without csrc/")


def test_gae_passes_opcheck():
    mask = torch.rand(3, 5) < 0.7
    for dtype in (torch.float32, torch.bfloat16):
        rewards, values = torch.randn(2, 3, 5).to(dtype)
        torch.library.opcheck(torch.ops.alignlab.gae.default, (rewards, values, mask, 0.9, 0.95))


def test_the_kernels_own_checks_say_the_shape_that_came():
    ones, mask = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(RuntimeError, match=r"values wants the shape of rewards, \[2, 3\], got \[2, 2\]"):
        torch.ops.alignlab.gae(ones, ones[:, 1:], mask, 1.0, 1.0)
    with pytest.raises(RuntimeError, match="mask wants dtype bool"):
        torch.ops.alignlab.gae(ones, ones, ones, 1.0, 1.0)
    with pytest.raises(RuntimeError, match="rewards wants dtype float32, bfloat16 or float16"):
        torch.ops.alignlab.gae(mask, mask, mask, 1.0, 1.0)


def test_build_facts_name_compiler_flags_and_torch():
    facts = ops.build_facts()
    assert {"compiler", "flags", "torch"} <= facts.keys()
    assert facts["cpu capability"] in ("baseline", "avx2", "avx512")
    assert "march" not in facts["flags"]

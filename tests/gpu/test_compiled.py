"""The CUDA sources compile where there is nvcc, for sm_80 and sm_90, with our own warnings as errors."""

import pytest

from alignlab.ops import build

from .compiled import compile_kernels, kernels_of

LOG = """
ptxas info    : Compiling entry function '_ZN8alignlab4cuda3addIfEEvPf' for 'sm_90'
ptxas info    : Function properties for _ZN8alignlab4cuda3addIfEEvPf
    8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 8 bytes cumulative stack size, 792 bytes smem
"""


def test_what_ptxas_says_is_understood():
    (kernel,) = kernels_of(LOG)
    assert (kernel.architecture, kernel.registers, kernel.shared_bytes, kernel.spilled_bytes) == ("sm_90", 48, 792, 20)
    assert "add" in kernel.name


@pytest.mark.skipif(
    build.cuda_home() is None or build.missing_tools() is not None, reason="there is no nvcc with CUDA's headers"
)
def test_every_kernel_compiles_and_none_spills_registers(monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0")
    kernels = compile_kernels()
    assert {kernel.architecture for kernel in kernels} == {"sm_80", "sm_90"}
    assert len(kernels) > 50
    assert [kernel for kernel in kernels if kernel.spilled_bytes > 0] == []

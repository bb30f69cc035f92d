import pytest
import torch

from alignlab import ops

ON_HOST = ops.build_facts().get("cpu capability") == "CUDA's kernels on a CPU"
HAS_GPU = torch.cuda.is_available()


@pytest.fixture
def device():
    """Where CUDA's kernels run: on a GPU, or on this CPU in the process that test_on_host.py starts."""
    if HAS_GPU:
        if "native" not in ops.implementations("gae") or not torch._C._dispatch_has_kernel_for_dispatch_key(
            "alignlab::gae", "CUDA"
        ):
            pytest.fail("there is a GPU, but the kernels were not built for it: make gpu")
        return "cuda"
    if ON_HOST:
        return "cpu"
    pytest.skip("there is no GPU")


@pytest.fixture
def gpu():
    """A GPU, and nothing else."""
    if not HAS_GPU:
        pytest.skip("there is no GPU")
    return "cuda"

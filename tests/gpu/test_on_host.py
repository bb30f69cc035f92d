"""CUDA's kernels where there is no GPU: compiled for the CPU, with fibers for threads (on_host/threads.h)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alignlab.ops import build

from .on_host import build_on_host

HERE = Path(__file__).resolve().parent

pytestmark = [
    pytest.mark.skipif(build.missing_tools() is not None, reason=str(build.missing_tools())),
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
    pytest.mark.skipif("ALIGNLAB_KERNELS" in os.environ, reason="these are other kernels already"),
]


def test_the_kernels_pass_their_tests_in_whatever_order_threads_run():
    environment = os.environ | {"ALIGNLAB_KERNELS": str(build_on_host())}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", str(HERE / "test_kernels.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout

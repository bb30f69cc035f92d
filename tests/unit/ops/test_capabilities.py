"""The loops of every instruction set that this processor has, each in a process of its own."""

import os
import subprocess
import sys

import pytest

from alignlab import ops

pytestmark = pytest.mark.skipif("native" not in ops.implementations("gae"), reason="alignlab was built without csrc/")

CHECK = """
import torch
from alignlab import ops
from alignlab.testing.op_cases import cases
from alignlab.testing.ops import DTYPES, _to, compare_op
torch.set_num_threads(1)
for op in ops.OPS:
    for case in cases(op):
        for dtype in DTYPES:
            compare_op(op, "native", _to(case.inputs, dtype, "cpu"), case.settings, case.grads)
print(ops.build_facts()["cpu capability"])
"""


@pytest.mark.parametrize("capability", ["baseline", "avx2"])
def test_an_older_processor_gets_the_same_results(capability):
    environment = os.environ | {"ALIGNLAB_CPU_CAPABILITY": capability}
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in (capability, "baseline")

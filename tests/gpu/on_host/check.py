"""What test_on_host.py runs in a process of its own: the conformance kit, on CUDA's kernels built for this CPU."""

import sys

import torch

from alignlab import ops
from alignlab.testing.ops import check_op

assert ops.build_facts()["cpu capability"] == "CUDA's kernels on a CPU"
torch.set_num_threads(1)
for op in sys.argv[1:]:
    check_op(op, "native")

import json
import subprocess
import sys

import pytest
import torch

from alignlab import ops

WITHOUT_EXTENSION = """
import importlib.util, sys
sys.modules["alignlab._C"] = None                    # find_spec and import then behave as if it were not there
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "alignlab._C" else real(name, *rest)
import torch
from alignlab import ops
ones, mask = torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool)
for _ in range(3):
    print(ops.gae(ones, ones * 0, mask, lam=1.0)[0].tolist())
try:
    ops.gae(ones, ones, mask, backend="native")
except ValueError as error:
    print(error)
print(ops.implementations("gae"))
"""


def test_every_op_has_a_reference():
    assert {op for op in ops.OPS if ops.implementations(op)[0] == "reference"} == set(ops.OPS)
    assert all(callable(getattr(ops, op)) for op in ops.OPS)


def test_an_unknown_backend_says_what_there_is():
    with pytest.raises(ValueError, match="kl_estimate has no backend 'trition'; there are auto, reference"):
        ops.kl_estimate(torch.zeros(1), torch.zeros(1), backend="trition")


def test_an_unknown_op_says_what_there_is():
    with pytest.raises(ValueError, match="there is no op 'gea'; there are token_logp, linear_logp"):
        ops.implementations("gea")


def test_a_registered_kernel_serves_by_name_where_it_says_it_does(monkeypatch):
    monkeypatch.setattr("alignlab.ops._registry._kernels", {op: {} for op in ops.OPS})

    def flat(x, mask, *, shift_mean):
        return torch.full_like(x, 7.0)

    ops.register(ops.Kernel("masked_whiten", "flat", flat, lambda x: x.dtype == torch.float32))
    x, mask = torch.zeros(3), torch.ones(3, dtype=torch.bool)
    assert ops.implementations("masked_whiten") == ("flat",)
    assert ops.masked_whiten(x, mask, backend="flat").tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match=r"backend 'flat' of masked_whiten does not serve torch.float64 on cpu"):
        ops.masked_whiten(x.double(), mask, backend="flat")
    with pytest.raises(ValueError, match="masked_whiten has a backend 'flat' already"):
        ops.register(ops.Kernel("masked_whiten", "flat", flat))


def test_without_the_extension_the_reference_serves_and_says_so_once():
    run = subprocess.run([sys.executable, "-c", WITHOUT_EXTENSION], capture_output=True, text=True, check=True)
    values, native, names = run.stdout.splitlines()[:3], *run.stdout.splitlines()[3:]
    assert values == ["[[3.0, 2.0, 1.0]]"] * 3
    assert "gae has no backend 'native' (alignlab was installed without its C++ extension" in native
    assert names == "('reference',)"
    assert run.stderr.count("installed without its C++ extension") == 1
    assert "--no-build-isolation" in run.stderr


def test_ops_need_nothing_but_torch():
    wanted = {"transformers", "datasets", "pydantic", "yaml", "rich", "pluggy", "tokenizers"}
    code = f"import alignlab.ops, json, sys; print(json.dumps(sorted({wanted!r} & sys.modules.keys())))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []

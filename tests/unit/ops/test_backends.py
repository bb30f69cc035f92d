import json
import logging
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch

from alignlab import ops

native = pytest.mark.skipif("native" not in ops.implementations("gae"), reason="alignlab was built without csrc/")

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
print(ops.implementations("gae"), ops.fallbacks())
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


def test_without_the_extension_the_reference_serves_and_says_so_once(tmp_path):
    environment = os.environ | {"ALIGNLAB_CACHE": str(tmp_path)}  # where nothing was built
    command = [sys.executable, "-c", WITHOUT_EXTENSION]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    values, native, names = run.stdout.splitlines()[:3], *run.stdout.splitlines()[3:]
    assert values == ["[[3.0, 2.0, 1.0]]"] * 3
    assert "gae has no backend 'native' (alignlab was installed without its C++ extension" in native
    assert names == "('reference',) {('gae', 'not built'): 3}"
    assert run.stderr.count("installed without its C++ extension") == 1
    assert "alignlab kernels build" in run.stderr


@native
def test_auto_is_native_where_it_serves_and_reference_for_fp64_without_a_word(caplog):
    before = ops.fallbacks()
    logits, tokens = torch.randn(2, 9), torch.tensor([0, 8])
    assert ops.token_logp(logits.requires_grad_(), tokens).grad_fn.name() != "SqueezeBackward1"
    assert ops.token_logp(logits.double(), tokens).dtype == torch.float64
    assert ops.fallbacks() == before
    with pytest.raises(ValueError, match=r"backend 'native' of token_logp does not serve torch.float64 on cpu"):
        ops.token_logp(logits.double(), tokens, backend="native")


@native
def test_a_fallback_is_counted_and_said_once(caplog, monkeypatch):
    monkeypatch.setattr("alignlab.ops._registry._fallbacks", Counter())
    logits, tokens = torch.randn(2, 9, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")
    with caplog.at_level(logging.WARNING, "alignlab.ops"):
        for _ in range(3):
            ops.token_logp(logits, tokens)
    assert ops.fallbacks() == {("token_logp", "torch.float32 on meta"): 3}
    assert [r.getMessage() for r in caplog.records] == [
        "token_logp: the reference serves torch.float32 on meta, native does not"
    ]


@native
def test_use_backend_sets_what_auto_means_and_no_more():
    logits, tokens = torch.randn(2, 9, requires_grad=True), torch.tensor([0, 8])
    with ops.use_backend("reference"):
        assert ops.token_logp(logits, tokens).grad_fn.name() == "SqueezeBackward1"
        assert ops.token_logp(logits, tokens, backend="native").grad_fn.name() != "SqueezeBackward1"
    assert ops.token_logp(logits, tokens).grad_fn.name() != "SqueezeBackward1"
    with pytest.raises(ValueError, match="no op has a backend 'trition'"), ops.use_backend("trition"):
        pass


def test_ops_need_nothing_but_torch():
    wanted = {"transformers", "datasets", "pydantic", "yaml", "rich", "pluggy", "tokenizers"}
    code = f"import alignlab.ops, json, sys; print(json.dumps(sorted({wanted!r} & sys.modules.keys())))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []

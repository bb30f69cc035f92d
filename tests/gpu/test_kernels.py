"""CUDA's kernels: what they do differently from the CPU's. On a GPU, or on the CPU (test_on_host.py)."""

import math

import pytest
import torch

from alignlab import ops
from alignlab.testing.ops import DTYPES, check_op, compare_op

INF = torch.inf


@pytest.mark.parametrize("op", ops.OPS)
def test_every_op_conforms(op, device):
    check_op(op, "native", device=device)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_length_and_place_are_read_and_written_whole(dtype, device):
    for length in (1, 3, 8, 31, 517):
        for start in range(9):
            wide = torch.randn(3, length + 11, device=device).to(dtype)
            logits, other = wide[:, start : start + length], wide[:, 2 : 2 + length] * 0.7
            tokens = torch.tensor([0, length // 2, length - 1], device=device)
            compare_op("token_logp", "native", (logits, tokens), {"entropy": True}, (0,))
            compare_op("kl_divergence", "native", (logits, other), {}, (0, 1))


def test_a_backward_in_place_writes_the_rows_and_nothing_between_them(device):
    wide = torch.randn(3, 50, device=device)
    before, tokens = wide.clone(), torch.tensor([0, 20, 36], device=device)
    logits = wide[:, 5:42]
    _, _, largest, log_sum = torch.ops.alignlab.token_logp(logits, tokens, 1.0, False)
    gradient = torch.ops.alignlab.token_logp_backward(
        logits, tokens, largest, log_sum, log_sum, torch.ones(3, device=device), None, 1.0
    )
    torch.ops.alignlab.token_logp_backward_(
        logits, tokens, largest, log_sum, log_sum, torch.ones(3, device=device), None, 1.0
    )
    assert torch.equal(logits, gradient)
    assert torch.equal(wide[:, :5], before[:, :5])
    assert torch.equal(wide[:, 42:], before[:, 42:])


@pytest.mark.parametrize("token", [-1, 13, 2**40, -(2**40)])
def test_a_token_outside_of_the_vocabulary_makes_its_row_nan_and_no_other(token, device):
    logits = torch.randn(3, 13, device=device, requires_grad=True)
    tokens = torch.tensor([4, token, 12], device=device)
    logp = ops.token_logp(logits, tokens, backend="native")
    logp.sum().backward()
    assert logp.isnan().tolist() == [False, True, False]
    assert logits.grad.isnan().all(-1).tolist() == [False, True, False]
    hidden, weight = torch.randn(3, 4, device=device), torch.randn(13, 4, device=device)
    hidden.requires_grad_()
    logp = ops.linear_logp(hidden, weight, tokens, backend="native")
    logp.sum().backward()
    assert logp.isnan().tolist() == [False, True, False]
    assert hidden.grad.isnan().all(-1).tolist() == [False, True, False]


def test_what_p_turns_out_to_have_no_share_in_adds_nothing_wherever_it_stands(device):
    # Every thread sees -300 first, with q at -inf: an infinite sum, of which a factor of 0 must not make NaN.
    p, q = torch.full((1, 9000), -300.0, device=device), torch.zeros(1, 9000, device=device)
    q[:, :4500] = -INF
    p[:, 8000:] = 0
    for first, second in ((p, q), (p.flip(-1), q.flip(-1))):
        kl = ops.kl_divergence(first, second, backend="native").item()
        assert kl == pytest.approx(math.log(4500 / 1000), rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 255), (9, 257), (3, 513), (2, 2048), (2, 4097), (3, 20000), (512, 4100)])
def test_gae_scans_rows_of_every_length(shape, device):
    torch.manual_seed(0)
    rewards, values = torch.randn(2, *shape, device=device)
    mask = torch.rand(shape, device=device) < 0.8
    mask[:, shape[1] // 2 :] &= torch.rand(shape[0], 1, device=device) < 0.5  # some rows end in padding
    compare_op("gae", "native", (rewards, values, mask), {"gamma": 0.99, "lam": 0.9})


@pytest.mark.parametrize("op", ["kl_estimate", "masked_whiten", "ppo_policy_loss", "ppo_value_loss"])
def test_more_elements_than_the_grid_has_threads_are_all_counted(op, device):
    torch.manual_seed(0)
    shape = (3, 700_003)  # 2,097,152 are one turn
    columns = list(torch.randn(3, *shape, device=device) * 0.3)
    mask = torch.rand(shape, device=device) < 0.6
    inputs = {"kl_estimate": columns[:2], "masked_whiten": [columns[0] + 3, mask]}.get(op, [*columns, mask])
    grads = (0, 1) if op == "kl_estimate" else (0,)
    compare_op(op, "native", [x[:, 1:-1] for x in inputs], {}, grads)

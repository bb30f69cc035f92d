"""What only a GPU can show: streams, graphs, devices, and sizes."""

import pytest
import torch

from alignlab import ops
from alignlab.testing.op_cases import cases
from alignlab.testing.ops import compare_op


def first_case(op, device):
    case = next(cases(op))
    return [x.to(device) for x in case.inputs], case.settings


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


def need(gigabytes):
    free = torch.cuda.mem_get_info()[0]
    if free < gigabytes * 2**30:
        pytest.skip(f"this takes {gigabytes} GiB, and {free / 2**30:.1f} are free")


@pytest.mark.parametrize("op", ops.OPS)
def test_an_op_is_captured_in_a_graph_and_its_replay_gives_the_same_bits(op, gpu):
    inputs, settings = first_case(op, gpu)
    function = getattr(ops, op)
    eager = tensors(function(*inputs, **settings, backend="native"))
    static = [x.clone() for x in inputs]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        function(*static, **settings, backend="native")  # what libraries set up at their first call
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = tensors(function(*static, **settings, backend="native"))
    for x in captured:
        x.fill_(-1)
    graph.replay()
    torch.cuda.synchronize()
    for x, wanted in zip(captured, eager, strict=True):
        assert torch.equal(x, wanted)


def test_forward_and_backward_run_on_the_callers_stream(gpu):
    logits = torch.zeros(64, 50257, device=gpu)
    tokens = torch.arange(64, device=gpu)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(100_000_000)  # a kernel on another stream would read the zeros
        logits[:, 7] = 50.0
        logits.requires_grad_()
        logp = ops.token_logp(logits, tokens, backend="native")
        logp.sum().backward()
        gradient = logits.grad.clone()
    side.synchronize()
    assert logp[7].item() == pytest.approx(0, abs=1e-4)
    assert logp[8].item() == pytest.approx(-50, abs=1e-4)
    assert gradient[8, 7].item() == pytest.approx(-1, abs=1e-4)


def test_the_device_of_the_tensors_is_used_and_not_the_current_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("there are no two GPUs")
    x, mask = torch.randn(3, 5, device="cuda:1"), torch.ones(3, 5, dtype=torch.bool, device="cuda:1")
    whitened = ops.masked_whiten(x, mask, backend="native")
    assert whitened.device == x.device
    torch.testing.assert_close(whitened, ops.masked_whiten(x, mask, backend="reference"))
    assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("num_rows", [65_535, 65_536, 200_000])
def test_more_rows_than_a_grid_is_high(num_rows, gpu):
    logits = torch.randn(num_rows, 5, device=gpu)
    tokens = torch.randint(5, (num_rows,), device=gpu)
    compare_op("token_logp", "native", (logits, tokens), {"entropy": True}, (0,))
    compare_op("kl_divergence", "native", (logits, logits.flip(0)), {}, (0, 1))
    mask = torch.rand(num_rows, 5, device=gpu) < 0.7
    compare_op("gae", "native", (logits, logits.flip(0), mask))


def test_logits_of_more_than_2_31_elements(gpu):
    need(14)  # 4.3 GiB, twice for the gradient, and the reference of a few rows
    num_rows, vocab = 2**31 // 50257 + 8, 50257
    logits = torch.zeros(num_rows, vocab, dtype=torch.bfloat16, device=gpu)
    for part in logits.split(4096):
        part.normal_()
    tokens = torch.randint(vocab, (num_rows,), device=gpu)
    logits.requires_grad_()
    logp, entropy = ops.token_logp(logits, tokens, entropy=True, backend="native")
    (logp + entropy).sum().backward()
    last = logits.detach()[-4:].double().requires_grad_()
    true_logp, true_entropy = ops.token_logp(last, tokens[-4:], entropy=True, backend="reference")
    (true_logp + true_entropy).sum().backward()
    torch.testing.assert_close(logp[-4:].double(), true_logp, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(entropy[-4:].double(), true_entropy, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(logits.grad[-4:].double(), last.grad, atol=1e-6, rtol=2**-8)


def test_elements_of_more_than_2_31(gpu):
    need(30)
    shape = (3, 2**30 + 5)
    x = torch.ones(shape, dtype=torch.float16, device=gpu)
    x[-1, -1] = 3
    mask = torch.ones(shape, dtype=torch.bool, device=gpu)
    mask[0] = mask[1] = False
    mask[2, :-2] = False
    whitened = ops.masked_whiten(x, mask, backend="native")
    assert whitened[-1, -2:].tolist() == pytest.approx([-1, 1])
    assert whitened[-1, :4].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("op", ["token_logp", "kl_divergence", "ppo_policy_loss", "ppo_value_loss", "masked_whiten"])
def test_nothing_waits_for_the_device(op, gpu):
    inputs, settings = first_case(op, gpu)
    getattr(ops, op)(*inputs, **settings, backend="native")
    torch.cuda.set_sync_debug_mode("error")
    try:
        getattr(ops, op)(*inputs, **settings, backend="native")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_gradient_in_place_takes_no_memory_of_the_logits_size(gpu):
    head = torch.randn(512, 50257, device=gpu, requires_grad=True)
    tokens = torch.zeros(512, dtype=torch.long, device=gpu)
    logits = head * 1.0
    logp = ops.token_logp(logits, tokens, inplace_backward=True, backend="native")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    (gradient,) = torch.autograd.grad(logp.sum(), logits)
    assert gradient.data_ptr() == logits.data_ptr()
    assert torch.cuda.max_memory_allocated() - before < 2**20

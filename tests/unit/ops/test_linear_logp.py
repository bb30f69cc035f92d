import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from alignlab.ops import implementations, linear_logp, token_logp
from alignlab.ops.reference.linear_logp import linear_logp as chunked

pytestmark = pytest.mark.usefixtures("each_backend")


def inputs(num_rows=11, width=4, vocab=13, dtype=torch.float64):
    torch.manual_seed(0)
    hidden = torch.randn(num_rows, width, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab, width, dtype=dtype, requires_grad=True)
    bias = torch.randn(vocab, dtype=dtype, requires_grad=True)
    return hidden, weight, bias, torch.randint(vocab, (num_rows,))


class LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.numel = max(self.numel, x.numel())
        return result


def test_it_is_token_logp_of_the_head_with_its_gradients():
    hidden, weight, bias, tokens = inputs()
    upstream = torch.randn(2, len(tokens), dtype=torch.float64)  # a gradient of its own for every element

    def gradients(results):
        loss = sum((x * g).sum() for x, g in zip(results, upstream, strict=True))
        return [*results, *torch.autograd.grad(loss, (hidden, weight, bias))]

    whole = token_logp(hidden @ weight.T + bias, tokens, temperature=0.7, entropy=True)
    parts = chunked(hidden, weight, tokens, bias=bias, temperature=0.7, entropy=True, max_logits=40)  # 3 rows a chunk
    for part, truth in zip(gradients(parts), gradients(whole), strict=True):
        torch.testing.assert_close(part, truth)


def test_the_logits_are_never_whole_in_memory_forward_or_backward():
    hidden, weight, _, tokens = inputs(num_rows=64, vocab=32)
    with LargestTensor() as largest:
        chunked(hidden, weight, tokens, max_logits=4 * 32).sum().backward()
    assert largest.numel <= max(hidden.numel(), 4 * 32)


def test_gradients_of_many_chunks_add_up_in_fp32():
    hidden, weight, _, tokens = inputs(num_rows=2048, vocab=8, dtype=torch.bfloat16)
    chunked(hidden, weight, tokens, max_logits=8).sum().backward()  # 2048 chunks
    exact = weight.detach().double().requires_grad_()
    token_logp(hidden.detach().double() @ exact.T, tokens).sum().backward()
    torch.testing.assert_close(weight.grad.double(), exact.grad, rtol=2**-8, atol=1e-3)


def test_autocast_does_not_round_the_products_of_fp32():
    hidden, weight, bias, tokens = inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logp, entropy = linear_logp(hidden, weight, tokens, bias=bias, entropy=True)
    truth = token_logp(hidden.double() @ weight.double().T + bias.double(), tokens)
    assert logp.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logp.double(), truth, atol=1e-5, rtol=1e-5)


def test_half_precision_gives_fp32_log_probs_of_logits_that_are_exact_or_rounded_once(each_backend):
    hidden, weight, bias, tokens = inputs(dtype=torch.bfloat16)
    logp, entropy = linear_logp(hidden, weight, tokens, bias=bias, entropy=True)
    logits = hidden.double() @ weight.double().T + bias.double()
    rounds = each_backend == "auto" and "native" in implementations("linear_logp")
    truth, true_entropy = token_logp(logits.bfloat16().double() if rounds else logits, tokens, entropy=True)
    assert logp.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logp.double(), truth, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), true_entropy, atol=1e-5, rtol=1e-5)


def test_no_rows_give_no_log_probs_and_a_zero_gradient():
    hidden, weight, _, tokens = inputs()
    logp, entropy = linear_logp(hidden[:0], weight, tokens[:0], entropy=True)
    (logp.sum() + entropy.sum()).backward()
    assert logp.shape == entropy.shape == (0,)
    assert weight.grad.abs().sum() == 0


def test_what_does_not_fit_is_said_with_its_shape():
    hidden, weight, bias, tokens = inputs()
    with pytest.raises(ValueError, match=r"\[N, H\] and \[V, H\], got \[11, 4\] and \[4, 13\]"):
        linear_logp(hidden, weight.T, tokens)
    with pytest.raises(ValueError, match=r"tokens wants shape \[11\], as hidden has rows, got \[10\]"):
        linear_logp(hidden, weight, tokens[1:])
    with pytest.raises(ValueError, match=r"bias wants shape \[13\], as weight has rows, got \[12\]"):
        linear_logp(hidden, weight, tokens, bias=bias[1:])

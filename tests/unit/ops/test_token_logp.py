import math

import pytest
import torch

from alignlab.ops import token_logp

pytestmark = pytest.mark.usefixtures("each_backend")

INF = torch.inf


def test_it_is_the_log_of_the_softmax_at_the_token():
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    logp = token_logp(logits, torch.tensor([2, 0]))
    assert logp.tolist() == pytest.approx([3 - math.log(math.e + math.e**2 + math.e**3), -math.log(3)])


def test_temperature_divides_the_logits_and_leaves_them_as_they_were():
    logits = torch.randn(4, 7, dtype=torch.float64)
    before = logits.clone()
    tokens = torch.randint(7, (4,))
    logp, entropy = token_logp(logits, tokens, temperature=0.5, entropy=True)
    expected, expected_entropy = token_logp(logits * 2, tokens, entropy=True)
    torch.testing.assert_close(logp, expected)
    torch.testing.assert_close(entropy, expected_entropy)
    assert torch.equal(logits, before)


def test_entropy_is_in_nats_and_exact_over_the_vocabulary():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(0.5), math.log(0.25), math.log(0.25), -INF]])
    _, entropy = token_logp(logits, torch.tensor([0, 0]), entropy=True)
    assert entropy.tolist() == pytest.approx([math.log(4), 1.5 * math.log(2)])


def test_logits_of_minus_inf_leave_the_entropy_and_every_gradient_finite():
    logits = torch.tensor([[0.0, -INF, 1.0], [-INF, -INF, 2.0]], requires_grad=True)
    logp, entropy = token_logp(logits, torch.tensor([0, 2]), entropy=True)
    (logp.sum() + entropy.sum()).backward()
    p = 1 / (1 + math.e)
    assert entropy.tolist() == pytest.approx([-p * math.log(p) - (1 - p) * math.log(1 - p), 0.0])
    assert logits.grad.isfinite().all()
    assert logits.grad[1].tolist() == [0, 0, 0]
    assert logits.grad[0, 1] == 0


def test_a_first_block_of_minus_inf_does_not_make_the_row_nan():
    logits = torch.full((1, 5000), -INF)
    logits[0, -2:] = 0
    logp, entropy = token_logp(logits, torch.tensor([4999]), entropy=True)
    assert (logp.item(), entropy.item()) == pytest.approx((-math.log(2), math.log(2)))


def test_a_token_that_cannot_be_drawn_has_log_prob_minus_inf():
    assert token_logp(torch.tensor([[0.0, -INF]]), torch.tensor([1])).item() == -INF


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_fp32(dtype):
    logits = (torch.randn(16, 1000) * 3).to(dtype)
    tokens = torch.randint(1000, (16,))
    logp, entropy = token_logp(logits, tokens, entropy=True)
    truth, true_entropy = token_logp(logits.double(), tokens, entropy=True)
    assert logp.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logp.double(), truth, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(entropy.double(), true_entropy, atol=1e-5, rtol=1e-6)


def test_the_gradient_in_half_precision_is_the_true_one_rounded_once():
    logits = (torch.randn(8, 50) * 3).bfloat16().requires_grad_()
    tokens = logits.detach().argmax(-1)  # where softmax - 1 cancels
    token_logp(logits, tokens).sum().backward()
    truth = logits.detach().double().requires_grad_()
    token_logp(truth, tokens).sum().backward()
    torch.testing.assert_close(logits.grad.double(), truth.grad, atol=1e-6, rtol=2**-8)


def test_fp64_stays_fp64_and_passes_gradcheck():
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([0, 4, 2])
    assert token_logp(logits, tokens).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: token_logp(x, tokens, temperature=0.7, entropy=True), (logits,))


def test_inputs_may_be_slices_empty_or_of_any_rank():
    logits = torch.randn(2, 6, 5)
    tokens = torch.randint(5, (2, 6))
    sliced = token_logp(logits[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(sliced, token_logp(logits[:, :-1].contiguous(), tokens[:, 1:].contiguous()))
    logp, entropy = token_logp(logits[:0], tokens[:0], entropy=True)
    assert logp.shape == entropy.shape == (0, 6)
    assert token_logp(logits[0, 0], tokens[0, 0]).shape == ()


def test_what_does_not_fit_is_said_with_its_shape():
    with pytest.raises(ValueError, match=r"\[\.\.\., V\] and \[\.\.\.\], got \[2, 3, 5\] and \[2, 4\]"):
        token_logp(torch.zeros(2, 3, 5), torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="temperature wants to be above 0, got 0"):
        token_logp(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long), temperature=0)
    with pytest.raises(ValueError, match=r"logits wants a floating dtype, got torch\.int64"):
        token_logp(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, dtype=torch.long))

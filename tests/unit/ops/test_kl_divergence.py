import math

import pytest
import torch

from alignlab.ops import kl_divergence

pytestmark = pytest.mark.usefixtures("each_backend")

INF = torch.inf


def test_it_is_kl_of_p_from_q_in_nats():
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.5, 0.25]])
    assert kl_divergence(p.log(), q.log()).item() == pytest.approx(0.25 * math.log(2))


def test_it_agrees_with_torch_distributions_at_any_temperature():
    p, q = torch.randn(2, 3, 4, 9, dtype=torch.float64)
    truth = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=p / 0.6), torch.distributions.Categorical(logits=q / 0.6)
    )
    torch.testing.assert_close(kl_divergence(p, q, temperature=0.6), truth)


def test_tokens_that_p_cannot_draw_add_nothing_and_every_gradient_is_finite():
    p = torch.tensor([[0.0, -INF, -INF]], requires_grad=True)
    q = torch.tensor([[0.0, 0.0, -INF]], requires_grad=True)
    kl = kl_divergence(p, q)
    kl.sum().backward()
    assert kl.item() == pytest.approx(math.log(2))
    assert p.grad.tolist() == [[0, 0, 0]]
    assert q.grad[0].tolist() == pytest.approx([-0.5, 0.5, 0])


def test_a_token_of_probability_zero_by_underflow_adds_nothing_where_q_is_minus_inf():
    assert kl_divergence(torch.tensor([[0.0, -300.0]]), torch.tensor([[0.0, -INF]])).item() == 0


def test_a_token_that_q_cannot_draw_makes_it_inf():
    assert kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -INF]])).item() == INF


def test_gradients_pass_gradcheck():
    p, q = torch.randn(2, 3, 5, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(kl_divergence, (p.requires_grad_(), q.requires_grad_()))


def test_half_precision_is_summed_in_fp32_and_empty_is_empty():
    p, q = torch.randn(2, 8, 500).bfloat16()
    kl = kl_divergence(p, q)
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl.double(), kl_divergence(p.double(), q.double()), atol=1e-5, rtol=1e-5)
    assert kl_divergence(p[:0], q[:0]).shape == (0,)


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"logits_q wants the shape of logits_p, \[2, 5\], got \[2, 4\]"):
        kl_divergence(torch.zeros(2, 5), torch.zeros(2, 4))

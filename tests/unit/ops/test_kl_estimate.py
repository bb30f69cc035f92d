import math

import pytest
import torch

from alignlab.ops import kl_divergence, kl_estimate

pytestmark = pytest.mark.usefixtures("each_backend")


@pytest.mark.parametrize(("kind", "value"), [("k1", 0.5), ("k2", 0.125), ("k3", math.exp(-0.5) - 1 + 0.5)])
def test_each_kind_is_its_formula(kind, value):
    assert kl_estimate(torch.tensor([-1.0]), torch.tensor([-1.5]), kind).item() == pytest.approx(value)


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_k1_and_k3_are_unbiased_for_samples_of_the_policy(kind):
    policy, ref = torch.randn(2, 10, dtype=torch.float64).log_softmax(-1)
    expected = (policy.exp() * kl_estimate(policy, ref, kind)).sum()
    torch.testing.assert_close(expected, kl_divergence(policy, ref))


def test_the_gradient_of_k2_is_in_expectation_that_of_the_kl_and_k1s_is_zero():
    logits, ref = torch.randn(2, 10, dtype=torch.float64)
    ref = ref.log_softmax(-1)

    def gradient(loss):
        x = logits.clone().requires_grad_()
        return torch.autograd.grad(loss(x), x)[0]

    def expected(kind):  # the samples' distribution is data: no gradient through it
        return lambda x: (x.softmax(-1).detach() * kl_estimate(x.log_softmax(-1), ref, kind)).sum()

    torch.testing.assert_close(gradient(expected("k2")), gradient(lambda x: kl_divergence(x, ref)))
    torch.testing.assert_close(gradient(expected("k1")), torch.zeros_like(logits))


@pytest.mark.parametrize("gap", [-1e4, 1e4])
def test_k3_of_a_large_gap_is_finite_and_so_is_its_gradient(gap):
    logp = torch.tensor([gap], requires_grad=True)
    estimate = kl_estimate(logp, torch.tensor([0.0]), "k3")
    estimate.sum().backward()
    assert estimate.item() == pytest.approx(math.exp(20) - 21 if gap < 0 else 19, rel=1e-5)
    assert logp.grad.tolist() == [0]


def test_k3_of_a_small_gap_does_not_cancel():
    gap = 1e-3
    assert kl_estimate(torch.tensor([gap]), torch.tensor([0.0]), "k3").item() == pytest.approx(gap**2 / 2, rel=1e-3)


def test_half_precision_gives_fp32_and_empty_is_empty():
    assert kl_estimate(torch.zeros(2).bfloat16(), torch.zeros(2).bfloat16()).dtype == torch.float32
    assert kl_estimate(torch.zeros(0, 3), torch.zeros(0, 3), "k3").shape == (0, 3)


def test_an_unknown_kind_says_what_there_is():
    with pytest.raises(ValueError, match="kind wants to be k1, k2 or k3, got 'k4'"):
        kl_estimate(torch.zeros(1), torch.zeros(1), "k4")

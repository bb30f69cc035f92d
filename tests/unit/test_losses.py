import math

import pytest
import torch

from alignlab.losses import pairwise, plackett_luce


def test_pairwise_is_minus_the_log_of_the_probability_that_chosen_wins():
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 1.0])
    assert pairwise(chosen, rejected).tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))])


def test_a_margin_asks_for_a_gap_of_its_size():
    chosen, rejected = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 1.0])
    assert pairwise(chosen, rejected, margin=torch.tensor([1.0, 2.0])).tolist() == pytest.approx([math.log(2)] * 2)
    assert pairwise(chosen[:1], rejected[:1], margin=1.0).tolist() == pytest.approx([math.log(2)])


def test_pairwise_of_half_precision_is_fp32_and_large_gaps_are_finite():
    loss = pairwise(torch.tensor([-3e4]).half(), torch.tensor([3e4]).half())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(6e4, rel=1e-3)


def test_a_margin_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"chosen and margin want one shape \[N\], got \[2\] and \[3\]"):
        pairwise(torch.zeros(2), torch.zeros(2), margin=torch.zeros(3))


def test_plackett_luce_is_the_product_of_the_choices():
    scores = torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)
    e = math.exp
    likelihood = e(3) / (e(3) + e(1) + e(2)) * e(1) / (e(1) + e(2))
    assert plackett_luce(scores, torch.ones(1, 3)).item() == pytest.approx(-math.log(likelihood))


def test_plackett_luce_of_two_answers_is_pairwise():
    scores = torch.randn(6, 2, dtype=torch.float64)
    torch.testing.assert_close(plackett_luce(scores, torch.ones(6, 2)), pairwise(scores[:, 0], scores[:, 1]))


@pytest.mark.parametrize("dirt", [0.0, torch.nan, torch.inf, -torch.inf])
def test_masked_answers_are_as_if_they_were_not_there(dirt):
    whole = torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)
    scores = torch.tensor([[dirt, 3.0, dirt, 1.0, 2.0, dirt]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False, True, False, True, True, False]])
    loss = plackett_luce(scores, mask)
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    torch.testing.assert_close(loss, plackett_luce(whole, torch.ones(1, 3)))
    assert gradient[~mask].abs().sum() == 0
    assert gradient.isfinite().all()


def test_a_row_of_fewer_than_two_answers_is_zero_with_a_zero_gradient():
    scores = torch.randn(2, 3, requires_grad=True)
    loss = plackett_luce(scores, torch.tensor([[0, 0, 0], [0, 1, 0]]))
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert scores.grad.abs().sum() == 0


def test_plackett_luce_passes_gradcheck():
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1]])
    scores = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: plackett_luce(x, mask), (scores,))


def test_plackett_luce_of_shapes_that_differ_is_an_error():
    with pytest.raises(ValueError, match=r"scores and mask want one shape \[N, K\], got \[2, 3\] and \[2, 2\]"):
        plackett_luce(torch.zeros(2, 3), torch.ones(2, 2))

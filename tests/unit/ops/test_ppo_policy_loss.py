import math

import pytest
import torch

from alignlab.ops import ppo_policy_loss

pytestmark = pytest.mark.usefixtures("each_backend")


def loss_of(ratio, advantage, **settings):
    """One token: its ratio, and the gradient of the loss with respect to its log-prob."""
    logp = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    old_logp = torch.zeros(1, dtype=torch.float64)
    loss = ppo_policy_loss(logp, old_logp, torch.tensor([advantage], dtype=torch.float64), torch.ones(1), **settings)
    loss.total.backward()
    return loss, logp.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "total", "gradient", "clipped"),
    [
        (1.1, 2.0, -2.2, -2.2, 0),  # within the clip: the plain ratio
        (1.5, 2.0, -2.4, 0.0, 1),  # a good token already made likelier: clipped, no gradient
        (0.5, 2.0, -1.0, -1.0, 0),  # a good token made less likely: not clipped
        (0.5, -2.0, 1.6, 0.0, 1),  # a bad token already made less likely: clipped
        (1.5, -2.0, 3.0, 3.0, 0),  # a bad token made likelier: not clipped
    ],
)
def test_the_clip_takes_the_gradient_only_where_there_is_nothing_left_to_gain(
    ratio, advantage, total, gradient, clipped
):
    loss, found = loss_of(ratio, advantage)
    assert loss.total.item() == pytest.approx(total)
    assert found == pytest.approx(gradient)
    assert loss.clip_fraction.item() == clipped


def test_the_two_sides_of_the_clip_are_set_apart():
    assert loss_of(1.5, 1.0, clip_high=0.3)[0].total.item() == pytest.approx(-1.3)
    assert loss_of(0.5, -1.0, clip_low=0.4)[0].total.item() == pytest.approx(0.6)


def test_the_dual_clip_bounds_the_loss_of_a_bad_token_and_of_no_other():
    loss, gradient = loss_of(10.0, -2.0, dual_clip=3.0)
    assert (loss.total.item(), gradient, loss.dual_clip_fraction.item()) == (6.0, 0.0, 1.0)
    assert loss_of(10.0, -2.0)[0].total.item() == pytest.approx(20)
    within, _ = loss_of(2.0, -2.0, dual_clip=3.0)
    assert (within.total.item(), within.dual_clip_fraction.item()) == (pytest.approx(4), 0)
    good, _ = loss_of(10.0, 2.0, dual_clip=3.0)
    assert (good.total.item(), good.dual_clip_fraction.item()) == (pytest.approx(-2.4), 0)


def test_the_total_is_a_sum_over_the_mask_and_the_metrics_are_means_over_it():
    logp = torch.tensor([[0.5, 0.0, 9.0]])
    mask = torch.tensor([[True, True, False]])
    loss = ppo_policy_loss(logp, torch.zeros(1, 3), torch.ones(1, 3), mask)
    assert loss.total.item() == pytest.approx(-2.2)
    assert loss.clip_fraction.item() == 0.5
    assert loss.approx_kl.item() == pytest.approx((math.exp(0.5) - 1 - 0.5) / 2)


def test_a_large_gap_is_clamped_before_exp():
    logp = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = ppo_policy_loss(logp, torch.zeros(2), -torch.ones(2), torch.ones(2))
    loss.total.backward()
    assert loss.total.item() == pytest.approx(math.exp(20) + 0.8)
    assert logp.grad.tolist() == [0, 0]
    assert loss.approx_kl.isfinite()


def test_what_is_masked_is_not_read_and_gets_no_gradient():
    logp = torch.tensor([0.1, torch.nan, -torch.inf], requires_grad=True)
    mask = torch.tensor([True, False, False])
    loss = ppo_policy_loss(logp, torch.zeros(3), torch.tensor([1.0, torch.nan, torch.inf]), mask)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(-math.exp(0.1))
    assert logp.grad.tolist() == pytest.approx([-math.exp(0.1), 0, 0])


@pytest.mark.parametrize("shape", [(0, 3), (2, 3)])
def test_nothing_kept_is_zero_with_a_zero_gradient(shape):
    logp = torch.zeros(shape, requires_grad=True)
    loss = ppo_policy_loss(logp, torch.zeros(shape), torch.ones(shape), torch.zeros(shape), dual_clip=2.0)
    loss.total.backward()
    assert [x.item() for x in loss] == [0, 0, 0, 0]
    assert logp.grad.abs().sum() == 0


def test_advantages_and_old_log_probs_get_no_gradient():
    logp, old_logp, advantages = torch.zeros(3, 2, requires_grad=True).unbind()
    loss = ppo_policy_loss(logp, old_logp, advantages + 1, torch.ones(2))
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(loss.total, advantages)
    assert not any(metric.requires_grad for metric in loss[1:])


def test_half_precision_is_summed_in_fp32():
    logp = torch.full((2048,), 0.001).bfloat16()
    loss = ppo_policy_loss(logp, torch.zeros(2048).bfloat16(), torch.ones(2048).bfloat16(), torch.ones(2048))
    assert loss.total.dtype == torch.float32
    assert loss.total.item() == pytest.approx(-2048 * math.exp(logp[0].item()), rel=1e-6)


def test_clips_that_are_no_clips_are_an_error():
    with pytest.raises(ValueError, match="dual_clip wants to be above 1"):
        loss_of(1.0, 1.0, dual_clip=1.0)
    with pytest.raises(ValueError, match=r"clip_low wants \[0, 1\] and clip_high 0 or more, got -0.1 and 0.2"):
        loss_of(1.0, 1.0, clip_low=-0.1)

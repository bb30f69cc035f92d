import pytest
import torch

from alignlab.ops import ppo_value_loss

pytestmark = pytest.mark.usefixtures("each_backend")


def loss_of(value, old_value, target, **settings):
    """One token: the loss, and its gradient with respect to the value."""
    value = torch.tensor([value], requires_grad=True)
    loss = ppo_value_loss(value, torch.tensor([old_value]), torch.tensor([target]), torch.ones(1), **settings)
    loss.total.backward()
    return loss, value.grad.item()


def test_without_a_clip_it_is_half_the_squared_error():
    loss, gradient = loss_of(1.0, 0.0, 3.0)
    assert (loss.total.item(), gradient, loss.clip_fraction.item()) == (2.0, -2.0, 0.0)


@pytest.mark.parametrize(
    ("value", "target", "total", "gradient", "clipped"),
    [
        (0.1, 1.0, 0.405, -0.9, 0),  # within the clip: both branches agree
        (0.5, 1.0, 0.32, 0.0, 1),  # moved far towards the target: the clamped value's error is larger
        (0.5, -1.0, 1.125, 1.5, 0),  # moved far away from it: the value's own error is larger, and 0.5 is in both
    ],
)
def test_the_larger_of_both_branches_counts(value, target, total, gradient, clipped):
    loss, found = loss_of(value, 0.0, target, clip=0.2)
    assert loss.total.item() == pytest.approx(total)
    assert found == pytest.approx(gradient)
    assert loss.clip_fraction.item() == clipped


def test_a_value_within_the_clip_is_not_rounded():
    # old + (value - old) is 0.296875 here in fp32, so that a value that is right would have an error.
    loss, gradient = loss_of(0.3, 1e5, 0.3, clip=2e5)
    assert (loss.total.item(), gradient, loss.clip_fraction.item()) == (0, 0, 0)


def test_the_total_is_a_sum_over_the_mask_and_what_is_masked_is_not_read():
    values = torch.tensor([[1.0, 2.0, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    loss = ppo_value_loss(values, torch.zeros(1, 3), torch.tensor([[3.0, 3.0, torch.inf]]), mask, clip=0.5)
    loss.total.backward()
    assert loss.total.item() == pytest.approx(0.5 * (2.5**2 + 2.5**2))
    assert loss.clip_fraction.item() == 1
    assert values.grad.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 3)])
def test_nothing_kept_is_zero_with_a_zero_gradient(shape):
    values = torch.ones(shape, requires_grad=True)
    loss = ppo_value_loss(values, torch.zeros(shape), torch.zeros(shape), torch.zeros(shape), clip=0.2)
    loss.total.backward()
    assert [x.item() for x in loss] == [0, 0]
    assert values.grad.abs().sum() == 0


def test_half_precision_is_summed_in_fp32():
    values = torch.full((4096,), 0.1).bfloat16()
    loss = ppo_value_loss(values, torch.zeros(4096), torch.zeros(4096), torch.ones(4096))
    assert loss.total.dtype == torch.float32
    assert loss.total.item() == pytest.approx(0.5 * 4096 * values[0].item() ** 2, rel=1e-6)


def test_a_clip_that_is_not_above_0_is_an_error():
    with pytest.raises(ValueError, match="clip wants to be above 0, got 0"):
        loss_of(0.0, 0.0, 0.0, clip=0.0)

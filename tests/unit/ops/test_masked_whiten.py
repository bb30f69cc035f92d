import pytest
import torch

from alignlab.ops import masked_whiten

pytestmark = pytest.mark.usefixtures("each_backend")


def test_kept_elements_get_mean_0_and_population_variance_1():
    x, mask = torch.randn(4, 9, dtype=torch.float64) * 5 + 3, torch.rand(4, 9) < 0.6
    whitened = masked_whiten(x, mask)
    assert whitened[mask].mean().item() == pytest.approx(0, abs=1e-12)
    assert whitened[mask].var(correction=0).item() == pytest.approx(1, rel=1e-6)
    assert whitened[~mask].abs().sum() == 0


def test_two_elements_show_the_population_variance():
    assert masked_whiten(torch.tensor([1.0, 3.0]), torch.ones(2)).tolist() == pytest.approx([-1, 1])


def test_without_the_shift_the_mean_stays():
    x, mask = torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False])
    assert masked_whiten(x, mask, shift_mean=False).tolist() == pytest.approx([1, 3, 0])
    assert masked_whiten(x * 10, mask, shift_mean=False).tolist() == pytest.approx([19, 21, 0])


def test_no_element_or_one_or_equal_ones_stay_finite():
    x = torch.tensor([5.0, 5.0, 5.0])
    assert masked_whiten(x, torch.zeros(3)).tolist() == [0, 0, 0]
    assert masked_whiten(x, torch.tensor([0, 1, 0])).tolist() == [0, 0, 0]
    assert masked_whiten(x, torch.tensor([0, 1, 0]), shift_mean=False).tolist() == [0, 5, 0]
    assert masked_whiten(x, torch.ones(3)).tolist() == [0, 0, 0]
    assert masked_whiten(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


def test_what_is_masked_is_not_read_even_if_it_is_nan():
    x, mask = torch.tensor([1.0, 3.0, torch.nan, torch.inf]), torch.tensor([True, True, False, False])
    assert masked_whiten(x, mask).tolist() == pytest.approx([-1, 1, 0, 0])


def test_half_precision_is_summed_in_fp32():
    x = (torch.randn(4096) + 100).bfloat16()
    whitened = masked_whiten(x, torch.ones(4096))
    assert whitened.dtype == torch.float32
    torch.testing.assert_close(whitened.double(), masked_whiten(x.double(), torch.ones(4096)), atol=1e-3, rtol=1e-3)


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"mask wants the shape of x, \[3\], got \[2\]"):
        masked_whiten(torch.zeros(3), torch.ones(2))

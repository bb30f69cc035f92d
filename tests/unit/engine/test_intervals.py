import pytest
import torch

from alignlab.engine.intervals import half_width, wilson


def test_wilson_gives_the_published_interval():
    # Newcombe (1998), Table I: 81 of 263, 95%: 0.2553 to 0.3662
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_stays_within_zero_and_one():
    assert wilson(0.0, 5)[0] == 0.0
    assert wilson(1.0, 5)[1] == 1.0
    assert wilson(0.5, 0) == (0.0, 1.0)


def test_half_width_is_the_normal_interval_of_a_mean():
    assert half_width(torch.tensor([1.0, 3.0, 5.0, 7.0])) == pytest.approx(1.959964 * 2.581989 / 2, rel=1e-6)
    assert half_width(torch.tensor([1.0])) == float("inf")

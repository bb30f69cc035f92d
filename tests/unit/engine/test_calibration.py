import numpy as np
import pytest
import torch

from alignlab.engine.calibration import calibration
from alignlab.engine.intervals import wilson
from alignlab.losses import calibration_sums


def measured(predicted, observed):
    """What an evaluation of as many rows gives: means over them."""
    sums = calibration_sums(predicted, observed, torch.ones_like(predicted))
    return {**{key: float(value) / len(predicted) for key, value in sums.items()}, "num": float(len(predicted))}


def drawn(num, tilt=0.0, seed=0):
    """Predictions, and what comes true with their probability, or another one."""
    rng = torch.Generator().manual_seed(seed)
    predicted = 0.5 + 0.5 * torch.rand(num, generator=rng, dtype=torch.float64)
    return predicted, torch.bernoulli(predicted - tilt, generator=rng)


def test_the_error_is_that_of_the_table():
    predicted, observed = drawn(500, tilt=0.1)
    found = calibration(measured(predicted, observed))
    error = 0.0
    for low in np.arange(0.5, 1.0, 0.1):
        here = (predicted >= low) & (predicted < low + 0.1)
        error += float(here.double().mean()) * abs(float(predicted[here].mean() - observed[here].mean()))
    assert found.error == pytest.approx(error, abs=1e-9)
    assert [one.predicted for one in found.bins] == sorted(one.predicted for one in found.bins)
    assert sum(one.share for one in found.bins) == pytest.approx(1)


def test_the_interval_of_a_bin_counts_the_rows_in_it():
    predicted = torch.tensor([0.75] * 40)
    observed = torch.tensor([1.0] * 30 + [0.0] * 10)
    (one,) = calibration(measured(predicted, observed)).bins
    assert (one.predicted, one.observed) == (pytest.approx(0.75), pytest.approx(0.75))
    assert one.interval == wilson(0.75, 40)


def test_a_calibrated_model_shows_the_error_of_chance_and_no_more():
    errors, expected = [], []
    for seed in range(40):
        found = calibration(measured(*drawn(300, seed=seed)))
        errors.append(found.error)
        expected.append(found.by_chance)
    assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.1)


def test_an_overconfident_model_shows_more_than_chance():
    found = calibration(measured(*drawn(1000, tilt=0.15)))
    assert found.interval[0] > 2 * found.by_chance
    assert found.interval[0] < found.error < found.interval[1]
    assert all(one.observed < one.predicted for one in found.bins)


def test_lines_say_the_error_its_interval_and_the_table():
    lines = list(calibration(measured(torch.tensor([0.75] * 40), torch.tensor([1.0] * 30 + [0.0] * 10))).lines())
    assert lines[0].startswith("calibration: error 0.000 [0.") and "by chance alone" in lines[0]
    assert lines[1] == "  predicted 0.75, observed 0.75 [0.60, 0.86], 100% of them"


def test_an_evaluation_without_predictions_has_no_calibration():
    assert calibration({"loss": 1.0, "num": 4.0}) is None

"""The losses of ranked lists and of labelled steps, against explicit loops in fp64."""

import math
from itertools import combinations, permutations

import pytest
import torch

from alignlab.losses import all_pairs, calibration_sums, pairwise, plackett_luce, ranked_pairs, stepwise


def lists(num=5, most=6, seed=0, levels=None):
    """Scores, ranks and masks of rows with 2 to `most` answers in any order; ranks tie if there are few `levels`."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(num, most, generator=rng, dtype=torch.float64)
    ranks = torch.stack([torch.randperm(most, generator=rng) + 1 for _ in range(num)]).double()
    if levels is not None:
        ranks = ranks % levels
    counts = torch.randint(2, most + 1, (num, 1), generator=rng)
    return scores, ranks, torch.arange(most) < counts


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_all_pairs_is_instruct_gpts_double_loop():
    scores, ranks, mask = lists()
    expected = []
    for row in range(len(scores)):
        places = mask[row].nonzero().flatten().tolist()
        total = 0.0
        for i in places:
            for j in places:
                if ranks[row, i] < ranks[row, j]:
                    total += log_sigmoid(float(scores[row, i] - scores[row, j]))
        expected.append(-total / math.comb(len(places), 2))
    assert len(set(mask.sum(1).tolist())) > 1  # lists of unequal length
    assert all_pairs(scores, ranks, mask).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ties", ["skip", "half"])
def test_tied_pairs_are_left_out_of_the_mean_or_count_half_each_way(ties):
    scores, ranks, mask = lists(levels=3, seed=1)
    expected = []
    for row in range(len(scores)):
        losses = []
        for i, j in combinations(mask[row].nonzero().flatten().tolist(), 2):
            gap = float(scores[row, i] - scores[row, j]) * (1 if ranks[row, i] < ranks[row, j] else -1)
            if ranks[row, i] != ranks[row, j]:
                losses.append(-log_sigmoid(gap))
            elif ties == "half":
                losses.append(-0.5 * log_sigmoid(gap) - 0.5 * log_sigmoid(-gap))
        expected.append(sum(losses) / max(len(losses), 1))
    assert bool(ranked_pairs(ranks, mask)[1].any())
    assert all_pairs(scores, ranks, mask, ties=ties).tolist() == pytest.approx(expected, rel=1e-12)


def test_all_pairs_of_two_answers_is_pairwise_in_either_order():
    scores = torch.randn(6, 2, dtype=torch.float64)
    ranks = torch.tensor([[1, 2]] * 3 + [[2, 1]] * 3)
    better = scores.gather(1, ranks.argsort(1))
    whole = torch.ones_like(ranks)
    torch.testing.assert_close(all_pairs(scores, ranks, whole), pairwise(better[:, 0], better[:, 1]))
    torch.testing.assert_close(plackett_luce(scores, whole, ranks=ranks), pairwise(better[:, 0], better[:, 1]))


def test_plackett_luce_by_ranks_is_that_of_the_sorted_scores():
    scores, ranks, mask = lists(seed=2)
    order = ranks.masked_fill(~mask, torch.inf).argsort(1)
    expected = plackett_luce(scores.gather(1, order), mask.gather(1, order))
    torch.testing.assert_close(plackett_luce(scores, mask, ranks=ranks), expected)


def test_plackett_luce_is_a_distribution_over_rankings():
    scores = torch.randn(1, 4, dtype=torch.float64)
    orders = torch.tensor(list(permutations(range(4))))
    losses = plackett_luce(scores.expand(24, 4), torch.ones(24, 4), ranks=orders)
    assert float((-losses).exp().sum()) == pytest.approx(1, rel=1e-12)


def test_answers_that_tie_in_plackett_luce_are_each_chosen_from_all_of_them():
    scores = torch.tensor([[0.3, -1.0, 0.7, 2.0]], dtype=torch.float64)
    ranks = torch.tensor([[2, 3, 2, 1]])
    e = scores.exp()[0]
    likelihood = e[3] / e.sum() * e[0] * e[2] / (e[0] + e[1] + e[2]) ** 2
    assert plackett_luce(scores, torch.ones(1, 4), ranks=ranks).item() == pytest.approx(-math.log(likelihood))


def test_a_tie_draws_scores_together_however_it_is_counted():
    scores = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    ranks, mask = torch.tensor([[1, 1, 2]]), torch.ones(1, 3)
    for loss in (plackett_luce(scores, mask, ranks=ranks), all_pairs(scores, ranks, mask, ties="half")):
        (gradient,) = torch.autograd.grad(loss.sum(), scores)
        assert gradient[0, 0] > gradient[0, 1]


@pytest.mark.parametrize("dirt", [torch.nan, torch.inf, -torch.inf])
def test_what_stands_in_masked_places_changes_neither_loss_nor_gradient(dirt):
    scores, ranks, mask = lists(seed=3)
    for loss in (
        lambda x: all_pairs(x, ranks, mask, ties="half"),
        lambda x: plackett_luce(x, mask, ranks=ranks),
    ):
        dirty = scores.masked_fill(~mask, dirt).requires_grad_()
        found = loss(dirty)
        (gradient,) = torch.autograd.grad(found.sum(), dirty)
        torch.testing.assert_close(found, loss(scores))
        assert gradient[~mask].abs().sum() == 0
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("ties", ["skip", "half"])
def test_all_pairs_passes_gradcheck(ties):
    scores, ranks, mask = lists(num=3, most=4, levels=3, seed=4)
    assert torch.autograd.gradcheck(lambda x: all_pairs(x, ranks, mask, ties=ties), (scores.requires_grad_(),))


def test_plackett_luce_with_ties_passes_gradcheck():
    scores, ranks, mask = lists(num=3, most=4, levels=3, seed=5)
    assert torch.autograd.gradcheck(lambda x: plackett_luce(x, mask, ranks=ranks), (scores.requires_grad_(),))


def test_half_precision_scores_give_an_fp32_loss_that_is_finite_for_large_gaps():
    scores = torch.tensor([[-3e4, 3e4, 0.0]]).half()
    loss = all_pairs(scores, torch.tensor([[1, 2, 3]]), torch.ones(1, 3))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((6e4 + 3e4) / 3, rel=1e-3)


def test_a_step_s_loss_is_the_binary_cross_entropy_of_its_label():
    scores = torch.tensor([2.0, 2.0, -1.0], dtype=torch.float64)
    losses = stepwise(scores, torch.tensor([True, False, False]))
    expected = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(2)), math.log(1 + math.exp(-1))]
    assert losses.tolist() == pytest.approx(expected, rel=1e-12)


def test_stepwise_passes_gradcheck_with_labels_that_are_probabilities():
    labels = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    scores = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: stepwise(x, labels), (scores,))


def test_shapes_that_differ_and_unknown_ties_are_errors():
    with pytest.raises(ValueError, match=r"scores and ranks want one shape \[N, K\], got \[2, 3\] and \[2, 2\]"):
        all_pairs(torch.zeros(2, 3), torch.ones(2, 2), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"scores and ranks want one shape \[N, K\], got \[2, 3\] and \[3, 2\]"):
        plackett_luce(torch.zeros(2, 3), torch.ones(2, 3), ranks=torch.ones(3, 2))
    with pytest.raises(ValueError, match="ties wants to be 'skip' or 'half', got 'drop'"):
        all_pairs(torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 3), ties="drop")
    with pytest.raises(ValueError, match=r"scores and labels want one shape \[N\], got \[2\] and \[3\]"):
        stepwise(torch.zeros(2), torch.zeros(3))


def test_calibration_sums_are_weighted_sums_by_tenths():
    predicted = torch.tensor([0.52, 0.58, 0.91, 1.0, 0.3])
    observed = torch.tensor([1.0, 0.0, 1.0, 0.5, 1.0])
    weight = torch.tensor([1.0, 0.5, 1.0, 2.0, 0.0])
    found = {key: float(value) for key, value in calibration_sums(predicted, observed, weight).items()}
    assert found == pytest.approx(
        {
            "calibration/5/share": 1.5,
            "calibration/5/predicted": 0.52 + 0.29,
            "calibration/5/observed": 1.0,
            "calibration/9/share": 3.0,
            "calibration/9/predicted": 0.91 + 2.0,
            "calibration/9/observed": 2.0,
        }
    )

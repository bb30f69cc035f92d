"""The optima that methods state, each held to the method's own loss over all pairs."""

import pytest
import torch
import toy

from alignlab.certify.exact import kl_optimum
from alignlab.losses import dpo
from alignlab.method import Tabular


def world(beta):
    rng = torch.Generator().manual_seed(0)
    ref_logp = torch.randn(1, 7, generator=rng, dtype=torch.float64).log_softmax(1)
    rewards = torch.randn(1, 7, generator=rng, dtype=torch.float64)
    return Tabular(ref_logp, rewards, (rewards[:, :, None] - rewards[:, None, :]).sigmoid(), beta)


def optimum(method, tabular):
    target = method.optimum.target
    return target(tabular) if callable(target) else kl_optimum(tabular.ref_logp, tabular.rewards, tabular.beta)


def expected_loss(logits, tabular, **settings):
    """The loss of a policy in expectation over two draws of the reference and the label."""
    logp, ref_logp = logits.log_softmax(0), tabular.ref_logp[0]
    first, second = torch.cartesian_prod(torch.arange(7), torch.arange(7)).T
    losses = dpo(
        logp[first], logp[second], ref_logp[first], ref_logp[second],
        beta=tabular.beta, probability=tabular.preferences[0, first, second], **settings,
    )  # fmt: skip
    return ((ref_logp[first] + ref_logp[second]).exp() * losses).sum()


@pytest.mark.parametrize(
    ("loss_type", "beta", "label_smoothing"),
    [("sigmoid", 0.5, 0.0), ("robust", 0.3, 0.0), ("ipo", 0.1, 0.0), ("ipo", 0.7, 0.2)],
)
def test_the_expected_loss_is_least_where_the_method_says(loss_type, beta, label_smoothing):
    tabular = world(beta)
    method = toy.method("dpo", loss_type=loss_type, beta=beta, label_smoothing=label_smoothing)
    settings = {"loss_type": loss_type, "label_smoothing": label_smoothing}
    best = optimum(method, tabular)[0].clone().requires_grad_()
    loss = expected_loss(best, tabular, **settings)
    loss.backward()
    torch.testing.assert_close(best.grad, torch.zeros_like(best), rtol=0, atol=1e-10)
    for seed in range(5):
        other = best.detach() + 0.1 * torch.randn(7, generator=torch.Generator().manual_seed(seed)).double()
        assert expected_loss(other, tabular, **settings) > loss


def test_exo_is_least_near_the_regularised_optimum_for_a_small_label_smoothing():
    tabular = world(0.5)
    best = kl_optimum(tabular.ref_logp, tabular.rewards, 0.5)[0].requires_grad_()
    expected_loss(best, tabular, loss_type="exo_pair", label_smoothing=1e-3).backward()
    start = tabular.ref_logp[0].clone().requires_grad_()
    expected_loss(start, tabular, loss_type="exo_pair", label_smoothing=1e-3).backward()
    assert float(best.grad.abs().max()) < 0.01 * float(start.grad.abs().max())


@pytest.mark.parametrize(
    "settings",
    [
        {"loss_type": "hinge"},
        {"loss_type": "nca_pair", "beta": 1.0},
        {"loss_type": ("sigmoid", "ipo")},
        {"label_smoothing": 0.1},
        {"sft_coef": 0.1},
        {"ref_sync_steps": 10},
        {"length_normalize": True},
        {"soft_labels": False},
    ],
)
def test_dpo_promises_nothing_where_its_optimum_is_another_or_unknown(settings):
    assert toy.method("dpo").optimum.target == "kl_regularized"
    assert toy.method("dpo", **settings).optimum is None


@pytest.mark.parametrize(
    ("settings", "promises"),
    [
        ({}, True),
        ({"kl_in": "loss", "whiten_advantages": False}, True),
        ({"kl_in": "loss", "kl_estimator": "k3", "whiten_advantages": False}, True),
        ({"kl_in": "loss"}, False),
        ({"kl_in": "loss", "kl_straight_through": False, "whiten_advantages": False}, False),
        ({"kl_estimator": "k3"}, False),
        ({"normalize_rewards": True}, False),
        ({"entropy_coef": 0.01}, False),
        ({"gamma": 0.9}, False),
        ({"per": "row"}, False),
    ],
)
def test_ppo_promises_the_regularised_optimum_where_its_gradient_is_that_of_the_objective(settings, promises):
    found = toy.method("ppo", **{"entropy_coef": 0.0, **settings}).optimum
    assert (found is not None) == promises
    assert found is None or (found.target, found.beta) == ("kl_regularized", "kl_coef")


def test_sft_and_the_reward_model_promise_what_their_rows_are_drawn_from():
    assert toy.method("sft").optimum.target == "likelihood"
    assert toy.method("reward_model", center_coef=0.0).optimum.target == "preference_probabilities"
    assert toy.method("reward_model", center_coef=0.01).optimum is None
    assert toy.method("process_reward_model").optimum is None

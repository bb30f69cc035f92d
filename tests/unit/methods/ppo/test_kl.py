"""PPO.md, rows 3, 3b and 4: the penalty for leaving the reference."""

from dataclasses import replace

import pytest
import torch
import toy
from pydantic import ValidationError

from alignlab_rlhf.kl import adapted, kl_loss


def formula(kind, log_ratio):
    return {"k1": log_ratio, "k2": log_ratio**2 / 2, "k3": (-log_ratio).exp() - 1 + log_ratio}[kind]


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_row_3_the_penalty_of_each_token_is_kl_coef_times_the_estimate(scored, plain, kind):
    _, _, batch, score = scored(**plain | {"kl_coef": 0.3, "gamma": 0.0, "kl_estimator": kind})
    log_ratio = batch.old_logp - batch.ref_logp
    assert float(log_ratio.abs().max()) > 0.01
    expected = -0.3 * formula(kind, log_ratio)
    expected[torch.arange(len(batch)), batch.last_acted()] += score
    torch.testing.assert_close(batch.returns[batch.acted], expected[batch.acted])


@pytest.mark.parametrize("straight_through", [True, False])
@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_row_3_a_large_gap_overflows_neither_the_value_nor_the_gradient(kind, straight_through):
    logp = torch.tensor([-1000.0, 0.0], requires_grad=True)
    loss = kl_loss(logp, logp.detach().flip(0), kind, straight_through=straight_through).sum()
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logp.grad.isfinite().all())


def expected_gradient(surrogate):
    """The gradient of a surrogate of log-probs, in expectation over the tokens that the policy draws."""
    torch.manual_seed(0)
    logits, reference = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.randn(5, dtype=torch.float64)
    logp, ref_logp = logits.log_softmax(0), reference.log_softmax(0)
    (logp.exp().detach() * surrogate(logp, ref_logp)).sum().backward()
    return logits.grad


def true_gradient(forward=False):
    def divergence(logp, ref_logp):
        other = (ref_logp.exp() * (ref_logp - logp)).sum()
        return (other if forward else (logp.exp() * (logp - ref_logp)).sum()).expand(5)

    return expected_gradient(divergence)


def token_loss(logp, ref_logp, kind, *, straight_through):
    """The penalty of answers of one token each."""
    return kl_loss(logp[:, None], ref_logp[:, None], kind, straight_through=straight_through)[:, 0]


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_row_3b_straight_through_has_the_estimator_s_value_and_the_gradient_of_the_kl(kind):
    torch.testing.assert_close(
        expected_gradient(lambda logp, ref: token_loss(logp, ref, kind, straight_through=True)), true_gradient()
    )
    logp, ref_logp = -torch.rand(5, 4, dtype=torch.float64), -torch.rand(5, 4, dtype=torch.float64)
    value = kl_loss(logp, ref_logp, kind, straight_through=True)
    torch.testing.assert_close(value, formula(kind, logp - ref_logp))


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_row_3b_straight_through_has_the_gradient_of_the_kl_of_whole_answers_and_k2_has_not(kind):
    torch.manual_seed(0)
    first, then = torch.randn(3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)  # then[a]: after token a
    ref_first, ref_then = torch.randn(3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)

    def tokens(one, two):  # [9, 2]: the log-probs of both tokens of each of the nine answers
        return torch.stack([one.log_softmax(0).repeat_interleave(3), two.log_softmax(1).flatten()], 1)

    def gradient(surrogate):
        logits = [x.clone().requires_grad_() for x in (first, then)]
        logp, ref_logp = tokens(*logits), tokens(ref_first, ref_then)
        (logp.sum(1).exp().detach() * surrogate(logp, ref_logp)).sum().backward()
        return torch.cat([x.grad.flatten() for x in logits])

    def whole(logp, ref_logp):  # the score-function gradient of E[log p(answer) - log q(answer)]
        return (logp - ref_logp).sum(1).detach() * logp.sum(1)

    expected = gradient(whole)
    penalty = gradient(lambda logp, ref: kl_loss(logp, ref, kind, straight_through=True).sum(1))
    torch.testing.assert_close(penalty, expected)
    alone = gradient(lambda logp, ref: kl_loss(logp, ref, "k2", straight_through=False).sum(1))
    assert float((alone - expected).abs().max()) > 0.05


def test_row_3b_k1_in_the_reward_has_the_gradient_of_the_kl():
    score_function = expected_gradient(lambda logp, ref: (logp - ref).detach() * logp)
    torch.testing.assert_close(score_function, true_gradient())


def test_row_3b_what_is_warned_of_has_another_gradient():
    def raw(kind):
        return expected_gradient(lambda logp, ref: token_loss(logp, ref, kind, straight_through=False))

    torch.testing.assert_close(raw("k1"), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(raw("k2"), true_gradient())
    torch.testing.assert_close(raw("k3"), true_gradient(forward=True))
    for kind in ("k2", "k3"):
        in_reward = expected_gradient(lambda logp, ref, kind=kind: formula(kind, logp - ref).detach() * logp)
        assert not torch.allclose(in_reward, true_gradient(), atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"kl_in": "reward", "kl_estimator": "k1"}, None),
        ({"kl_in": "reward", "kl_estimator": "k2"}, "k2 in the reward"),
        ({"kl_in": "reward", "kl_estimator": "k3"}, "k3 in the reward"),
        ({"kl_in": "loss", "kl_estimator": "k1"}, None),
        ({"kl_in": "loss", "kl_estimator": "k3"}, None),
        ({"kl_in": "loss", "kl_estimator": "k1", "kl_straight_through": False}, "zero in expectation"),
        ({"kl_in": "loss", "kl_estimator": "k2", "kl_straight_through": False}, "each token's KL alone"),
        ({"kl_in": "loss", "kl_estimator": "k3", "kl_straight_through": False}, "other direction"),
    ],
)
def test_row_3b_settings_with_a_wrong_gradient_are_allowed_and_warned_of(settings, word):
    warnings = toy.method("ppo", **settings).warnings()
    assert len(warnings) == (word is not None)
    assert word is None or word in warnings[0]


def test_row_3b_the_gradient_reaches_the_policy_through_the_loss(scored, plain):
    def gradient(**settings):
        chosen, run, batch, _ = scored(**plain | {"kl_in": "loss", "kl_coef": 0.5}, **settings)
        chosen.optimize(run, batch).total.backward()
        return torch.cat([p.grad.flatten() for p in run.models["policy"].parameters()])

    k2 = gradient(kl_estimator="k2")
    torch.testing.assert_close(gradient(kl_estimator="k3"), k2)
    torch.testing.assert_close(gradient(kl_estimator="k1"), k2)
    for kind in ("k2", "k3"):
        assert not torch.allclose(gradient(kl_estimator=kind, kl_straight_through=False), k2, rtol=1e-2)


@pytest.mark.parametrize(("kl", "factor"), [(6.0, 1.0), (6.6, 1.001), (100.0, 1.002), (0.0, 0.998), (-3.0, 0.998)])
def test_row_4_the_coefficient_follows_the_kl_in_steps_of_a_fifth_at_most(kl, factor):
    assert adapted(0.1, kl, 6.0, num_answers=100, horizon=10_000) == pytest.approx(0.1 * factor)


def test_row_4_the_next_batch_is_penalised_with_the_adapted_coefficient(scored, plain):
    settings = plain | {"gamma": 0.0, "kl_coef": 0.3, "kl_target": 0.01, "kl_horizon": 10}
    chosen, run, first, _ = scored(**settings)
    kl = float((first.old_logp - first.ref_logp).sum(1).mean())
    assert kl > 0.01
    assert torch.equal(first.kl_coef, torch.full((6,), 0.3))
    wanted = 0.3 * (1 + 0.2 * 6 / 10)
    assert run.state["kl_coef"] == pytest.approx(wanted)
    run.logged()
    with torch.no_grad():
        second = chosen.reward(run, chosen.data(run, list(first.records)))
    penalty = (second.old_logp - second.ref_logp)[:, :-1][second.acted[:, :-1] & second.acted[:, 1:]]
    returns = second.returns[:, :-1][second.acted[:, :-1] & second.acted[:, 1:]]  # all but the last token of each row
    torch.testing.assert_close(returns, -wanted * penalty)
    assert run.logged()["kl_coef"] == pytest.approx(wanted)


def test_row_4_the_loss_too_is_penalised_with_the_coefficient_of_its_batch(scored, plain):
    chosen, run, batch, _ = scored(**plain | {"kl_in": "loss", "kl_coef": 0.3, "kl_target": 0.01, "kl_horizon": 10})
    assert run.state["kl_coef"] > 0.3  # adapted by this batch, for the next one
    with torch.no_grad():
        found = chosen.optimize(run, batch).metrics["kl_loss"]
        doubled = chosen.optimize(run, replace(batch, kl_coef=2 * batch.kl_coef)).metrics["kl_loss"]
        log_ratio = (run.logp("policy", batch) - batch.ref_logp)[batch.acted]
    assert float(found) == pytest.approx(0.3 * float(log_ratio.sum()), rel=1e-3)
    assert float(doubled) == pytest.approx(2 * float(found), rel=1e-6)


def test_row_4_an_evaluation_does_not_move_the_coefficient(scored, plain):
    chosen, run, batch, _ = scored(**plain | {"kl_coef": 0.3, "kl_target": 0.01, "kl_horizon": 10})
    before = run.state["kl_coef"]
    run.begin(0, train=False)
    with torch.no_grad():
        evaluated = chosen.reward(run, chosen.data(run, list(batch.records)))
    assert float(evaluated.kl_coef[0]) == pytest.approx(before)
    assert run.state["kl_coef"] == before


def test_row_4_a_coefficient_of_0_cannot_adapt():
    with pytest.raises(ValidationError, match="kl_coef 0"):
        toy.method("ppo", kl_coef=0.0, kl_target=6.0)

"""PPO.md, rows 17, 18, 20 to 22, 24, 25 and 28: the loss, the passes over a batch, and what is logged."""

from dataclasses import replace

import pytest
import torch
import toy

from alignlab.config.recipe import OptimizerSettings
from alignlab.engine.microbatch import minibatches
from alignlab.engine.optim import AdamW, parameter_groups, trained_parameters
from alignlab.engine.update import accumulate
from alignlab.models import logits_at


def test_row_17_a_ratio_too_large_for_exp_overflows_neither_the_loss_nor_the_gradient(scored):
    chosen, run, batch, _ = scored()
    for gap in (1e4, -1e4):
        loss = chosen.optimize(run, replace(batch, old_logp=(batch.old_logp - gap).where(batch.acted, 0.0)))
        loss.total.backward()
        assert bool(loss.total.isfinite())
        assert all(bool(p.grad.isfinite().all()) for p in run.models["policy"].parameters())


@pytest.mark.parametrize("dual_clip", [None, 1.5])
def test_row_18_the_clip_has_a_low_and_a_high_side_and_a_dual_one(scored, dual_clip):
    chosen, run, batch, _ = scored(clip_low=0.1, clip_high=0.4, dual_clip=dual_clip)
    shift = 1.6 * torch.rand(batch.tokens.shape, generator=torch.Generator().manual_seed(0)) - 0.8
    moved = replace(batch, old_logp=(batch.old_logp + shift).where(batch.acted, 0.0))
    with torch.no_grad():
        metrics = chosen.optimize(run, moved).metrics
        logp = run.logp("policy", batch)
    expected, clipped, dual_clipped = 0.0, 0, 0
    for i, t in batch.acted.nonzero().tolist():
        ratio = float((logp - moved.old_logp)[i, t].exp())
        advantage = float(batch.advantages[i, t])
        objective = min(ratio * advantage, min(max(ratio, 0.9), 1.4) * advantage)
        clipped += objective < ratio * advantage
        if dual_clip is not None and advantage < 0 and objective < dual_clip * advantage:
            objective, dual_clipped = dual_clip * advantage, dual_clipped + 1
        expected -= objective
    assert clipped > 0
    assert (dual_clipped > 0) == (dual_clip is not None)
    assert float(metrics["policy_loss"]) == pytest.approx(expected, rel=1e-4)
    assert float(metrics["clip_fraction"]) == pytest.approx(clipped, abs=0.01)
    assert float(metrics["dual_clip_fraction"]) == pytest.approx(dual_clipped, abs=0.01)


def test_row_18_the_dual_clip_is_off_by_default():
    assert toy.method("ppo").dual_clip is None


def test_row_20_per_row_averages_every_answer_over_its_tokens_first(scored):
    chosen, run, batch, _ = scored(zero_critic=False, per="row", max_new_tokens=12)
    token = type(chosen)(**{**chosen.model_dump(), "per": "token"})
    with torch.no_grad():
        rows = [batch.select(torch.tensor([i])) for i in range(len(batch))]
        expected = sum(token.optimize(run, row).total / row.acted.sum() for row in rows)
        assert float(chosen.optimize(run, batch).total) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"per": "row", "max_new_tokens": 12},
        {"kl_in": "loss", "kl_estimator": "k3", "importance_cap": 1.1},
        {"critic": "shared", "vf_coef": 0.5},
        {"per": "row", "kl_in": "loss", "num_samples": 2, "critic": "shared"},
    ],
)
def test_row_20_gradients_and_metrics_are_the_same_for_every_microbatch_size(scored, settings):
    chosen, run, batch, _ = scored(zero_critic=False, **settings)
    trained = trained_parameters(run.models.values())

    def computed(max_tokens):
        for parameter in trained:
            parameter.grad = None
        sums = accumulate(chosen, lambda part: chosen.optimize(run, part), batch, max_tokens, backward=True)
        return torch.cat([p.grad.flatten() for p in trained]), sums.means()

    whole, metrics = computed(100_000)
    for max_tokens in (1, 100):
        gradient, found = computed(max_tokens)
        torch.testing.assert_close(gradient, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
        assert found == pytest.approx(metrics, rel=1e-4, abs=1e-5)


def test_row_21_every_pass_is_shuffled_anew(scored):
    _, run, batch, _ = scored(num_rows=12)
    run.begin(3)
    passes = [[part.unit.tolist() for part in minibatches(batch, 2, run.rng)] for _ in range(2)]
    assert passes[0] != passes[1]
    run.begin(3)
    assert [part.unit.tolist() for part in minibatches(batch, 2, run.rng)] == passes[0]


def test_row_22_target_kl_ends_the_passes():
    chosen = toy.method("ppo", target_kl=0.1)
    assert chosen.end_passes({"approx_kl": 0.2})
    assert not chosen.end_passes({"approx_kl": 0.05})
    assert not toy.method("ppo").end_passes({"approx_kl": 10.0})


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_row_24_the_entropy_is_exact_at_the_sampling_temperature(scored, temperature):
    chosen, run, batch, _ = scored(temperature=temperature, entropy_coef=0.3)
    without = type(chosen)(**{**chosen.model_dump(), "entropy_coef": 0.0})
    with torch.no_grad():
        logits = logits_at(run.models["policy"], batch, batch.acted.roll(-1, 1)) / temperature
        expected = float(torch.distributions.Categorical(logits=logits).entropy().sum())
        loss, plain_loss = chosen.optimize(run, batch), without.optimize(run, batch)
    assert float(loss.metrics["entropy"]) == pytest.approx(expected, rel=1e-4)
    assert float(plain_loss.total - loss.total) == pytest.approx(0.3 * expected, rel=1e-3)


def test_row_25_numbers_of_the_rollout_count_acted_tokens_and_answers_only(scored, plain):
    _, run, batch, score = scored(zero_critic=False, **plain)
    logged = run.logged()
    lengths = [int(row.sum()) for row in batch.acted]
    assert logged["score"] == pytest.approx(float(score.mean()), rel=1e-5)
    assert logged["score_std"] == pytest.approx(float(score.std(correction=0)), rel=1e-5)
    assert logged["reward/word_count"] == pytest.approx(float(score.mean()), rel=1e-5)
    assert logged["answer_length"] == pytest.approx(sum(lengths) / len(batch))
    assert logged["answer_length_max"] == max(lengths)
    assert logged["finished"] == pytest.approx(float(batch.finished.float().mean()))
    kl = sum(float((batch.old_logp - batch.ref_logp)[i][batch.acted[i]].sum()) for i in range(len(batch)))
    assert logged["kl"] == pytest.approx(kl / len(batch), rel=1e-4)
    errors = (batch.returns - batch.values)[batch.acted]
    spread = batch.returns[batch.acted].var(correction=0)
    assert logged["value_error"] == pytest.approx(float(errors.square().mean()), rel=1e-4)
    assert logged["explained_variance"] == pytest.approx(1 - float(errors.var(correction=0) / spread), rel=1e-3)


def test_row_25_numbers_of_the_loss_are_sums_over_acted_tokens_whatever_stands_elsewhere(scored):
    chosen, run, batch, _ = scored(zero_critic=False)

    def dirty(x):
        """Something else where nothing was acted, as a stage of a plugin may leave it."""
        return x.where(batch.acted, 7.0)

    names = ("old_logp", "ref_logp", "values", "advantages", "returns")
    soiled = replace(batch, **{name: dirty(getattr(batch, name)) for name in names})
    with torch.no_grad():
        clean, found = chosen.optimize(run, batch), chosen.optimize(run, soiled)
    assert float(found.total) == pytest.approx(float(clean.total), rel=1e-5)
    for name, value in clean.metrics.items():
        assert float(found.metrics[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name


def test_row_28_adam_s_settings_have_the_field_s_names_and_it_is_fused(base):
    run = toy.run_for(base, toy.method("ppo"))
    settings = OptimizerSettings(
        method="ppo", steps=1, lr=3e-5, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.1, max_grad_norm=0.5
    )
    optimizer = AdamW().build(parameter_groups(run.models.values(), settings.weight_decay), settings)
    assert type(optimizer) is torch.optim.AdamW
    for name in ("lr", "betas", "eps"):
        assert optimizer.defaults[name] == getattr(settings, name)
    assert optimizer.defaults["fused"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]

"""PPO.md, rows 8 to 12 and 23: the answers, and the log-probs that they are trained with."""

import json
from dataclasses import replace

import pytest
import torch
import toy
from pydantic import ValidationError

from alignlab.batch import Batch
from alignlab.config.recipe import ModelSettings
from alignlab.engine.roles import load_roles


def talkative(base, **settings):
    """A run whose policy ends some of its answers."""
    chosen = toy.method("ppo", max_new_tokens=48, **settings)
    run = toy.run_for(base, chosen)
    run.models["policy"].lm_head.weight.data[run.tokenizer.eos_token_id] *= 3
    return chosen, run


def test_row_8_nothing_after_the_stop_token_is_acted_or_valid(base):
    chosen, run = talkative(base)
    eos = run.tokenizer.eos_token_id
    rollout = chosen.data(run, toy.split_for(base, "prompt").train)
    ended = [i for i in range(len(rollout)) if bool(rollout.finished[i])]
    assert ended
    for i in ended:
        answer = rollout.tokens[i][rollout.acted[i]].tolist()
        assert answer[-1] == eos
        assert eos not in answer[:-1]
        assert int(rollout.valid[i].nonzero().flatten()[-1]) == int(rollout.last_acted()[i])


def test_row_9_an_eos_that_is_also_the_pad_token_is_trained_on(base):
    chosen, run = talkative(base)
    run.tokenizer.pad_token = run.tokenizer.eos_token
    eos = run.tokenizer.eos_token_id
    with torch.no_grad():
        batch = chosen.reward(run, chosen.data(run, toy.split_for(base, "prompt").train))
    ended = batch.finished.nonzero().flatten()
    last = batch.last_acted()[ended]
    assert len(ended)
    assert bool((batch.tokens[ended, last] == eos).all())
    assert bool((batch.old_logp[ended, last] < 0).all())
    logp = run.logp("policy", batch)
    (gradient,) = torch.autograd.grad(logp[ended, last].sum(), run.models["policy"].lm_head.weight)
    assert float(gradient[eos].abs().max()) > 0


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_row_10_a_row_s_log_probs_do_not_depend_on_its_padding(tmp_path, architecture):
    base = toy.base_model(tmp_path / "model", architecture)
    chosen = toy.method("ppo")
    run = toy.run_for(base, chosen)
    rollout = chosen.data(run, toy.split_for(base, "prompt").train[:6])
    width = rollout.tokens.shape[1]
    with torch.no_grad():
        for left, right in [(9, 0), (0, 9)]:
            padded = rollout.map(
                lambda x, by=(left, right): torch.nn.functional.pad(x, by) if x.shape[1:] == (width,) else x
            )
            ours, theirs = (run.logp("policy", x)[x.acted] for x in (padded, rollout))
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
        alone = torch.cat([run.logp("policy", rollout.select(torch.tensor([i]))).sum(1) for i in range(6)])
        torch.testing.assert_close(alone, run.logp("policy", rollout).sum(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_row_11_rollout_and_trainer_use_the_same_temperature(scored, temperature):
    chosen, run, batch, _ = scored(temperature=temperature)
    assert run.logged()["rollout_gap"] < 1e-5
    torch.testing.assert_close(batch.old_logp, batch.sample_logp, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        at_one = run.logp("policy", batch)
        assert not torch.allclose(at_one, batch.old_logp, atol=1e-2)
        metrics = chosen.optimize(run, batch).metrics  # the new log-probs too, or the policy would seem to have moved
    assert float(metrics["approx_kl"]) == pytest.approx(0, abs=1e-6)


def noisy(rollout):
    """A rollout by a sampler that computes otherwise than the trainer."""
    noise = 0.5 * torch.randn(rollout.tokens.shape, generator=torch.Generator().manual_seed(0))
    return replace(rollout, sample_logp=(rollout.sample_logp + noise).where(rollout.acted, 0.0))


@pytest.mark.parametrize("choice", ["trainer", "rollout"])
def test_row_12_old_log_probs_are_the_trainer_s_or_the_rollout_s_and_the_gap_is_logged(scored, choice):
    _, run, batch, _ = scored(old_logp=choice, change=noisy)
    with torch.no_grad():
        trainer = run.logp("policy", batch)
    assert torch.equal(batch.old_logp, trainer if choice == "trainer" else batch.sample_logp)
    gap = (trainer - batch.sample_logp)[batch.acted].abs()
    logged = run.logged()
    assert float(gap.mean()) > 0.1
    assert logged["rollout_gap"] == pytest.approx(float(gap.mean()), rel=1e-5)
    assert logged["rollout_gap_max"] == pytest.approx(float(gap.max()), rel=1e-5)


def test_row_12_truncated_importance_weights_scale_the_policy_loss_of_each_token(scored, plain):
    _, _, without, _ = scored(**plain, change=noisy)
    chosen, run, batch, _ = scored(**plain, change=noisy, importance_cap=1.2)
    ratio = (batch.old_logp - batch.sample_logp).exp()
    weight = ratio.clamp(max=1.2)
    assert bool((ratio[batch.acted] > 1.2).any())
    assert bool((ratio[batch.acted] < 1.0).any())
    torch.testing.assert_close(batch.advantages, without.advantages * weight)
    torch.testing.assert_close(batch.returns, without.returns)  # the critic learns from all tokens alike
    logged = run.logged()
    assert logged["importance_weight"] == pytest.approx(float(weight[batch.acted].mean()), rel=1e-5)
    assert logged["importance_truncated"] == pytest.approx(float((ratio > 1.2)[batch.acted].float().mean()))
    with torch.no_grad():
        moved = replace(batch, old_logp=batch.old_logp - 0.4)  # so that tokens are clipped, on both sides of the weight
        loss = chosen.optimize(run, moved).metrics
        rho = (run.logp("policy", moved) - moved.old_logp).exp()
    naive = -torch.minimum(rho * without.advantages, rho.clamp(0.8, 1.2) * without.advantages) * weight
    assert float(loss["policy_loss"]) == pytest.approx(float(naive[batch.acted].sum()), rel=1e-4)


def test_row_12_a_gap_too_large_for_exp_stays_finite(scored, plain):
    def silent(rollout):
        return replace(rollout, sample_logp=(rollout.sample_logp - 1e4).where(rollout.acted, 0.0))

    _, run, batch, _ = scored(**plain, change=silent, importance_cap=2.0)
    assert bool(batch.advantages.isfinite().all())
    assert run.logged()["importance_weight"] == 2.0


def test_row_12_the_rollout_s_own_log_probs_are_not_corrected_twice():
    with pytest.raises(ValidationError, match="importance_cap"):
        toy.method("ppo", old_logp="rollout", importance_cap=2.0)


def test_row_23_no_role_has_dropout_with_or_without_gradients(tmp_path):
    base = toy.base_model(tmp_path / "model", "gpt2")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "resid_pdrop": 0.5, "attn_pdrop": 0.5, "embd_pdrop": 0.5}))
    chosen = toy.method("ppo")
    run = toy.run_for(base, chosen)
    run.models = load_roles(chosen, base, ModelSettings(path=str(base), device="cpu"), None)
    batch = chosen.data(run, toy.split_for(base, "prompt").train[:4])
    with torch.no_grad():
        old, ref = run.logp("policy", batch), run.logp("ref", batch)
    torch.testing.assert_close(run.logp("policy", batch).detach(), old, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(old, ref, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(batch.sample_logp, old, atol=1e-5, rtol=1e-4)


def test_several_answers_to_a_prompt_are_a_unit_and_differ(base):
    chosen = toy.method("ppo", num_samples=3)
    run = toy.run_for(base, chosen)
    rollout = chosen.data(run, toy.split_for(base, "prompt").train[:2])
    assert rollout.unit.tolist() == [0, 0, 0, 1, 1, 1]
    answers = {tuple(rollout.tokens[i][rollout.acted[i]].tolist()) for i in range(3)}
    assert len(answers) > 1


def test_an_answer_does_not_depend_on_the_rows_beside_it(base):
    chosen = toy.method("ppo")
    run = toy.run_for(base, chosen)
    records = toy.split_for(base, "prompt").train[:5]
    run.begin(1)
    together = chosen.data(run, records)
    run.begin(1)
    alone = chosen.data(run, records[:1])

    def first(batch: Batch) -> list[int]:
        return batch.tokens[0][batch.valid[0]].tolist()

    assert first(together) == first(alone)

"""PPO.md, row by row; rows that are an op's or the engine's own are tested there (15 and 17-19 in tests/unit/ops,
10 and 20 in tests/conformance)."""

import pytest
import torch
import toy

from alignlab.batch import Batch
from alignlab.engine.microbatch import minibatches
from alignlab.models import hidden_states, logits_at, scalar

PLAIN = {"kl_coef": 0.0, "whiten_advantages": False, "lam": 1.0, "gamma": 1.0}


def scored(base, num_rows=6, zero_critic=True, **settings):
    chosen = toy.method("ppo", **settings)
    run = toy.run_for(base, chosen)
    if zero_critic:
        torch.nn.init.zeros_(run.models["critic"].score.weight)
    records = toy.split_for(base, "prompt").train[:num_rows]
    with torch.no_grad():
        rollout = chosen.data(run, records)
        run.log()
        score = run.rewards(run, rollout)[0]
        batch = chosen.reward(run, rollout)
    return chosen, run, batch, score


def test_row_1_the_score_sits_on_the_last_acted_token_of_each_row(base):
    _, _, batch, score = scored(base, **PLAIN | {"gamma": 0.5})
    assert len(set(batch.lengths.tolist())) > 1  # so that the last column is not the last acted token
    for i in range(len(batch)):
        acted = batch.acted[i].nonzero().flatten()
        for t in acted:
            assert float(batch.returns[i, t]) == pytest.approx(float(score[i]) * 0.5 ** int(acted[-1] - t), rel=1e-5)


def test_row_2_kl_stands_in_the_reward_or_in_the_loss_and_never_in_both(base):
    def parts(kl_in, kl_coef):
        chosen, run, batch, _ = scored(base, **PLAIN | {"kl_in": kl_in, "kl_coef": kl_coef, "kl_estimator": "k2"})
        with torch.no_grad():
            return batch.returns, chosen.optimize(run, batch), batch, run, chosen

    plain_returns, plain_loss, *_ = parts("loss", 0.0)
    returns, loss, batch, run, chosen = parts("loss", 0.7)
    assert torch.equal(returns, plain_returns)
    with torch.no_grad():
        kl = 0.5 * (run.logp("policy", batch) - batch.ref_logp).square().sum()
    assert float(loss.total - plain_loss.total) == pytest.approx(0.7 * float(kl), rel=1e-3)
    returns, loss, batch, run, chosen = parts("reward", 0.7)
    assert not torch.allclose(returns, plain_returns)
    other = type(chosen)(**{**chosen.model_dump(), "kl_coef": 0.1})
    with torch.no_grad():
        assert torch.equal(other.optimize(run, batch).total, loss.total)


def test_the_kl_penalty_of_each_token_is_kl_coef_times_the_estimate(base):
    _, _, batch, score = scored(base, **PLAIN | {"kl_coef": 0.3, "gamma": 0.0})
    kl = batch.old_logp - batch.ref_logp
    last = batch.last_acted()
    expected = -0.3 * kl
    expected[torch.arange(len(batch)), last] += score
    assert float(kl.abs().max()) > 0.01
    torch.testing.assert_close(batch.returns[batch.acted], expected[batch.acted])


def test_row_7_an_answer_without_eos_pays_the_penalty(base):
    _, _, free, _ = scored(base, **PLAIN, max_new_tokens=4)
    _, _, paid, _ = scored(base, **PLAIN, max_new_tokens=4, missing_eos_penalty=2.0)
    assert not bool(free.finished.all())
    difference = (free.returns - paid.returns)[torch.arange(len(free)), free.last_acted()]
    torch.testing.assert_close(difference, 2.0 * ~free.finished)


def test_row_8_nothing_after_the_stop_token_is_acted_or_valid(base):
    chosen = toy.method("ppo", max_new_tokens=48)
    run = toy.run_for(base, chosen)
    eos = run.tokenizer.eos_token_id
    for model in run.models.values():
        model.lm_head.weight.data[eos] *= 3 if hasattr(model, "lm_head") else 1
        break
    rollout = chosen.data(run, toy.split_for(base, "prompt").train)
    ended = [i for i in range(len(rollout)) if bool(rollout.finished[i])]
    assert ended
    for i in ended:
        answer = rollout.tokens[i][rollout.acted[i]].tolist()
        assert answer[-1] == eos
        assert eos not in answer[:-1]
        assert int(rollout.valid[i].nonzero().flatten()[-1]) == int(rollout.last_acted()[i])


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_row_11_rollout_and_trainer_use_the_same_temperature(base, temperature):
    _, run, batch, _ = scored(base, temperature=temperature)
    assert run.logged()["rollout_gap"] < 1e-5
    torch.testing.assert_close(batch.old_logp, batch.sample_logp, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(run.logp("policy", batch), batch.old_logp, atol=1e-2)


def test_row_12_the_rollout_s_own_log_probs_are_used_when_asked_for(base):
    _, _, batch, _ = scored(base, old_logp="rollout")
    assert torch.equal(batch.old_logp, batch.sample_logp)


def test_row_13_the_value_of_a_token_is_that_of_the_state_before_it(base):
    _, run, batch, _ = scored(base, zero_critic=False)
    with torch.no_grad():
        after = scalar(run.models["critic"], hidden_states(run.models["critic"], batch))
        values = run.value("critic", batch)
    valid = batch.valid[:, 1:]  # padding has no value
    torch.testing.assert_close(values[:, 1:][valid], after[:, :-1][valid])
    torch.testing.assert_close(batch.values, values.where(batch.acted, 0.0))


def test_row_16_advantages_are_whitened_over_all_acted_tokens(base):
    _, _, batch, _ = scored(base, zero_critic=False)
    acted = batch.advantages[batch.acted]
    assert float(acted.mean()) == pytest.approx(0, abs=1e-5)
    assert float(acted.var(correction=0)) == pytest.approx(1, abs=1e-4)
    assert bool((batch.advantages[~batch.acted] == 0).all())


def test_row_20_per_row_averages_every_answer_over_its_tokens_first(base):
    chosen, run, batch, _ = scored(base, zero_critic=False, per="row", max_new_tokens=12)
    token = type(chosen)(**{**chosen.model_dump(), "per": "token"})
    with torch.no_grad():
        rows = [batch.select(torch.tensor([i])) for i in range(len(batch))]
        expected = sum(token.optimize(run, row).total / row.acted.sum() for row in rows)
        assert float(chosen.optimize(run, batch).total) == pytest.approx(float(expected), rel=1e-4)


def test_row_21_every_pass_is_shuffled_anew(base):
    _, run, batch, _ = scored(base, num_rows=12)
    run.begin(3)
    passes = [[part.unit.tolist() for part in minibatches(batch, 2, run.rng)] for _ in range(2)]
    assert passes[0] != passes[1]
    run.begin(3)
    assert [part.unit.tolist() for part in minibatches(batch, 2, run.rng)] == passes[0]


def test_row_22_target_kl_ends_the_passes(base):
    chosen = toy.method("ppo", target_kl=0.1)
    assert chosen.end_passes({"approx_kl": 0.2})
    assert not chosen.end_passes({"approx_kl": 0.05})
    assert not toy.method("ppo").end_passes({"approx_kl": 10.0})


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_row_24_the_entropy_is_exact_at_the_sampling_temperature(base, temperature):
    chosen, run, batch, _ = scored(base, temperature=temperature)
    with torch.no_grad():
        logits = logits_at(run.models["policy"], batch, batch.acted.roll(-1, 1)) / temperature
        expected = torch.distributions.Categorical(logits=logits).entropy().sum()
        assert float(chosen.optimize(run, batch).metrics["entropy"]) == pytest.approx(float(expected), rel=1e-4)


def test_row_25_metrics_count_acted_tokens_and_answers_only(base):
    _, run, batch, score = scored(base, zero_critic=False, **PLAIN)
    logged = run.logged()
    assert logged["score"] == pytest.approx(float(score.mean()), rel=1e-5)
    assert logged["reward/word_count"] == pytest.approx(float(score.mean()), rel=1e-5)
    assert logged["answer_length"] == pytest.approx(float(batch.acted.sum()) / len(batch))
    assert logged["finished"] == pytest.approx(float(batch.finished.float().mean()))
    kl = sum(float((batch.old_logp - batch.ref_logp)[i][batch.acted[i]].sum()) for i in range(len(batch)))
    assert logged["kl"] == pytest.approx(kl / len(batch), rel=1e-4)
    errors = (batch.returns - batch.values)[batch.acted]
    spread = batch.returns[batch.acted].var(correction=0)
    assert logged["explained_variance"] == pytest.approx(1 - float(errors.var(correction=0) / spread), rel=1e-3)


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

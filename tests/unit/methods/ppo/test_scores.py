"""PPO.md, rows 1, 2, 5 to 7 and 30: what an answer is paid."""

import json

import pytest
import torch
import toy

from alignlab import RewardError
from alignlab.rewards import FunctionReward, RewardContext, RewardModelRule, Rewards, Weighted


def paid(batch):
    """The reward at the last token, where gamma and the KL penalty are 0."""
    return batch.returns[torch.arange(len(batch)), batch.last_acted()]


def test_row_1_the_score_sits_on_the_last_acted_token_of_each_row(scored, plain):
    _, _, batch, score = scored(**plain | {"gamma": 0.5})
    assert len(set(batch.lengths.tolist())) > 1  # so that the last column is not the last acted token
    for i in range(len(batch)):
        acted = batch.acted[i].nonzero().flatten()
        for t in acted:
            assert float(batch.returns[i, t]) == pytest.approx(float(score[i]) * 0.5 ** int(acted[-1] - t), rel=1e-5)


def test_row_2_kl_stands_in_the_reward_or_in_the_loss_and_never_in_both(scored, plain):
    def parts(kl_in, kl_coef):
        chosen, run, batch, _ = scored(**plain | {"kl_in": kl_in, "kl_coef": kl_coef, "kl_estimator": "k2"})
        with torch.no_grad():
            return batch.returns, chosen.optimize(run, batch), batch, run, chosen

    plain_returns, plain_loss, *_ = parts("loss", 0.0)
    returns, loss, batch, run, chosen = parts("loss", 0.7)
    assert torch.equal(returns, plain_returns)
    with torch.no_grad():
        kl = 0.5 * (run.logp("policy", batch) - batch.ref_logp).square().sum()
    assert float(loss.total - plain_loss.total) == pytest.approx(0.7 * float(kl), rel=1e-3)
    assert float(loss.metrics["kl_loss"]) == pytest.approx(0.7 * float(kl), rel=1e-5)
    returns, loss, batch, run, chosen = parts("reward", 0.7)
    assert not torch.allclose(returns, plain_returns)
    without = type(batch)(**{**vars(batch), "kl_coef": torch.zeros(len(batch))})
    with torch.no_grad():
        assert torch.equal(chosen.optimize(run, without).total, loss.total)


def test_row_5_the_reward_is_clipped_on_both_sides(scored, plain):
    _, _, batch, score = scored(**plain, reward_clip=2.5)
    assert bool((score > 2.5).any())
    torch.testing.assert_close(paid(batch), score.clamp(-2.5, 2.5))


def test_row_5_running_normalisation_is_by_all_scores_that_the_phase_has_seen(scored, plain):
    chosen, run, batch, first = scored(**plain, normalize_rewards=True)
    torch.testing.assert_close(paid(batch), (first - first.mean()) / first.std(correction=0), atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        run.begin(2)
        rollout = chosen.data(run, list(batch.records[:3]))
        second = run.rewards(run, rollout)[0]
        seen = torch.cat([first, second]).double()
        expected = (second - seen.mean()) / seen.std(correction=0)
        torch.testing.assert_close(paid(chosen.reward(run, rollout)), expected.float(), atol=1e-5, rtol=1e-4)
    assert run.state["scores"]["num"] == len(seen)
    assert run.state["scores"]["mean"] == pytest.approx(float(seen.mean()), rel=1e-6)
    assert run.state["scores"]["squares"] == pytest.approx(float((seen - seen.mean()).square().sum()), rel=1e-6)
    json.dumps(run.state)  # a checkpoint can hold it


def test_row_5_an_evaluation_uses_the_running_statistics_and_adds_nothing_to_them(scored, plain):
    chosen, run, batch, first = scored(**plain, normalize_rewards=True)
    before = dict(run.state["scores"])
    with torch.no_grad():
        run.begin(0, train=False)
        rollout = chosen.data(run, list(batch.records[:3]))
        score = run.rewards(run, rollout)[0]
        expected = (score - first.mean()) / first.std(correction=0)
        torch.testing.assert_close(paid(chosen.reward(run, rollout)), expected, atol=1e-5, rtol=1e-4)
    assert run.state["scores"] == before


def test_row_5_rewards_are_whitened_over_the_whole_batch_without_shifting_their_mean(scored, plain):
    settings = plain | {"gamma": 0.0, "kl_coef": 0.3}
    _, _, raw, _ = scored(**settings)
    for microbatch_tokens in (50, 100_000):
        _, _, whitened, _ = scored(**settings, whiten_rewards=True, microbatch_tokens=microbatch_tokens)
        before, after = raw.returns[raw.acted], whitened.returns[whitened.acted]
        assert float(after.mean()) == pytest.approx(float(before.mean()), rel=1e-4)
        assert float(after.var(correction=0)) == pytest.approx(1, abs=1e-4)


def test_row_5_all_of_it_is_off_by_default(scored, plain):
    _, _, batch, score = scored(**plain)
    torch.testing.assert_close(paid(batch), score)


@pytest.mark.parametrize("normalize", [True, False])
def test_row_6_a_reward_model_s_score_is_taken_at_the_scale_of_its_eval_set(base, tmp_path, normalize):
    run = toy.run_for(base, toy.method("reward_model"))
    run.models["reward"].save_pretrained(tmp_path)
    run.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "alignlab.json").write_text(json.dumps({"eval": {"score_mean": 3.0, "score_square": 13.0}}))
    rule = RewardModelRule(path=str(tmp_path), normalize=normalize)
    batch = toy.method("sft").data(run, toy.split_for(base, "completion").train[:4])
    with torch.no_grad():
        score = rule.load(RewardContext({}, torch.device("cpu")))(run, batch)
        raw = run.sequence_score("reward", batch)
    torch.testing.assert_close(score, (raw - 3.0) / 2.0 if normalize else raw)


def test_row_7_an_answer_without_eos_pays_the_penalty(scored, plain):
    _, _, free, _ = scored(**plain, max_new_tokens=4)
    _, run, charged, _ = scored(**plain, max_new_tokens=4, missing_eos_penalty=2.0)
    assert not bool(free.finished.all())
    torch.testing.assert_close(paid(free) - paid(charged), 2.0 * ~free.finished)
    assert run.logged()["finished"] == pytest.approx(float(free.finished.float().mean()))


def test_row_7_clipping_does_not_swallow_the_penalty(scored, plain):
    _, _, batch, score = scored(**plain, max_new_tokens=4, reward_clip=0.5, missing_eos_penalty=2.0)
    torch.testing.assert_close(paid(batch), score.clamp(-0.5, 0.5) - 2.0 * ~batch.finished)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_row_30_a_reward_that_is_no_number_stops_the_run_with_its_name_and_the_prompt(base, value):
    chosen = toy.method("ppo")
    run = toy.run_for(base, chosen)

    def broken(prompts, **columns):
        if value is None:
            raise KeyError("no such column")
        return [value] * len(prompts)

    run.rewards = Rewards((Weighted("helpfulness", FunctionReward(broken)),))
    with pytest.raises(RewardError, match="helpfulness") as raised, torch.no_grad():
        chosen.reward(run, chosen.data(run, toy.split_for(base, "prompt").train[:2]))
    assert "prompt" in str(raised.value)

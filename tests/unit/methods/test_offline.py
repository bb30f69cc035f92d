"""SFT and the reward model on the toy: each loss is what its formula says, from the model's own log-probs."""

import pytest
import torch
import torch.nn.functional as F
import toy


def prepared(base, name, **settings):
    chosen = toy.method(name, **settings)
    run = toy.run_for(base, chosen)
    batch = toy.collect(run, chosen, toy.split_for(base, chosen.rows).train[:4])
    return chosen, run, batch


def log_probs(run, role, batch):
    with torch.no_grad():
        logits = run.models[role](input_ids=batch.tokens, attention_mask=batch.valid.long()).logits.double()
    logp = logits[:, :-1].log_softmax(-1).gather(-1, batch.tokens[:, 1:, None]).squeeze(-1)
    return logp.where(batch.acted[:, 1:], 0.0).sum(1)


def test_sft_is_the_cross_entropy_of_the_answers_and_their_end(base):
    chosen, run, batch = prepared(base, "sft")
    with torch.no_grad():
        loss = chosen.optimize(run, batch)
    assert float(loss.total) == pytest.approx(-float(log_probs(run, "policy", batch).sum()), rel=1e-5)
    eos = run.tokenizer.eos_token_id
    for i in range(len(batch)):
        answer = batch.tokens[i][batch.acted[i]].tolist()
        assert answer[-1] == eos
        text = run.tokenizer.decode(answer[:-1])
        assert text == batch.records[i].columns["completion"][-1]["content"]


def test_the_reward_model_is_bradley_terry_on_scores_after_the_last_token(base):
    chosen, run, batch = prepared(base, "reward_model", center_coef=0.0)
    with torch.no_grad():
        model = run.models["reward"]
        scores = torch.stack(
            [model(input_ids=batch.tokens[i : i + 1, : int(n)]).logits[0, 0] for i, n in enumerate(batch.lengths)]
        )
        loss = chosen.optimize(run, batch)
    margin = scores[0::2] - scores[1::2]
    assert float(loss.total) == pytest.approx(float(-F.logsigmoid(margin).sum()), rel=1e-4)
    assert float(loss.metrics["score_mean"]) / 4 == pytest.approx(float(scores.mean()), rel=1e-4)
    assert float(loss.metrics["score_square"]) / 4 == pytest.approx(float(scores.square().mean()), rel=1e-4)
    assert float(loss.metrics["accuracy"]) == float((margin > 0).sum())


def test_centering_adds_the_square_of_the_sum(base):
    plain, run, batch = prepared(base, "reward_model", center_coef=0.0)
    centred = toy.method("reward_model", center_coef=0.5)
    with torch.no_grad():
        scores = run.sequence_score("reward", batch)
        difference = centred.optimize(run, batch).total - plain.optimize(run, batch).total
    expected = 0.5 * (scores[0::2] + scores[1::2]).square().sum()
    assert float(difference) == pytest.approx(float(expected), rel=1e-3)

"""Reward models as rewards: their scale, ensembles of them, and those that score steps."""

import logging

import pytest
import torch
import toy
from pydantic import ValidationError

from alignlab.engine.files import write_json
from alignlab.errors import RewardError
from alignlab.models import load_tokenizer, save_model
from alignlab.rewards import ProcessRewardRule, RewardContext, RewardEnsembleRule, RewardModelRule, Rewards, Weighted


def save_scorer(base, directory, seed=1, **about):
    """A reward model with random weights, and what alignlab says of it."""
    run = toy.run_for(base, toy.method("reward_model"))
    model = run.models["reward"]
    rng = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng)
    save_model(model, load_tokenizer(str(base)), directory)
    write_json(directory / "alignlab.json", {"method": "reward_model", "rows": "preference", **about})
    return model


@pytest.fixture(scope="module")
def scorers(base, tmp_path_factory):
    """Three reward models: phases rm1, rm2 and rm3, with scales of their own."""
    home = tmp_path_factory.mktemp("scorers")
    scales = {"rm1": (0.5, 0.5), "rm2": (-1.0, 2.0), "rm3": (0.0, 1.0)}
    for seed, (name, (mean, std)) in enumerate(scales.items()):
        save_scorer(base, home / name, seed, eval={"score_mean": mean, "score_square": mean**2 + std**2})
    return RewardContext({name: home / name for name in scales}, torch.device("cpu"), name="rm")


def test_row_6_a_trained_reward_model_is_normalised_by_what_it_measured(base, tmp_path, rollout):
    run, batch = rollout
    model = save_scorer(base, tmp_path / "rm", eval={"score_mean": 3.0, "score_square": 13.0})
    context = RewardContext({"rm": tmp_path / "rm"}, torch.device("cpu"))
    raw = RewardModelRule(**{"from": "rm"}, normalize=False).load(context)(run, batch)
    alone = [batch.tokens[i : i + 1][:, batch.valid[i]] for i in range(len(batch))]
    with torch.no_grad():
        expected = torch.stack([model(input_ids=tokens).logits[0, 0] for tokens in alone])
    torch.testing.assert_close(raw, expected)
    scaled = RewardModelRule(path=str(tmp_path / "rm")).load(context)(run, batch)
    torch.testing.assert_close(scaled, (raw - 3.0) / 2.0)


def test_a_scale_that_was_never_measured_is_said(base, tmp_path, rollout, caplog):
    save_scorer(base, tmp_path / "rm", eval={})
    with caplog.at_level(logging.WARNING, "alignlab"):
        RewardModelRule(path=str(tmp_path / "rm")).load(RewardContext({}, torch.device("cpu")))
    assert "no scale was measured" in caplog.text


def test_a_model_that_scores_every_answer_alike_stops_the_run(base, tmp_path):
    save_scorer(base, tmp_path / "rm", eval={"score_mean": 2.0, "score_square": 4.0})
    with pytest.raises(RewardError, match="gave every held-out answer the same score"):
        RewardModelRule(path=str(tmp_path / "rm")).load(RewardContext({}, torch.device("cpu")))


def test_an_ensemble_is_the_mean_of_normalised_scores_less_k_deviations(scorers, rollout):
    run, batch = rollout
    members = torch.stack([RewardModelRule(**{"from": name}).load(scorers)(run, batch) for name in scorers.models])
    run.logged()
    for k in (0.0, 1.5):
        scores = RewardEnsembleRule(**{"from": ["rm1", "rm2", "rm3"]}, k=k).load(scorers)(run, batch)
        deviation = (members - members.mean(0)).square().mean(0).sqrt()
        torch.testing.assert_close(scores, members.mean(0) - k * deviation)
        assert run.logged() == {"disagreement/rm": pytest.approx(float(deviation.mean()))}
    assert float(deviation.min()) > 0


def test_an_ensemble_can_be_of_directories_and_as_they_score(scorers, rollout):
    run, batch = rollout
    paths = [str(path) for path in scorers.models.values()]
    raw = torch.stack([RewardModelRule(path=path, normalize=False).load(scorers)(run, batch) for path in paths])
    found = RewardEnsembleRule(path=paths, normalize=False).load(scorers)(run, batch)
    torch.testing.assert_close(found, raw.mean(0))


@pytest.mark.parametrize("members", [["rm1"], ["rm1", "rm1"], []])
def test_an_ensemble_of_one_is_refused(members):
    with pytest.raises(ValidationError, match="two reward models or more"):
        RewardEnsembleRule(**{"from": members})


@pytest.fixture(scope="module")
def stepper(base, tmp_path_factory):
    home = tmp_path_factory.mktemp("stepper") / "prm"
    model = save_scorer(base, home, seed=5, method="process_reward_model", rows="steps")
    return model, RewardContext({"prm": home}, torch.device("cpu"), name="prm")


@pytest.fixture
def answers(base):
    """Demonstrations as if they had been sampled: answers of several sentences."""
    chosen = toy.method("sft")
    run = toy.run_for(base, chosen)
    records = toy.split_for(base, "completion").train
    long = [r for r in records if r.columns["completion"][-1]["content"].count(". ") >= 2][:3]
    return run, chosen.data(run, long), [r.columns["completion"][-1]["content"] for r in long]


def test_the_steps_of_an_answer_are_scored_in_turn_and_made_one(stepper, answers):
    model, context = stepper
    run, batch, texts = answers
    expected = {"min": [], "product": [], "mean": []}
    for i, text in enumerate(texts):
        tokens = batch.tokens[i][batch.valid[i] & ~batch.acted[i]].tolist()  # the prompt
        chances = []
        for step in text.replace(". ", ".|").split("|"):
            tokens += run.tokenizer(step, add_special_tokens=False)["input_ids"]
            tokens += run.tokenizer("\n", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                chances.append(float(model(input_ids=torch.tensor([tokens])).logits[0, 0].sigmoid()))
        assert len(chances) > 2
        expected["min"].append(min(chances))
        expected["product"].append(torch.tensor(chances).prod().item())
        expected["mean"].append(sum(chances) / len(chances))
    for over_steps, values in expected.items():
        rule = ProcessRewardRule(**{"from": "prm"}, over_steps=over_steps, split=r"(?<=\.) ")
        assert rule.load(context)(run, batch).tolist() == pytest.approx(values, rel=1e-4)


def test_an_answer_that_says_nothing_is_one_empty_step(stepper, answers):
    model, context = stepper
    run, batch, _ = answers
    empty = batch.map(lambda x: x)
    empty.acted[0] = False
    empty.tokens[0, int(batch.last_acted()[0])] = run.tokenizer.eos_token_id
    score = ProcessRewardRule(**{"from": "prm"}).load(context)(run, empty)
    tokens = [*batch.records[0].samples["prompt"].tokens, *run.tokenizer("\n", add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        assert float(score[0]) == pytest.approx(
            float(model(input_ids=torch.tensor([tokens])).logits[0, 0].sigmoid()), rel=1e-4
        )


def test_a_model_of_steps_and_one_of_answers_are_not_taken_for_each_other(stepper, scorers):
    _, context = stepper
    with pytest.raises(RewardError, match="trained to score steps, not whole answers") as raised:
        RewardModelRule(**{"from": "prm"}).load(context)
    assert "use: process_reward" in raised.value.do
    with pytest.raises(RewardError, match="trained on whole answers, not on steps") as raised:
        ProcessRewardRule(**{"from": "rm1"}).load(scorers)
    assert "use: reward_model" in raised.value.do


def test_a_model_whose_score_is_nan_does_not_abstain_but_stops_the_run(base, tmp_path, rollout):
    run, batch = rollout
    save_scorer(base, tmp_path / "rm", eval={})
    reward = RewardModelRule(path=str(tmp_path / "rm"), normalize=False).load(RewardContext({}, torch.device("cpu")))
    token = int(batch.tokens[1][batch.acted[1]][0])  # of the second answer, and of no row before it
    assert token not in batch.tokens[0][batch.valid[0]]
    reward.model.get_input_embeddings().weight.data[token] = torch.nan
    with pytest.raises(RewardError, match="reward 'rm': the reward model's score is nan") as raised:
        Rewards((Weighted("rm", reward), Weighted("one", lambda run, batch: torch.ones(len(batch)))))(run, batch)
    assert batch.records[1].where in raised.value.where


def test_a_reward_model_without_a_scalar_head_is_none(base, rollout):
    with pytest.raises(RewardError, match="this is no reward model: it has no scalar head"):
        RewardModelRule(path=str(base)).load(RewardContext({}, torch.device("cpu")))


def test_a_process_reward_s_pattern_is_checked():
    with pytest.raises(ValidationError, match="is no regular expression"):
        ProcessRewardRule(path="prm", split="(")


def test_rewards_of_every_kind_add_up(scorers, stepper, rollout):
    parts = (
        Weighted("rm", RewardEnsembleRule(**{"from": ["rm1", "rm2"]}).load(scorers), 1.0),
        Weighted("steps", ProcessRewardRule(**{"from": "prm"}).load(stepper[1]), 0.5),
    )
    total, components = Rewards(parts)(*rollout)
    torch.testing.assert_close(total, components["rm"] + 0.5 * components["steps"])

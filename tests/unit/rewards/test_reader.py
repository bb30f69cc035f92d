"""PPO.md row 27: a policy and a reward model with different tokenizers, templates or contexts."""

import logging
from dataclasses import replace

import pytest
import torch
import toy

from alignlab.config.recipe import NewModelSettings
from alignlab.errors import RewardError
from alignlab.method import Rollout
from alignlab.models import load_model, load_tokenizer, new_model, sequence_scores
from alignlab.models.source import say_once
from alignlab.rewards import Rewards, Weighted
from alignlab.rewards.model import TrainedReward
from alignlab.rewards.reader import Reader

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}" \
    "{% if add_generation_prompt %}<assistant>{% endif %}"  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A reward model whose tokenizer learned other words, with a template of its own."""
    home = tmp_path_factory.mktemp("other") / "rm"
    settings = NewModelSettings(hidden_size=32, num_layers=1, num_heads=2, vocab_size=300, context_length=256)
    new_model(settings, ["other words altogether, and no answers"] * 9, home, seed=0)
    tokenizer = load_tokenizer(str(home))
    tokenizer.chat_template = TEMPLATE
    model = load_model(str(home), "scalar", dtype=torch.float32, device=torch.device("cpu"))
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    return model.requires_grad_(False), tokenizer


@pytest.fixture
def answers(base):
    """Demonstrations as if they had been sampled; the second did not end by itself."""
    chosen = toy.method("sft")
    run = toy.run_for(base, chosen)
    batch = chosen.data(run, toy.split_for(base, "completion").train[:3])
    batch.acted[1, int(batch.last_acted()[1])] = False
    batch.valid[1] = batch.valid[1] & (batch.acted[1] | (torch.arange(batch.tokens.shape[1]) <= batch.last_acted()[1]))
    finished = torch.tensor([True, False, True])
    return run, Rollout(**vars(batch), sample_logp=torch.zeros(batch.tokens.shape), finished=finished)


def reward_of(model, tokenizer, context=256):
    return TrainedReward(model, Reader(tokenizer, context, "the/other", "rm"), 0.0, 1.0, 4096)


def test_row_27_answers_are_scored_in_the_reward_model_s_own_tokens_and_template(answers, other):
    run, batch = answers
    model, tokenizer = other
    expected = []
    for i, record in enumerate(batch.records):
        answer = run.tokenizer.decode(batch.tokens[i][batch.acted[i]], skip_special_tokens=True)
        turns = [*record.columns["prompt"], {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        text = text.removesuffix(tokenizer.eos_token) if i == 1 else text  # what did not end has no end here either
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        expected.append(float(model(input_ids=ids).logits[0, 0]))
    scores = Rewards((Weighted("rm", reward_of(model, tokenizer)),))(run, batch)[0]
    assert scores.tolist() == pytest.approx(expected, rel=1e-4)


def test_the_other_tokenizer_is_said_once(answers, other, caplog):
    say_once.cache_clear()
    reward = reward_of(*other)
    with caplog.at_level(logging.WARNING, "alignlab"):
        reward(*answers)
        reward(*answers)
    assert caplog.text.count("another tokenizer, chat template or context than the policy") == 1
    assert "the/other" in caplog.text


def test_the_policy_s_own_tokens_are_scored_as_they_are(answers, base):
    run, batch = answers
    reader = Reader(load_tokenizer(str(base)), 128, "the/same", "rm")
    assert reader.read(run, batch) is batch


def test_decoding_and_tokenizing_anew_gives_the_same_tokens_where_tokenizers_are_the_same(answers, base):
    run, batch = answers
    again = Reader(load_tokenizer(str(base)), 128, "the/same", "rm").retokenized(run, batch)
    for i in range(len(batch)):
        assert again.tokens[i][again.valid[i]].tolist() == batch.tokens[i][batch.valid[i]].tolist()
        assert again.acted[i][again.valid[i]].tolist() == batch.acted[i][batch.valid[i]].tolist()


def test_the_same_vocabulary_with_another_template_is_read_anew(answers, base):
    run, batch = answers
    tokenizer = load_tokenizer(str(base))
    tokenizer.chat_template = TEMPLATE
    read = Reader(tokenizer, 128, "the/template", "rm").read(run, batch)
    assert "<assistant>" in tokenizer.decode(read.tokens[0])


def test_a_conversation_without_a_template_for_it_stops_the_run(answers, other):
    model, tokenizer = other
    bare = load_tokenizer(tokenizer.name_or_path)
    bare.chat_template = None
    with pytest.raises(RewardError, match="reward 'rm': the data is conversational") as raised:
        Rewards((Weighted("rm", reward_of(model, bare)),))(*answers)
    assert raised.value.where == "the/other"
    assert "set chat_template" in raised.value.do


def test_a_template_that_refuses_the_conversation_names_the_row(answers, other):
    model, tokenizer = other
    strict = load_tokenizer(tokenizer.name_or_path)
    strict.chat_template = "{{ raise_exception('no system turns here') }}"
    with pytest.raises(RewardError, match=r"cannot read an answer: .*no system turns here") as raised:
        reward_of(model, strict)(*answers)
    assert answers[1].records[0].where in raised.value.where


def test_a_long_prompt_is_cut_at_its_start_and_counted(answers, other, caplog):
    run, batch = answers
    _, tokenizer = other
    whole = Reader(tokenizer, 256, "the/other", "rm").retokenized(run, batch)
    context = int(whole.lengths.max()) - 1
    run.logged()
    say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "alignlab"):
        cut = Reader(tokenizer, context, "the/short", "rm").read(run, batch)
    assert int(cut.lengths.max()) == context
    assert run.logged() == {"prompt_cut/rm": pytest.approx(float((whole.lengths > context).float().mean()))}
    assert f"to fit this reward model's {context} tokens" in caplog.text
    longest = int(whole.lengths.argmax())
    assert cut.tokens[longest][cut.acted[longest]].tolist() == whole.tokens[longest][whole.acted[longest]].tolist()


def test_an_answer_over_the_reward_model_s_context_stops_the_run(answers, other):
    run, batch = answers
    with pytest.raises(RewardError, match="it alone is over the 6 tokens that the model takes") as raised:
        reward_of(*other, context=6)(run, batch)
    assert "lower `max_new_tokens`" in raised.value.do
    assert "answer" in raised.value.where


def test_a_policy_s_answers_without_records_are_decoded_with_their_prompts(answers, other):
    run, batch = answers
    model, tokenizer = other
    bare = replace(batch, records=())
    read = Reader(tokenizer, 256, "the/other", "rm").read(run, bare)
    text = tokenizer.decode(read.tokens[0][read.valid[0]], skip_special_tokens=True)
    assert text == run.tokenizer.decode(batch.tokens[0][batch.valid[0]], skip_special_tokens=True)
    assert torch.isfinite(sequence_scores(model, read)).all()

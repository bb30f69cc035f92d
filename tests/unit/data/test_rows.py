"""Every row format, through to samples."""

import pytest

from alignlab.data import prompt_record
from alignlab.errors import DataError

USER = [{"role": "user", "content": "hello"}]
HI, NO = [{"role": "assistant", "content": "hi"}], [{"role": "assistant", "content": "no"}]


def test_a_text_prompt_and_its_completion_are_tokenized_apart_and_end_with_eos(load, plain, said):
    sample = load([{"prompt": "what is", "completion": " it"}], "completion").train[0].samples["completion"]
    alone = plain("what is", add_special_tokens=False)["input_ids"]
    assert list(sample.tokens[: len(alone)]) == alone
    assert sample.acted[: len(alone)] == (False,) * len(alone)
    assert said(plain, sample) == " it</s>"


def test_a_text_prompt_begins_with_bos_once_and_only_if_there_is_one(load, llama, plain):
    rows = [{"prompt": "what", "completion": " it"}]
    with_bos = load(rows, "completion", llama).train[0].samples
    assert with_bos["prompt"].tokens.count(llama.bos_token_id) == 1
    assert with_bos["prompt"].tokens[0] == with_bos["completion"].tokens[0] == llama.bos_token_id
    without = load(rows, "completion").train[0].samples
    assert plain.decode(without["prompt"].tokens) == "what"


def test_an_answer_that_ends_with_eos_gets_no_second_one(load, plain, said):
    sample = load([{"prompt": "a", "completion": " b</s>"}], "completion").train[0].samples["completion"]
    assert said(plain, sample) == " b</s>"


def test_every_token_of_plain_text_is_acted_but_bos(load, llama, said):
    sample = load([{"text": "it is paris ."}], "completion", llama).train[0].samples["completion"]
    assert said(llama, sample) == "it is paris .</s>"
    assert sample.acted[0] is False and sum(sample.acted) == len(sample) - 1


def test_a_pair_holds_both_answers_after_one_prompt(load, plain, said):
    record = load([{"prompt": "a", "chosen": " b", "rejected": " c", "id": 7}], "preference").train[0]
    assert said(plain, record.samples["chosen"]) == " b</s>"
    assert said(plain, record.samples["rejected"]) == " c</s>"
    num = len(record.samples["prompt"])
    assert record.samples["chosen"].tokens[:num] == record.samples["rejected"].tokens[:num]
    assert record.columns == {"prompt": "a", "chosen": " b", "rejected": " c", "id": 7}


def test_an_implicit_text_prompt_is_what_the_answers_share(load, plain, said):
    record = load([{"chosen": "what is it ? a b", "rejected": "what is it ? c"}], "preference").train[0]
    assert plain.decode(record.samples["prompt"].tokens) == "what is it ?"
    assert said(plain, record.samples["chosen"]) == " a b</s>"
    assert record.columns["prompt"] == "what is it ?" and record.columns["chosen"] == " a b"


def test_an_implicit_conversation_is_what_the_dialogues_share(load, chatml, said):
    record = load([{"chosen": USER + HI, "rejected": USER + NO}], "preference", chatml).train[0]
    assert record.columns["prompt"] == USER
    assert said(chatml, record.samples["rejected"]) == "no<|im_end|>"


def test_whole_dialogues_beside_a_text_prompt_give_the_prompt_and_that_is_said(load, chatml):
    split = load([{"prompt": "hello", "chosen": USER + HI, "rejected": USER + NO}], "preference", chatml)
    assert split.train[0].columns["prompt"] == USER
    assert "1 row: prompt taken from the turns that `chosen` and `rejected` share" in str(split.summary)


def test_dialogues_that_part_early_have_answers_of_several_turns_and_that_is_said(load, chatml, said):
    more = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}]
    split = load([{"chosen": USER + HI + more, "rejected": USER + HI}], "preference", chatml)
    assert said(chatml, split.train[0].samples["chosen"]) == "hi<|im_end|>so<|im_end|>"
    assert "answers of several turns (row 1)" in str(split.summary)


def test_a_text_answer_to_a_conversation_is_the_assistants_turn(load, chatml, said):
    record = load([{"prompt": USER, "completion": "hi"}], "completion", chatml).train[0]
    assert record.columns["completion"] == HI
    assert said(chatml, record.samples["completion"]) == "hi<|im_end|>"


def test_a_labelled_row_keeps_its_label_as_true_or_false(load, write):
    path = write("data.csv", "prompt,completion,label\na, b,True\na, c,0\n")
    assert [record.columns["label"] for record in load(path, "label").train] == [True, False]


def test_a_ranked_row_has_a_sample_for_each_completion(load, plain, said):
    rows = [{"prompt": "a", "completions": [" b", " c", " d"], "ranks": [2, 1, 3]}]
    record = load(rows, "ranked").train[0]
    assert [said(plain, record.samples[f"completions.{i}"]) for i in range(3)] == [" b</s>", " c</s>", " d</s>"]
    assert record.columns["ranks"] == [2, 1, 3]


def test_a_row_of_steps_is_one_answer_scored_at_the_end_of_each_step(load, plain):
    rows = [{"prompt": "what is it ?", "completions": [" a b", " c"], "labels": [1, "false"]}]
    record = load(rows, "steps").train[0]
    sample = record.samples["completion"]
    assert plain.decode(sample.tokens) == "what is it ? a b\n c\n</s>"
    ends = [i for i, acted in enumerate(sample.acted) if acted]
    assert [plain.decode(sample.tokens[: end + 1]) for end in ends] == ["what is it ? a b\n", "what is it ? a b\n c\n"]
    assert record.columns["labels"] == [True, False]


def test_the_steps_of_an_answer_to_a_conversation_follow_the_templates_prompt(load, chatml):
    rows = [{"prompt": USER, "completions": ["a b", "c"], "labels": [True, True]}]
    sample = load(rows, "steps", chatml).train[0].samples["completion"]
    asked = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert chatml.decode(sample.tokens) == f"{asked}a b\nc\n<|im_end|>"
    assert sum(sample.acted) == 2


def test_steps_are_tokenized_apart_also_by_sentencepiece_and_without_a_prompt(load, make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>", sentencepiece=True)
    rows = [{"prompt": "what", "completions": ["is it", "a"], "labels": [True, True]}]
    sample = load(rows, "steps", tokenizer).train[0].samples["completion"]
    newline = tokenizer("a\n", add_special_tokens=False)["input_ids"][-1]
    assert [t for t, acted in zip(sample.tokens, sample.acted, strict=True) if acted] == [newline, newline]
    bare = load([{**rows[0], "prompt": ""}], "steps", tokenizer, allow=("no_prompt",)).train[0].samples["completion"]
    assert bare.tokens[0] == tokenizer.bos_token_id and sum(bare.acted) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "what is it ?", "completion": " a", "label": True},
        {"chosen": "what is it ? a", "rejected": "what is it ? b"},
        {"prompt": "what is it ?", "completions": [" a"], "ranks": None},
    ],
)
def test_any_row_with_a_prompt_serves_a_method_that_wants_prompts(load, plain, row):
    record = load([row], "prompt").train[0]
    assert plain.decode(record.samples["prompt"].tokens) == record.columns["prompt"] == "what is it ?"
    assert list(record.samples) == ["prompt"]


def test_a_pair_serves_completions_with_its_chosen_answer_and_that_is_said_once(load, plain, said):
    split = load([{"prompt": "a", "chosen": " b", "rejected": " c"}] * 2, "completion")
    assert said(plain, split.train[0].samples["completion"]) == " b</s>"
    assert str(split.summary).count("completion taken from `chosen`") == 1


def test_nothing_else_is_converted(load):
    with pytest.raises(DataError, match="the rows want `chosen` \\+ `rejected`; columns found: `completion`, `prompt`"):
        load([{"prompt": "a", "completion": " b"}], "preference")


def test_a_label_that_is_not_looked_at_is_said(load):
    split = load([{"prompt": "a", "completion": " b", "label": False}], "completion")
    assert "`label` is not looked at: every completion is learned from" in str(split.summary)


def test_the_source_prompts_leaves_the_answers_out(load):
    record = load([{"prompt": "a", "completion": " b", "gold": 3}], "prompt", source="prompts").train[0]
    assert record.columns == {"prompt": "a", "gold": 3}
    with pytest.raises(DataError, match="columns found: `gold`, `prompt`"):
        load([{"prompt": "a", "completion": " b", "gold": 3}], "completion", source="prompts")


def test_rows_without_a_prompt_are_taken_if_the_recipe_allows_them(load, llama, said):
    split = load([{"chosen": "b", "rejected": "c"}], "preference", llama, allow=("no_prompt",))
    sample = split.train[0].samples["chosen"]
    assert sample.tokens[0] == llama.bos_token_id and said(llama, sample) == "b</s>"


def test_null_keys_of_a_turn_are_not_there_for_the_template(load, chatml):
    turns = [{"role": "user", "content": "hello", "tool_calls": None}, *HI]
    assert load([{"messages": turns}], "completion", chatml).train[0].columns["prompt"] == USER


def test_a_typed_prompt_is_the_users_turn_if_the_tokenizer_chats(chatml, plain):
    assert chatml.decode(prompt_record("hello", chatml).samples["prompt"].tokens) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert plain.decode(prompt_record("hello", plain).samples["prompt"].tokens) == "hello"

import pytest

from alignlab.data import DEFAULT_TEMPLATE, stop_tokens
from alignlab.errors import DataError

TURNS = [
    {"role": "user", "content": "what is it ?"},
    {"role": "assistant", "content": "paris"},
    {"role": "user", "content": "how"},
    {"role": "assistant", "content": "it is"},
]


def completion(load, tokenizer, turns=TURNS):
    return load([{"messages": turns}], "completion", tokenizer).train[0].samples["completion"]


def test_only_the_assistants_turns_and_their_ends_are_acted(load, chatml, said):
    sample = completion(load, chatml)
    assert said(chatml, sample) == "paris<|im_end|>it is<|im_end|>"


def test_what_the_template_puts_after_the_last_end_of_turn_is_left_out(load, chatml):
    text = chatml.decode(completion(load, chatml).tokens)
    assert text == chatml.apply_chat_template(TURNS, tokenize=False).removesuffix("\n")


def test_the_tokens_of_a_prompt_are_those_that_generation_sees(load, chatml):
    rows = [{"prompt": TURNS[:3], "completion": TURNS[3:]}]
    record = load(rows, "completion", chatml).train[0]
    wanted = chatml.apply_chat_template(TURNS[:3], add_generation_prompt=True, return_dict=False)
    num = len(record.samples["prompt"])
    assert list(record.samples["prompt"].tokens) == wanted == list(record.samples["completion"].tokens[:num])
    assert load(rows, "prompt", chatml).train[0].samples["prompt"] == record.samples["prompt"]


def test_a_template_that_holds_bos_gets_no_second_one(load, llama, said):
    sample = completion(load, llama)
    assert sample.tokens.count(llama.bos_token_id) == 1
    assert llama.decode(sample.tokens) == "<s>[INST] what is it ? [/INST] paris</s>[INST] how [/INST] it is</s>"
    assert said(llama, sample) == " paris</s> it is</s>"


def test_without_a_template_alignlabs_own_is_used_and_that_is_said(load, plain, said):
    split = load([{"messages": [{"role": "system", "content": "a"}, *TURNS]}], "completion", plain)
    sample = split.train[0].samples["completion"]
    assert plain.decode(sample.tokens) == (
        "System:\na\n\nHuman:\nwhat is it ?\n\nAssistant:\nparis</s>\n\nHuman:\nhow\n\nAssistant:\nit is</s>"
    )
    assert said(plain, sample) == "paris</s>it is</s>"
    assert "the tokenizer has no chat template: alignlab's own is used" in str(split.summary)
    assert split.summary.default_template


def test_the_default_template_as_a_tokenizers_own_gives_the_same_tokens(load, plain, make_tokenizer):
    assert completion(load, make_tokenizer(DEFAULT_TEMPLATE)) == completion(load, plain)


def test_a_template_without_an_end_of_turn_gets_eos_and_that_is_said(load, make_tokenizer, said):
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    tokenizer = make_tokenizer(template)
    split = load([{"messages": TURNS}], "completion", tokenizer)
    text = said(tokenizer, split.train[0].samples["completion"])
    assert text == "assistant: paris\nassistant: it is\n</s>"
    assert "ends the assistant's turn with no special token: EOS is put there" in str(split.summary)


def test_a_turn_that_changes_when_another_follows_names_the_template_and_the_row(load, forgetful):
    forgetful.name_or_path = "some/forgetful-model"
    with pytest.raises(DataError) as caught:
        load([{"messages": TURNS[:2]}, {"messages": TURNS}], "completion", forgetful)
    assert "1 of 2 rows cannot be used:\n  row 2: the chat template of some/forgetful-model renders" in str(
        caught.value
    )


def test_the_same_template_serves_rows_with_one_answer(load, forgetful, said):
    record = load([{"prompt": TURNS[:3], "completion": TURNS[3:]}], "completion", forgetful).train[0]
    assert said(forgetful, record.samples["completion"]) == "<think>\nit is<|im_end|>"


def test_what_a_template_refuses_is_said_with_the_row(load, llama):
    with pytest.raises(
        DataError, match=r"row 1: the chat template of .* refuses this conversation: roles must alternate"
    ):
        load([{"messages": [TURNS[0], *TURNS]}], "completion", llama)


def test_a_tokenizer_that_puts_a_space_first_puts_none_into_the_middle(load, make_tokenizer, said):
    tokenizer = make_tokenizer("{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}", sentencepiece=True)
    sample = load([{"prompt": "what\n", "completion": "it is"}], "completion", tokenizer).train[0].samples["completion"]
    pieces = tokenizer.convert_ids_to_tokens(sample.tokens)
    assert "".join(pieces) == "▁what\nit▁is</s>"


def test_an_answer_ends_with_eos_or_with_what_the_template_ends_a_turn_with(chatml, plain, make_tokenizer):
    ids = chatml.convert_tokens_to_ids
    assert stop_tokens(chatml) == {ids("<|im_end|>")}
    assert stop_tokens(plain) == {ids("</s>")}
    assert stop_tokens(make_tokenizer(chatml.chat_template, eos="</s>")) == {ids("<|im_end|>"), ids("</s>")}

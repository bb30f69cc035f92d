import json
from pathlib import Path

import pytest

from alignlab.data.adapters import parse_dialogue
from alignlab.errors import DataError

HH = Path(__file__).parents[4] / "shared/data/hh-rlhf-harmless-base-test.jsonl.gz"
real = pytest.mark.skipif(not HH.is_file(), reason="the real file is not here")


def test_a_dialogue_is_cut_at_its_speakers():
    assert parse_dialogue("\n\nHuman: a\n\nb\n\nAssistant: c: Human: d") == (
        [{"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "c: Human: d"}],
        False,
    )


def test_two_turns_of_one_speaker_in_a_row_are_joined():
    assert parse_dialogue("\n\nHuman: a\n\nAssistant: b\n\nAssistant:  c") == (
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n\nc"}],
        True,
    )


@real
def test_all_real_rows_but_those_with_an_empty_answer_are_kept(load, chatml):
    split = load(HH, "preference", chatml, source="hh", bad_rows="drop", context_length=8192)
    (summary,) = split.summary.sources
    assert (summary.num_read, summary.num_kept, len(split.train)) == (2312, 2308, 2308)
    text = str(split.summary)
    assert "4 rows: dropped, `chosen` is empty (`bad_rows: drop`) (rows 87, 517, 926, 1104)" in text
    # of these 9, the 5 in which only one of the two dialogues has it seemed to part before the last turn
    assert "9 rows: turns of one speaker in a row, joined (rows 668, 764, 1255, 1320, 1689 and 4 more)" in text
    assert "answers of several turns" not in text
    assert {len(record.columns["chosen"]) for record in split.train} == {1}


@real
def test_an_empty_answer_of_a_real_row_stops_the_run_unless_dropped(load, plain):
    with pytest.raises(DataError, match=r"4 of 2,312 rows cannot be used:\n  row 87: `chosen` is empty"):
        load(HH, "preference", plain, source="hh", context_length=8192)


@real
def test_a_real_pair_shares_its_prompt_and_acts_on_the_last_turn(load, chatml, said):
    record = load(HH, "preference", chatml, source="hh", limit=1, context_length=8192).train[0]
    assert [turn["role"] for turn in record.columns["prompt"]] == ["user", "assistant"] * 2 + ["user"]
    assert said(chatml, record.samples["chosen"]).startswith("No, sorry!  All of these involve a pen")
    assert said(chatml, record.samples["rejected"]).endswith("really funny.<|im_end|>")


@real
def test_phases_over_one_real_file_hold_out_the_same_prompts(load, chatml):
    keys = {"source": "hh", "bad_rows": "drop", "overlong": "drop", "max_length": 700, "context_length": 1024}
    trains, evals = set(), set()
    for want in ("completion", "preference", "prompt"):
        split = load(HH, want, chatml, eval=0.2, limit=600, **keys)
        trains |= {json.dumps(record.columns["prompt"]) for record in split.train}
        evals |= {json.dumps(record.columns["prompt"]) for record in split.eval}
    assert not trains & evals and len(evals) > 100


def test_alpaca_joins_instruction_and_input(load, chatml, said):
    rows = [
        {"instruction": "add", "input": "1 2", "output": "3", "id": 1},
        {"instruction": "go", "input": "", "output": "x"},
    ]
    train = load(rows, "completion", chatml, source="alpaca").train
    assert train[0].columns["prompt"] == [{"role": "user", "content": "add\n\n1 2"}]
    assert train[1].columns["prompt"] == [{"role": "user", "content": "go"}]
    assert said(chatml, train[0].samples["completion"]) == "3<|im_end|>" and train[0].columns["id"] == 1


def test_alpaca_without_its_columns_names_the_nearest(load):
    with pytest.raises(
        DataError, match=r"wants the columns `instruction`, `output`(?s:.*)`output` is missing: did you mean 'outptu'"
    ):
        load([{"instruction": "a", "outptu": "b"}], "completion", source="alpaca")


def test_an_adapter_offers_no_renaming_that_it_does_not_have(load):
    with pytest.raises(DataError, match=r"`chosen` is missing: did you mean 'choosen'\?$"):
        load([{"choosen": "a", "rejected": "b"}], "preference", source="hh")


def test_a_null_output_names_row_and_field(load):
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "output": None}]
    with pytest.raises(DataError, match=r"1 of 2 rows cannot be used:\n  row 2: `output` is null"):
        load(rows, "completion", source="alpaca")


def test_sharegpt_acts_on_every_turn_of_the_model(load, chatml, said):
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 2
    record = load([{"conversations": turns, "system": "s"}], "completion", chatml, source="sharegpt").train[0]
    assert said(chatml, record.samples["completion"]) == "b<|im_end|>b<|im_end|>"
    assert record.columns["prompt"][0] == {"role": "system", "content": "s"}


def test_an_unknown_speaker_of_sharegpt_names_row_turn_and_the_nearest(load):
    rows = [{"conversations": [{"from": "humam", "value": "a"}, {"from": "gpt", "value": "b"}]}]
    with pytest.raises(DataError, match=r"row 1: `conversations`, turn 1 is from 'humam'; did you mean 'human'"):
        load(rows, "completion", source="sharegpt")


def test_text_that_is_no_dialogue_is_a_bad_row(load):
    with pytest.raises(DataError, match="row 1: `rejected` does not begin with 'Human:' or 'Assistant:'"):
        load([{"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "b"}], "preference", source="hh")

"""PEERS.md's table of bad input: what other libraries train on without a word."""

import pytest

from alignlab.data import check_rows
from alignlab.errors import DataError

PAIR = {"prompt": "what is it ?", "chosen": " a b", "rejected": " c"}
USER = {"role": "user", "content": "a"}


def refused(load, rows, want="preference", **keys):
    with pytest.raises(DataError) as caught:
        load(rows, want, **keys)
    return str(caught.value)


def test_a_prompt_column_of_another_name_is_refused_with_the_nearest(load):
    rows = [{"question": "what ?", "chosen": "I say a", "rejected": "I say b"}]  # they share a beginning by chance
    text = refused(load, rows)
    assert "no column `prompt`; columns found: `chosen`, `question`, `rejected`" in text
    assert "did you mean 'question'? Rename with `columns: {prompt: question}`" in text
    assert load(rows, "preference", columns={"prompt": "question"}).train[0].columns["prompt"] == "what ?"


@pytest.mark.parametrize(
    ("want", "columns", "hint"),
    [
        ("completion", ("Prompt", "completion"), "{prompt: Prompt}"),
        ("completion", ("question", "answer"), "{prompt: question, completion: answer}"),
        ("preference", ("prompt", "choosen", "rejected"), "{chosen: choosen}"),
        ("prompt", ("query",), "{prompt: query}"),
        ("completion", ("prompt", "respons"), "{completion: respons}"),
    ],
)
def test_wrong_column_names_are_answered_with_the_renaming(load, want, columns, hint):
    assert f"Rename with `columns: {hint}`" in refused(load, [dict.fromkeys(columns, "a b")], want)


def test_a_column_that_is_only_named_after_the_prompt_is_not_taken_for_it(load):
    rows = [{"prompt_id": "1", "chosen": "say a", "rejected": "say b"}]
    assert load(rows, "preference").train[0].columns["prompt"] == "say"


def test_a_dataset_with_a_column_like_a_prompt_can_still_hold_its_prompt_in_the_answers(load):
    rows = [{"input": "1", "chosen": "say a", "rejected": "say b"}]
    assert "if `chosen` and `rejected` hold the prompt, set `allow: [no_prompt]`" in refused(load, rows)
    assert load(rows, "preference", allow=("no_prompt",)).train[0].columns["prompt"] == "say"


def test_columns_of_no_meaning_list_those_found_and_wanted(load):
    text = refused(load, [{"x": "a", "y": "b"}], "completion")
    assert "the rows want `prompt` + `completion` or `messages` or `text` or `chosen` + `rejected`" in text
    assert "columns found: `x`, `y`" in text


def test_no_prompt_and_no_shared_prefix_names_the_row_and_the_setting(load):
    rows = [{"chosen": "say a", "rejected": "say b"}, {"chosen": "Paris", "rejected": "London"}]
    text = refused(load, rows)
    assert "1 of 2 rows cannot be used:\n  row 2: no `prompt`, and `chosen` and `rejected` share no beginning" in text
    assert "set `allow: [no_prompt]`" in text
    assert len(load(rows, "preference", allow=("no_prompt",)).train) == 2


def test_an_empty_prompt_names_the_row(load):
    assert "row 2: `prompt` is empty" in refused(load, [{"prompt": "a"}, {"prompt": " "}], "prompt")


USELESS = [
    PAIR,
    PAIR | {"rejected": " a b"},
    PAIR | {"chosen": "", "rejected": ""},
    PAIR | {"rejected": "\n"},
]


def test_equal_and_empty_answers_are_listed_with_the_setting_that_drops_them(load):
    text = refused(load, USELESS)
    assert text.startswith(
        "3 of 4 rows cannot be used:\n"
        "  row 2: `chosen` equals `rejected`\n  row 3: `chosen` is empty\n  row 4: `rejected` is empty\n  where: "
    )
    assert "set `bad_rows: drop`" in text


def test_dropped_rows_are_counted_by_reason(load):
    split = load(USELESS, "preference", bad_rows="drop")
    assert len(split.train) == 1
    text = str(split.summary)
    assert "4 rows read, 1 kept" in text
    assert "1 row: dropped, `chosen` equals `rejected` (`bad_rows: drop`) (row 2)" in text


def test_equal_answers_without_a_prompt_are_equal_not_promptless(load):
    assert "row 1: `chosen` equals `rejected`" in refused(load, [{"chosen": "a", "rejected": "a"}])


def test_when_all_rows_are_dropped_the_reasons_are_counted(load):
    text = refused(load, USELESS[1:3], bad_rows="drop")
    assert "none of the 2 rows is left: 1 dropped, `chosen` equals `rejected` (`bad_rows: drop`); 1 dropped" in text


def test_a_null_names_row_and_field_and_is_never_dropped(load):
    text = refused(load, [PAIR, PAIR | {"rejected": None}], bad_rows="drop")
    assert "1 of 2 rows cannot be used:\n  row 2: `rejected` is null" in text and "mend the rows" in text


def test_a_missing_field_names_row_and_field(load):
    assert "row 2: no field `rejected`" in refused(load, [PAIR, {"prompt": "a", "chosen": " b"}])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chosen": 3}, "`chosen` is a number, wanted text or a conversation"),
        ({"prompt": {"text": "a"}}, "`prompt` is an object, wanted text or a conversation"),
        ({"chosen": ["a"]}, "`chosen`, turn 1 is text, wanted {role, content}"),
        ({"prompt": [{"role": "human", "content": "a"}]}, "turn 1 has the role 'human'; did you mean 'user'?"),
        ({"prompt": [USER, {"role": "usre", "content": "a"}]}, "turn 2 has the role 'usre'; did you mean 'user'?"),
        ({"prompt": [{"role": "user", "text": "a"}]}, "turn 1 has no `content`; found: role, text"),
        ({"prompt": [{"from": "human", "value": "a"}]}, "found: from, value (`source: sharegpt` reads those)"),
        ({"prompt": [{"role": "user", "content": None}]}, "turn 1: `content` is null"),
        ({"prompt": [USER, {"role": "assistant", "content": "a"}]}, "`prompt` ends with the assistant's turn"),
        ({"prompt": [USER], "chosen": [USER]}, "`chosen` is a conversation"),
        ({"chosen": [{"role": "assistant", "content": "a"}]}, "one is text and one a conversation"),
    ],
)
def test_a_wrong_type_or_role_names_row_field_and_what_was_wanted(load, change, reason):
    text = refused(load, [PAIR, PAIR | change])
    assert "\n  row 2: " in text
    assert reason in text or "one is text and one a conversation" in text


def test_an_answer_that_is_not_the_assistants_is_refused(load):
    rows = [{"prompt": [USER], "completion": [{"role": "user", "content": "b"}]}]
    assert "`completion` begins with a turn of 'user', wanted 'assistant'" in refused(load, rows, "completion")


def test_whole_dialogues_that_do_not_begin_with_the_prompt_are_refused(load):
    dialogues = [[USER, {"role": "assistant", "content": answer}] for answer in "bc"]
    rows = [{"prompt": [USER | {"content": "x"}], "chosen": dialogues[0], "rejected": dialogues[1]}]
    assert "row 1: `chosen` and `rejected` are whole dialogues that do not begin with `prompt`" in refused(load, rows)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ranks": [1]}, "there are 2 `completions` and 1 `ranks`"),
        ({"ranks": [1, "2"]}, "`ranks`, place 2, is text, wanted a number"),
        ({"ranks": [1, 1]}, "`ranks` prefers no answer to another"),
        ({"ranks": [1, float("nan")]}, "`ranks`, place 2, is nan, wanted a finite number"),
        ({"ranks": [1, True]}, "`ranks`, place 2, is true or false, wanted a number"),
        ({"completions": [" b"], "ranks": [1]}, "`completions` holds one answer; a ranking wants two or more"),
        ({"completions": [], "ranks": []}, "`completions` is empty"),
        ({"completions": [" b", " b"]}, "`completions` 1 and 2 are the same, and ranked apart"),
        ({"completions": [" a", None]}, "`completions.1` is null"),
        ({"completions": None}, "`completions` is null"),
    ],
)
def test_a_ranked_row_that_is_wrong_says_how(load, change, reason):
    row = {"prompt": "a", "completions": [" b", " c"], "ranks": [1, 2]}
    assert reason in refused(load, [row | change], "ranked")


def test_a_list_of_one_answer_is_dropped_and_counted_if_the_recipe_says_so(load):
    rows = [
        {"prompt": "a", "completions": [" b", " c"], "ranks": [1, 2]},
        {"prompt": "a", "completions": [" b"], "ranks": [1]},
    ]
    split = load(rows, "ranked", bad_rows="drop")
    assert len(split.train) == 1
    assert "1 row: dropped, `completions` holds one answer" in str(split.summary)


def test_a_dropped_list_still_counts_when_prompts_are_held_out(load):
    rows = [{"prompt": f"p{i}", "completions": [" b", " c"], "ranks": [1, 2]} for i in range(20)]
    bad = [{**row, "completions": [" b"], "ranks": [1]} if i % 5 == 0 else row for i, row in enumerate(rows)]
    whole = {r.columns["prompt"] for r in load(rows, "ranked", eval=0.3).eval}
    left = {r.columns["prompt"] for r in load(bad, "ranked", eval=0.3, bad_rows="drop").eval}
    assert left == whole - {f"p{i}" for i in range(0, 20, 5)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": [True]}, "there are 2 `completions` and 1 `labels`"),
        ({"labels": [True, "yes"]}, "`labels`, step 2, is 'yes', wanted true or false"),
        ({"labels": [True, -1]}, "`labels`, step 2, is -1, wanted true or false"),
        ({"labels": [True, None]}, "`labels`, step 2, is null"),
        ({"labels": None}, "`labels` is null"),
        ({"labels": True}, "`labels` is true or false, wanted a list"),
        ({"completions": [], "labels": []}, "`completions` is empty"),
        ({"completions": ["b", " "]}, "`completions`, step 2, is empty"),
        ({"completions": ["b", 3]}, "`completions`, step 2, is a number, wanted text"),
        ({"completions": "b c"}, "`completions` is text, wanted a list"),
        ({"prompt": ""}, "`prompt` is empty"),
    ],
)
def test_a_row_of_steps_that_is_wrong_says_how(load, change, reason):
    row = {"prompt": "a", "completions": ["b", "c"], "labels": [True, False]}
    assert f"row 2: {reason}" in refused(load, [row, row | change], "steps")


def test_steps_under_other_column_names_are_answered_with_the_renaming(load):
    rows = [{"question": "a", "completions": ["b"], "step_labels": [True]}]
    assert "Rename with `columns: {prompt: question, labels: step_labels}`" in refused(load, rows, "steps")


def test_a_label_that_is_neither_true_nor_false_is_refused(load):
    rows = [{"prompt": "a", "completion": " b", "label": "good"}]
    assert "row 1: `label` is 'good', wanted true or false" in refused(load, rows, "label")


def test_messages_without_the_assistant_hold_nothing_to_learn(load):
    text = refused(load, [{"messages": [USER]}], "completion")
    assert "row 1: `messages` has no turn of the assistant, so there is nothing to learn" in text


def test_every_row_over_max_length_says_how_many_the_longest_and_the_setting(load):
    text = refused(load, [PAIR, PAIR | {"chosen": " a b c"}], max_length=3)
    assert "all 2 rows are over `max_length`, 3 tokens; the longest, row 2, has" in text
    assert "set `overlong: drop` or `truncate_left`" in text


def test_every_row_dropped_for_its_length_is_an_error_too(load):
    text = refused(load, [PAIR, PAIR], max_length=3, overlong="drop")
    assert "none of the 2 rows is left: 2 dropped, over `max_length`, 3 tokens; the longest has" in text


def test_some_rows_over_max_length_are_listed_or_dropped_and_counted(load):
    rows = [PAIR, PAIR | {"chosen": " a b c" * 20}, PAIR]
    assert "1 of 3 rows are over `max_length`, 30 tokens (row 2)" in refused(load, rows, max_length=30)
    split = load(rows, "preference", max_length=30, overlong="drop")
    assert len(split.train) == 2
    assert "1 row: dropped, over `max_length`, 30 tokens; the longest has" in str(split.summary)


def test_a_prompt_as_long_as_the_context_leaves_no_room_for_an_answer(load, plain):
    num = len(plain("a b c a b c")["input_ids"])
    text = refused(load, [{"prompt": "a b c a b c"}], "prompt", context_length=num)
    assert (
        f"over the model's context, {num} tokens (one of them for an answer); the longest, row 1, has {num + 1}" in text
    )
    assert len(load([{"prompt": "a b c a b c"}], "prompt", context_length=num + 1).train) == 1


def test_a_max_length_beyond_the_context_is_refused(load):
    assert "`max_length` is 1,000, and the model's context only 512" in refused(load, [PAIR], max_length=1000)


def test_all_bad_rows_are_reported_together_the_first_five_by_number(load):
    text = refused(load, [PAIR | {"rejected": None}] * 4 + [PAIR] + [PAIR | {"chosen": ""}] * 4)
    assert "8 of 9 rows cannot be used:\n  row 1: `rejected` is null" in text
    assert "\n  row 6: `chosen` is empty\n  and 3 more\n" in text


def test_a_broken_line_is_reported_among_the_bad_rows(load, write):
    path = write("data.jsonl", '{"prompt": "a"}\n{"prompt"\n{"prompt": null}\n')
    text = refused(load, path, "prompt")
    assert "2 of 3 rows cannot be used:\n  row 2: not JSON: Expecting ':' delimiter (line 2, column 10)" in text
    assert "\n  row 3: `prompt` is null" in text


def test_a_file_of_blank_lines_has_no_rows(load, write):
    assert "there are no rows" in refused(load, write("data.jsonl", "\n\n"), "prompt")


def test_a_check_returns_what_training_would_raise(mix, write, plain):
    good, bad = write("good.jsonl", [PAIR] * 3), write("bad.jsonl", [PAIR, PAIR | {"chosen": None}])
    sources = [mix("rows", path=str(path)) for path in (good, bad)]
    checked = check_rows(sources, "preference", plain, context_length=512)
    assert [len(found.records) for found in checked] == [3, 1]
    assert checked[0].error is None
    assert "row 2: `chosen` is null" in str(checked[1].error)


def test_bad_rows_of_two_sources_are_reported_together(mix, write, plain):
    from alignlab.data import load_split

    paths = [write(name, [PAIR | {"chosen": None}]) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(DataError, match=r"a\.jsonl(?s:.*)b\.jsonl"):
        load_split([mix("rows", path=str(p)) for p in paths], "preference", plain, context_length=512, seed=0)


@pytest.mark.parametrize("value", [1.2, -0.1, float("nan"), "likely", True, None, [0.5]])
def test_a_probability_outside_0_to_1_names_the_row(load, value):
    text = refused(load, [{**PAIR, "probability": 0.5}, {**PAIR, "probability": value}])
    assert "1 of 2 rows cannot be used:\n  row 2: `probability` is " in text


def test_a_probability_is_a_number_whatever_the_file_says(load):
    rows = [{**PAIR, "prompt": f"{i} ?", "probability": value} for i, value in enumerate([0, 1, 0.25, "0.75"])]
    split = load(rows, "preference")
    assert sorted(record.columns["probability"] for record in split.train) == [0, 0.25, 0.75, 1]
    assert "`probability` is taken for the probability that `chosen` is the better answer" in str(split.summary)


def test_a_probability_that_only_some_rows_have_names_those_without(load):
    assert "row 2: no field `probability`" in refused(load, [{**PAIR, "probability": 0.5}, PAIR])


def test_a_probability_means_nothing_where_there_are_no_pairs(load):
    assert load([{"prompt": "a", "completion": " b", "probability": 7}], "completion").train

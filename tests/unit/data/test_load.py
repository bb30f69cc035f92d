import pytest

from alignlab.data import corpus, load_split
from alignlab.errors import DataError

ROWS = [{"prompt": f"a {i}", "completion": f" b {i}"} for i in range(20)]


def by_prompt(records):
    return [record.columns["prompt"] for record in records]


def test_rows_of_one_prompt_fall_on_one_side(load):
    rows = [{"prompt": f"a {i % 5}", "completion": f" b {i}"} for i in range(20)]
    split = load(rows, "completion", eval=0.4)
    assert (len(split.train), len(split.eval)) == (12, 8)
    assert not set(by_prompt(split.train)) & set(by_prompt(split.eval))


def test_a_dropped_row_moves_no_other_row_to_the_other_side(load):
    pairs = [{"prompt": f"a {i}", "chosen": " b", "rejected": " c"} for i in range(20)]
    whole = by_prompt(load(pairs, "preference", eval=0.5).eval)
    for i in range(0, 20, 3):
        pairs[i]["rejected"] = ""
    assert by_prompt(load(pairs, "completion", eval=0.5).eval) == whole
    rest = by_prompt(load(pairs, "preference", eval=0.5, bad_rows="drop").eval)
    assert rest == [prompt for prompt in whole if int(prompt[2:]) % 3]


def test_a_text_prompt_and_a_conversation_of_it_fall_on_the_same_side(load, chatml):
    chats = [{"prompt": [{"role": "user", "content": row["prompt"]}], "completion": row["completion"]} for row in ROWS]
    out = load(chats, "completion", chatml, eval=0.3).eval
    assert [prompt[0]["content"] for prompt in by_prompt(out)] == by_prompt(load(ROWS, "completion", eval=0.3).eval)


def test_holding_out_everything_is_an_error(load):
    with pytest.raises(DataError, match="`eval: 20` holds out all 20 rows"):
        load(ROWS, "completion", eval=20)


def test_a_limit_reads_no_more_rows(load):
    assert by_prompt(load(ROWS, "completion", limit=3).train) == ["a 0", "a 1", "a 2"]


def test_the_digest_changes_with_a_row_a_column_and_the_split_and_with_nothing_else(load, write):
    digest = load(ROWS, "completion").digest
    assert load(write("elsewhere.jsonl", ROWS), "completion").digest == digest
    assert load([{**ROWS[0], "completion": "x"}, *ROWS[1:]], "completion").digest != digest
    assert load([{**row, "gold": 1} for row in ROWS], "completion").digest != digest
    assert load(ROWS, "completion", eval=2).digest != digest


def test_a_mixture_repeats_the_smaller_source_and_says_so(mix, write, plain):
    few = [{"prompt": f"few {i}", "completion": " b"} for i in range(5)]
    sources = [
        mix("rows", path=str(write("many.jsonl", ROWS)), weight=2),
        mix("rows", path=str(write("few.jsonl", few)), weight=1),
    ]
    split = load_split(sources, "completion", plain, context_length=64, seed=0)
    prompts = by_prompt(split.train)
    assert len(prompts) == 30 and all(prompts.count(row["prompt"]) == 2 for row in few)
    assert "few.jsonl: 5 rows read, 5 kept: 5 to train on, each 2 times an epoch" in str(split.summary)


def test_a_row_keeps_its_place_in_the_file(load):
    assert load(ROWS, "completion").train[4].where.endswith("data.jsonl, row 5")


def test_the_summary_counts_rows_and_tokens(load, plain):
    split = load([{"prompt": "a", "completion": " b"}, {"prompt": "a a a", "completion": " b"}], "completion", eval=1)
    lengths = sorted(len(r.samples["completion"]) for r in (*split.train, *split.eval))
    assert f"2 rows read, 2 kept: 1 to train on, 1 held out; {lengths[0]} to {lengths[1]} tokens" in str(split.summary)


def test_the_corpus_is_the_text_of_the_rows_to_train_on(load, mix, write):
    mixed = mix("rows", path=str(write("data.jsonl", ROWS)), eval=0.5)
    train = load(ROWS, "completion", eval=0.5).train
    assert list(corpus([mixed])) == [t for r in train for t in (r.columns["prompt"], r.columns["completion"])]


def test_the_corpus_of_unknown_columns_is_empty_and_that_of_no_file_an_error(mix, write):
    assert list(corpus([mix("rows", path=str(write("data.jsonl", [{"x": "a"}])))])) == []
    with pytest.raises(DataError, match="no such file"):
        list(corpus([mix("rows", path="./nothing.jsonl")]))


def test_a_source_of_a_plugin_may_report_bad_and_changed_rows(plain):
    from alignlab.config.recipe import DataSettings
    from alignlab.config.settings import Settings
    from alignlab.data import Changed, Mixed, RowProblem

    class Theirs:
        name = "theirs"
        settings = Settings

        def load(self, settings):
            yield "theirs, row 1", Changed({"prompt": "a"}, "spaces were stripped")
            yield "theirs, row 2", RowProblem("nothing in it", "useless")

    mixed = Mixed(Theirs(), Settings(), DataSettings(source="theirs", bad_rows="drop"))
    text = str(load_split([mixed], "prompt", plain, context_length=64, seed=0).summary)
    assert "1 row: spaces were stripped (row 1)" in text
    assert "1 row: dropped, nothing in it (`bad_rows: drop`) (row 2)" in text


def test_the_small_world_holds_out_the_same_prompts_in_every_kind(mix, chatml):
    outs = []
    for kind, want in (("demonstrations", "completion"), ("preferences", "preference"), ("prompts", "prompt")):
        mixed = mix("world", kind=kind, num_prompts=50, num_rows=120, eval=0.2)
        split = load_split([mixed], want, chatml, context_length=512, seed=0)
        outs.append({prompt[-1]["content"] for prompt in by_prompt(split.eval)})
    assert outs[0] == outs[1] == outs[2] and len(outs[0]) == 10

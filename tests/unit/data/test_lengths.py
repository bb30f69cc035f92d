from alignlab.batch import Sample
from alignlab.data.lengths import fit
from alignlab.data.sources import RowProblem

PROMPT = Sample((0, 1, 2, 3, 4), (False,) * 5)


def answer(*tokens):
    return Sample(PROMPT.tokens + tokens, PROMPT.acted + (True,) * len(tokens))


def test_the_start_of_a_prompt_is_cut_alike_for_all_answers_which_stay_whole():
    samples = {"prompt": PROMPT, "chosen": answer(7, 8, 9), "rejected": answer(7)}
    cut = fit(samples, 6, "truncate_left", bos=None)
    assert cut["prompt"].tokens == (2, 3, 4)
    assert cut["chosen"].tokens == (2, 3, 4, 7, 8, 9)
    assert cut["rejected"] == Sample((2, 3, 4, 7), (False, False, False, True))


def test_bos_stays_when_a_prompt_is_cut():
    cut = fit({"prompt": PROMPT, "completion": answer(7, 8)}, 5, "truncate_left", bos=0)
    assert cut["completion"].tokens == (0, 3, 4, 7, 8)


def test_a_prompt_alone_is_cut_to_leave_room_for_one_token():
    assert fit({"prompt": PROMPT}, 4, "truncate_left", bos=None)["prompt"].tokens == (2, 3, 4)


def test_an_answer_that_alone_is_too_long_cannot_be_helped():
    samples = {"prompt": PROMPT, "completion": answer(*range(6))}
    for max_length, bos in ((6, None), (7, 0)):
        try:
            fit(samples, max_length, "truncate_left", bos)
        except RowProblem as problem:
            assert problem.kind == "useless" and "the answer alone is over `max_length`" in problem.reason
        else:
            raise AssertionError("it was cut")
    assert fit(samples, 7, "truncate_left", bos=None)["completion"].tokens == (4, *range(6))


def test_truncated_rows_are_counted(load):
    rows = [{"prompt": "what is it ? " * 9, "completion": " a"}, {"prompt": "a", "completion": " b"}]
    split = load(rows, "completion", max_length=12, overlong="truncate_left")
    assert len(split.train[0].samples["completion"]) == 12
    text = "1 row: the prompt's start cut off to fit `max_length`, 12 tokens (`overlong: truncate_left`) (row 1)"
    assert text in str(split.summary)

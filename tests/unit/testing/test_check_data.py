"""Each check of check_data fails on a source that breaks its promise, and passes on ours."""

import random
from datetime import date

import pytest

from alignlab import Settings
from alignlab.testing import DATA_CHECKS, BrokenPromise, check_data
from alignlab.testing.world import shared_rows


class SumSettings(Settings):
    num_rows: int = 6


class GrowingSettings(SumSettings):
    def __init__(self, num_rows=6):
        super().__init__(num_rows=num_rows + 1)


class Sums:
    name = "sums"
    settings = SumSettings

    def load(self, settings):
        for i in range(settings.num_rows):
            yield f"sum {i}", self.row(i)

    def row(self, i):
        return {"prompt": f"What is {i} plus {i}?", "completion": f" It is {2 * i}."}


class Growing(Sums):
    settings = GrowingSettings


class NoRows(Sums):
    def load(self, settings):
        return []


class Bare(Sums):
    def load(self, settings):
        yield from (self.row(i) for i in range(3))


class SamePlace(Sums):
    def load(self, settings):
        yield from (("sum", self.row(i)) for i in range(3))


class Dated(Sums):
    def row(self, i):
        return {**super().row(i), "day": date(2026, 1, 1)}


class TextRows(Sums):
    def row(self, i):
        return f"{i} + {i}"


class Shuffled(Sums):
    def row(self, i):
        return super().row(random.SystemRandom().randrange(10**9))


class Misnamed(Sums):
    def row(self, i):
        return {"question": "What?", "answer": "That."}


class Holes(Sums):
    def row(self, i):
        return {"prompt": "What?", "completion": None}


class Made:
    """Makes its rows with a model."""

    name = "made"
    settings = SumSettings

    def make(self, settings, context):
        prompts = [f"What is {i} plus {i}?" for i in range(settings.num_rows)]
        said = context.respond(None, prompts, max_new_tokens=4)
        context.log(answers=len(said))
        for prompt, answers in zip(prompts, said, strict=True):
            yield {"prompt": prompt, "completion": answers[0] or "nothing"}


BROKEN = [
    ("settings", Growing, "`num_rows` was 7 and is 8"),
    ("rows", NoRows, "there are none"),
    ("rows", Bare, "every row says where it stands"),
    ("rows", SamePlace, "rows 0 and 1 stand at 'sum'"),
    ("rows", Dated, "sum 0: Object of type date is not JSON serializable"),
    ("rows", TextRows, "a row is a mapping of columns, a Changed, or a RowProblem"),
    ("determinism", Shuffled, "they differ from row 1 on"),
    ("formats", Misnamed, "columns ['answer', 'question']"),
    ("formats", Holes, "`completion` is null"),
]


@pytest.mark.parametrize(("check", "source", "said"), BROKEN, ids=lambda x: getattr(x, "__name__", x))
def test_a_source_that_breaks_a_promise_fails_the_check_that_says_so(check, source, said):
    with pytest.raises(BrokenPromise) as raised:
        check_data(source, checks=[check])
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"data source 'sums' breaks a promise (check {check!r}): ")


def test_every_check_has_a_source_that_breaks_it():
    assert {check for check, _, _ in BROKEN} == set(DATA_CHECKS)


@pytest.mark.parametrize("source", [Sums, Made], ids=lambda x: x.__name__)
def test_an_unregistered_source_passes_whether_it_reads_or_makes_its_rows(source):
    check_data(source, {"num_rows": 4})


@pytest.mark.parametrize("rows", ["preference", "label", "ranked", "steps", "prompt"])
def test_rows_of_every_format_pass(rows):
    check_data("rows", path=shared_rows(rows))


def test_our_own_sources_that_make_their_rows_pass(tiny_reward_model):
    prompts = {"source": "rows", "path": str(shared_rows("prompt")), "limit": 8}
    judge = {"use": "reward_model", "path": str(tiny_reward_model)}
    check_data("ai_feedback", {"prompts": prompts, "judge": judge, "max_new_tokens": 8})
    check_data("critique_revision", {"prompts": prompts, "max_new_tokens": 8})


def test_our_own_world_passes_and_a_file_is_there_for_a_source_that_reads_one():
    check_data("world", {"kind": "demonstrations", "num_rows": 16})
    check_data("prompts")

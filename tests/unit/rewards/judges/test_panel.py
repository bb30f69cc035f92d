import json

import pytest

from alignlab.errors import RewardError
from alignlab.rewards.judges import Asked, FunctionJudge, Pair, Panel, Principle, Store, Verdict
from alignlab.rewards.judges.store import content_key


class Scripted:
    """Says what a function of the question says, and keeps what it was asked."""

    def __init__(self, say, identity="scripted"):
        self.say, self.identity, self.asked = say, identity, []

    def __call__(self, questions):
        self.asked += questions
        return [self.say(question) for question in questions]


def panel(*judges, store=None, weights=None, **settings):
    asked = [
        Asked(f"judge {i}", judge, store or Store(None), (weights or [1.0] * len(judges))[i])
        for i, judge in enumerate(judges)
    ]
    return Panel(asked, **settings)


def compare(panel, *pairs):
    return list(panel.compare([Pair("prompt", first, second) for first, second in pairs]))


def test_both_orders_are_asked_and_averaged_so_a_liking_for_a_place_cancels_out():
    judge = Scripted(lambda q: 0.9 if q.first == "good" else 0.3)
    (found,) = compare(panel(judge), ("good", "bad"))
    assert [(q.first, q.second) for q in judge.asked] == [("good", "bad"), ("bad", "good")]
    assert found.orders == pytest.approx((0.9, 0.7))
    assert found.probability == pytest.approx(0.8)
    assert found.agrees


def test_a_judge_that_always_says_first_ties_disagrees_and_is_warned_of():
    asked = panel(Scripted(lambda q: 1.0))
    found = compare(asked, *[(f"a{i}", "b") for i in range(10)])
    assert {one.probability for one in found} == {0.5} and not any(one.agrees for one in found)
    assert asked.tally.position_bias == 1.0 and asked.tally.disagree == 10
    assert "whichever answer stands first the better one (position bias +1.00)" in next(asked.tally.warnings())


def test_a_judge_without_liking_for_a_place_has_position_bias_0():
    asked = panel(Scripted(lambda q: float(q.first == "good")))
    compare(asked, ("good", "bad"), ("bad", "good"))
    assert asked.tally.position_bias == 0.0 and list(asked.tally.warnings()) == []


def test_when_all_pairs_are_tied_the_run_ends():
    asked = panel(Scripted(lambda q: 0.5))
    compare(asked, ("a", "b"), ("c", "d"))
    with pytest.raises(RewardError, match="finds all 2 pairs tied"):
        asked.check_useful()


def test_several_judges_and_principles_are_averaged_by_weight():
    one, two = Scripted(lambda q: 1.0 if q.first == "x" else 0.0, "1"), Scripted(lambda q: 0.5, "2")
    principles = (Principle("p", "P?", weight=1.0), Principle("q", "Q?", weight=3.0))
    by_question = Scripted(lambda q: (q.principle.name == "q") == (q.first == "x"), "3")
    (found,) = compare(panel(one, two, weights=[3.0, 1.0]), ("x", "y"))
    assert found.probability == pytest.approx(0.875)
    numbers = Scripted(lambda q: float(by_question.say(q)), "4")
    (found,) = compare(panel(numbers, principles=principles), ("x", "y"))
    assert found.probability == pytest.approx(0.75)
    assert found.by_principle == {"p": 0.0, "q": 1.0}


def test_principles_are_drawn_by_weight_and_the_same_for_a_pair_whenever_it_is_asked():
    principles = (Principle("rare", "R?", weight=1.0), Principle("often", "O?", weight=4.0))
    judge = Scripted(lambda q: 0.7, identity=None)
    given = [(f"a{i}", "b") for i in range(400)]
    first = [tuple(one.by_principle) for one in compare(panel(judge, principles=principles, num_principles=1), *given)]
    again = [tuple(one.by_principle) for one in compare(panel(judge, principles=principles, num_principles=1), *given)]
    assert first == again and {len(names) for names in first} == {1}
    assert 0.74 < sum(names == ("often",) for names in first) / 400 < 0.86


def test_one_order_asks_half_as_much():
    judge = Scripted(lambda q: 0.9)
    (found,) = compare(panel(judge, both_orders=False), ("a", "b"))
    assert len(judge.asked) == 1 and found.probability == 0.9 and found.orders == (0.9, None)


def test_what_was_asked_before_is_not_asked_again_by_content(tmp_path):
    judge = Scripted(lambda q: Verdict(0.9, "A", {"prompt_tokens": 3.0}))
    first = compare(panel(judge, store=Store(tmp_path / "s.sqlite")), ("a", "b"), ("a", "b"))
    assert len(judge.asked) == 2
    again = compare(panel(judge, store=Store(tmp_path / "s.sqlite")), ("a", "b"))
    assert len(judge.asked) == 2 and again[0].orders == first[0].orders
    compare(panel(Scripted(judge.say, "another"), store=Store(tmp_path / "s.sqlite")), ("a", "b"))
    other = Scripted(judge.say, "another template")
    compare(panel(other, store=Store(tmp_path / "s.sqlite")), ("a", "b"))
    assert len(other.asked) == 2


def test_a_judge_that_dies_in_the_middle_has_its_first_chunks_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("alignlab.rewards.judges.asking.CHUNK", 4)

    def say(question):
        if len(judge.asked) > 8:
            raise ValueError("out of words")
        return 0.9

    judge = Scripted(say)
    given = [(f"a{i}", "b") for i in range(6)]
    with pytest.raises(RewardError, match="judge 'judge 0': it raised ValueError: out of words"):
        compare(panel(judge, store=Store(tmp_path / "s.sqlite")), *given)
    judge.say, judge.asked = (lambda q: 0.9), []
    compare(panel(judge, store=Store(tmp_path / "s.sqlite")), *given)
    assert len(judge.asked) == 12 - 8


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (1.5, "it said 1.5, wanted a probability"),
        (True, "it said True, wanted a probability"),
        (float("nan"), "it said nan, wanted a probability"),
        ("A", "it said 'A', wanted a probability"),
    ],
)
def test_what_is_no_probability_ends_the_run_with_the_judge_and_the_prompt(said, message):
    with pytest.raises(RewardError, match=message) as caught:
        compare(panel(Scripted(lambda q: said)), ("a", "b"))
    assert "judge 'judge 0'" in str(caught.value) and "prompt 'prompt'" in str(caught.value)


def test_a_wrong_number_of_verdicts_ends_the_run():
    with pytest.raises(RewardError, match="it returned 1 verdicts for 2 questions"):
        compare(panel(lambda questions: [0.5]), ("a", "b"))


def test_every_verdict_is_kept_with_its_order_and_principle(tmp_path):
    kept = tmp_path / "judgements.jsonl"
    compare(panel(Scripted(lambda q: 0.8), kept=kept, principles=(Principle("kind", "Kinder?"),)), ("a", "b"))
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(r["order"], r["principle"], r["question"], r["probability"]) for r in rows] == [
        ("first-second", "kind", "Kinder?", 0.8),
        ("second-first", "kind", "Kinder?", 0.8),
    ]
    assert rows[1]["first"] == "a" and rows[1]["prompt"] == "prompt"


async def later(prompts, firsts, seconds):
    return [float(len(first) > len(second)) for first, second in zip(firsts, seconds, strict=True)]


def test_a_function_plain_or_async_is_a_judge():
    (found,) = compare(panel(FunctionJudge(later)), ("long one", "b"))
    assert found.probability == 1.0
    (found,) = compare(panel(FunctionJudge(lambda prompts, firsts, seconds: [None] * len(firsts))), ("a", "b"))
    assert found.probability is None and found.agrees


def test_a_key_differs_for_all_that_a_verdict_depends_on():
    assert len({content_key("a", "b"), content_key("ab", ""), content_key("a", ["b"])}) == 3


def test_rating_averages_judges_and_principles():
    judge = Scripted(lambda q: 0.2 if q.principle.name == "p" else 0.8)
    asked = panel(judge, principles=(Principle("p", "P?"), Principle("q", "Q?")))
    assert asked.rate(["x", "y"], ["1", "2"]) == pytest.approx([0.5, 0.5])
    assert all(question.second is None for question in judge.asked)

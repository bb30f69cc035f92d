import hashlib
from random import Random

import pytest
from pydantic import ValidationError

from alignlab.data.world import World, WorldSettings
from alignlab.data.world.labels import label_probability, worth
from alignlab.data.world.reward import true_reward
from alignlab.data.world.source import gumbel

KINDS = ("demonstrations", "preferences", "prompts", "ranked", "steps")


def load(kind: str, **settings: int) -> list[tuple[str, dict]]:
    return list(World().load(WorldSettings(kind=kind, **settings)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(kind: str):
    assert load(kind, num_rows=50) == load(kind, num_rows=50)
    assert load(kind, num_rows=50) != load(kind, num_rows=50, seed=1)


def test_rows_are_the_same_in_every_process_and_python():
    rows = repr(load("preferences", num_rows=200))  # pinned: a change here is a new world, and the demo's table with it
    assert hashlib.sha256(rows.encode()).hexdigest()[:16] == "6e8081e2bbb09ddb"


def test_all_kinds_are_about_the_same_prompts_in_the_same_order():
    prompts = [[row["prompt"] for _, row in load(kind, num_rows=250, num_prompts=100)] for kind in KINDS]
    assert all(found == prompts[0] for found in prompts)
    assert prompts[0][:100] == prompts[0][100:200]
    assert prompts[0][200:] == prompts[0][:50]


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("demonstrations", ["prompt", "completion"]),
        ("preferences", ["prompt", "chosen", "rejected"]),
        ("prompts", ["prompt"]),
    ],
)
def test_rows_are_conversations_in_the_format_of_their_kind(kind: str, columns: list[str]):
    where, row = load(kind, num_rows=3)[2]
    assert where == f"world {kind}, row 3"
    assert list(row) == columns
    for answer in columns[1:]:
        assert [turn["role"] for turn in row[answer]] == ["assistant"]
    assert row["prompt"][-1]["role"] == "user"


def test_a_preference_is_never_between_two_equal_answers():
    assert all(row["chosen"] != row["rejected"] for _, row in load("preferences", num_rows=2000))


def test_more_prompts_than_the_grammar_is_meant_to_give_are_refused():
    with pytest.raises(ValidationError, match="less than or equal to 4000"):
        WorldSettings(kind="prompts", num_prompts=4001)


def test_a_ranked_row_holds_different_answers_and_a_place_for_each():
    rows = [row for _, row in load("ranked", num_rows=300, num_answers=5)]
    assert {len(row["ranks"]) for row in rows} == {2, 3, 4, 5}
    for row in rows:
        said = [answer[-1]["content"] for answer in row["completions"]]
        assert len(set(said)) == len(said)
        assert sorted(row["ranks"]) == list(range(1, len(said) + 1))


def test_one_answer_is_ranked_above_another_as_often_as_a_labeller_prefers_it():
    first, second = "It is eight.", "The answer is five."
    prompt = next(row["prompt"][-1]["content"] for _, row in load("prompts") if "one plus four" in str(row["prompt"]))
    expected = label_probability(prompt, first, second)
    settings, rng, wins = WorldSettings(kind="ranked"), Random(0), 0
    worths = [worth(prompt, answer, settings.labeller_bias) / settings.label_temperature for answer in (first, second)]
    for _ in range(4000):
        wins += worths[0] + gumbel(rng) > worths[1] + gumbel(rng)
    assert 0.001 < expected < 0.2
    assert wins / 4000 == pytest.approx(expected, abs=0.02)


def test_a_step_is_right_unless_it_lowers_the_true_reward():
    for _, row in load("steps", num_rows=200):
        prompt, steps = row["prompt"][-1]["content"], row["completions"]
        values = [true_reward(prompt, " ".join(steps[:num])) for num in range(len(steps) + 1)]
        assert row["labels"] == [values[i + 1] >= values[i] for i in range(len(steps))]
        assert all(step.endswith((".", "!", "?")) for step in steps)

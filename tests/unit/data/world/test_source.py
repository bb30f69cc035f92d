import hashlib

import pytest
from pydantic import ValidationError

from alignlab.data.world import World, WorldSettings

KINDS = ("demonstrations", "preferences", "prompts")


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
    assert prompts[0] == prompts[1] == prompts[2]
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

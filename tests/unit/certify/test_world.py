import pytest
import torch
from safetensors.torch import save_file

from alignlab.certify.plugin import TabularJudge, TabularRows, TabularSettings, different, draw_rows, world_of
from alignlab.certify.world import OUTSIDE, World, WorldSize
from alignlab.rewards.judges import Question

SMALL = WorldSize(num_letters=3, max_letters=2, num_prompts=2)


def rows(**settings):
    return [row for _, row in TabularRows().load(TabularSettings(**{**SMALL.model_dump(), **settings}))]


def test_every_answer_is_listed_once():
    assert World(SMALL).answers == ("a", "b", "c", "aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc")
    assert len(set(World(WorldSize(max_letters=4)).answers)) == 5 + 25 + 125 + 625


def test_demonstrations_add_up_to_one():
    found = World(WorldSize()).demonstrations
    torch.testing.assert_close(found.exp().sum(1), torch.ones(len(found), dtype=torch.float64))


def test_rewards_have_mean_0_and_variance_1_and_depend_on_the_seed():
    first, other = World(SMALL).rewards, World(SMALL.model_copy(update={"seed": 1})).rewards
    assert first.mean(1).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert first.var(1).tolist() == pytest.approx([1, 1])
    assert not torch.allclose(first, other)


def test_letters_that_are_not_neighbours_add_up_and_neighbours_do_not():
    world = World(WorldSize(max_letters=3))

    def of_changing_both(first, second):
        four = (world.rewards[0, world.answers.index(word)] for word in (first[0], first[1], second[0], second[1]))
        return next(four) - next(four) - next(four) + next(four)

    assert float(of_changing_both(("acd", "bcd"), ("ace", "bce"))) == pytest.approx(0, abs=1e-12)
    assert abs(float(of_changing_both(("acd", "bcd"), ("aed", "bed")))) > 0.01


def test_preferences_are_bradley_and_terrys():
    world = World(SMALL)
    gap = world.rewards[1, 3] - world.rewards[1, 7]
    assert float(world.preferences[1, 3, 7]) == pytest.approx(float(1 / (1 + (-gap).exp())))


def test_an_answer_that_is_none_of_the_world_has_the_reward_of_what_is_outside():
    world = World(SMALL)
    assert world.reward("bc", "ca") == float(world.rewards[1, world.answers.index("ca")])
    assert world.reward("ab", "") == world.reward("ab", "aaa") == OUTSIDE


def test_pairs_are_independent_draws_that_differ():
    probs = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    pairs = different(probs, 60_000, torch.Generator().manual_seed(0))
    found = torch.zeros(3, 3, dtype=torch.float64).index_put(
        (pairs[:, 0], pairs[:, 1]), torch.tensor(1.0).double(), True
    )
    expected = torch.outer(probs, probs) * (1 - torch.eye(3))
    torch.testing.assert_close(found / len(pairs), expected / expected.sum(), rtol=0, atol=0.01)


def test_a_pair_has_the_exact_probability_and_its_own_prompt():
    world, found = World(SMALL), rows(kind="preferences", num_rows=40)
    assert [row["prompt"] for row in found] == ["ab", "bc"] * 20
    for row in found:
        first, second = world.answers.index(row["chosen"]), world.answers.index(row["rejected"])
        exact = float(world.preferences[world.prompts.index(row["prompt"]), first, second])
        assert row["probability"] == pytest.approx(exact)


def test_answers_are_drawn_by_what_is_given(tmp_path):
    logp = torch.full((2, 12), -50.0, dtype=torch.float64)
    logp[:, 4] = 0
    save_file({"logp": logp}, tmp_path / "drawn.safetensors")
    found = rows(kind="demonstrations", num_rows=6, drawn_from=str(tmp_path / "drawn.safetensors"))
    assert {row["completion"] for row in found} == {"ab"}


def test_rankings_put_the_better_answer_first_as_often_as_it_is_better():
    world = World(SMALL)
    uniform = torch.full((12,), 1 / 12, dtype=torch.float64)
    first, second = world.rewards[0].argsort()[[9, 5]].tolist()
    wins = []
    for row in draw_rows(world, 0, "ranked", uniform, 20_000, torch.Generator().manual_seed(0)):
        ranks = dict(zip(row["completions"], row["ranks"], strict=True))
        if world.answers[first] in ranks and world.answers[second] in ranks:
            wins.append(ranks[world.answers[first]] < ranks[world.answers[second]])
    assert len(wins) > 1500
    assert sum(wins) / len(wins) == pytest.approx(float(world.preferences[0, first, second]), abs=0.04)


def test_a_label_is_true_as_often_as_the_sigmoid_of_the_reward():
    world = World(SMALL)
    one = torch.zeros(12, dtype=torch.float64)
    one[2] = 1.0
    found = draw_rows(world, 1, "labels", one, 20_000, torch.Generator().manual_seed(0))
    share = sum(row["label"] for row in found) / len(found)
    assert share == pytest.approx(float(world.rewards[1, 2].sigmoid()), abs=0.015)


def test_the_judge_says_the_exact_probability():
    judge, world = TabularJudge(**SMALL.model_dump()), world_of(SMALL)
    first, second = world.answers.index("ab"), world.answers.index("c")
    pair, alone = judge([Question("ab", "ab", "c"), Question("ab", "ab")])
    assert pair == pytest.approx(float(world.preferences[0, first, second]))
    assert alone == pytest.approx(float(world.rewards[0, first].sigmoid()))

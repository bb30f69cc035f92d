import math

import pytest

from alignlab.errors import RewardError
from alignlab.rewards import FunctionReward, Rewards, Weighted, import_function


def rewards_of(**functions) -> Rewards:
    return Rewards(tuple(Weighted(name, FunctionReward(function)) for name, function in functions.items()))


def constant(*values):
    def reward(prompts, completions, completion_ids, **columns):
        return list(values)

    return reward


def test_rewards_are_summed_by_weight_and_each_is_returned_by_name(rollout):
    parts = (
        Weighted("a", FunctionReward(constant(1, 2, 3)), 2.0),
        Weighted("b", FunctionReward(constant(0.5, None, float("nan"))), -1.0),
    )
    total, components = Rewards(parts)(*rollout)
    assert total.tolist() == [1.5, 4.0, 6.0]
    assert components["a"].tolist() == [1, 2, 3]
    assert math.isnan(components["b"][1])


def test_a_reward_of_zero_is_not_taken_for_missing(rollout):
    assert rewards_of(a=constant(0, 0.0, 0))(*rollout)[0].tolist() == [0, 0, 0]


def test_a_function_gets_messages_columns_and_token_ids(rollout):
    run, batch = rollout
    seen = {}

    def look(prompts, completions, completion_ids, **columns):
        seen.update(prompts=prompts, completions=completions, ids=completion_ids, columns=columns)
        return [0.0] * len(prompts)

    rewards_of(look=look)(run, batch)
    assert seen["prompts"][0][-1]["role"] == "user"
    assert seen["completions"][0][0]["role"] == "assistant"
    assert seen["ids"][1] == batch.tokens[1][batch.acted[1]].tolist()
    assert seen["columns"] == {}


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1.0, 2.0], "returned 2 numbers for 3 answers"),
        (["1", "2", "3"], "returned '1' for an answer; wanted a number or None"),
        ("abc", "returned 'abc'; wanted a list of 3 numbers"),
        (None, "returned None; wanted a list of 3 numbers"),
        ([1.0, float("inf"), 2.0], "returned inf"),
        ([None, None, None], "returned nan for every answer"),
        ([float("nan")] * 3, "returned nan for every answer"),
    ],
)
def test_what_is_not_a_finite_number_for_every_answer_stops_the_run(rollout, returned, said):
    with pytest.raises(RewardError) as raised:
        rewards_of(brevity=lambda **given: returned)(*rollout)
    assert said in raised.value.what
    assert raised.value.what.startswith("reward 'brevity': ")
    assert "prompt " in raised.value.where
    assert raised.value.do


def test_row_30_an_infinite_reward_names_the_row_the_prompt_and_the_answer(rollout):
    with pytest.raises(RewardError) as raised:
        rewards_of(bad=constant(1.0, float("-inf"), 2.0))(*rollout)
    where = str(raised.value.where)
    assert rollout[1].records[1].where in where
    assert rollout[1].records[1].columns["prompt"][-1]["content"] in where
    assert "-inf" in raised.value.what


def test_row_30_a_reward_that_raises_is_named_with_its_error(rollout):
    def broken(prompts, completions, completion_ids, **columns):
        return [columns["missing"]]

    with pytest.raises(RewardError, match=r"reward 'broken' raised KeyError: 'missing'") as raised:
        rewards_of(broken=broken)(*rollout)
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_answer_on_which_every_reward_abstains_stops_the_run(rollout):
    with pytest.raises(RewardError, match="every reward abstains") as raised:
        rewards_of(a=constant(1, None, 1), b=constant(1, None, 2))(*rollout)
    assert rollout[1].records[1].where in raised.value.where


def test_a_function_that_cannot_be_imported_says_how_to_name_it():
    with pytest.raises(RewardError, match="cannot import the reward 'no_such_package:f'") as raised:
        import_function("no_such_package:f")
    assert "package.module:function" in str(raised.value)
    with pytest.raises(RewardError, match="cannot import"):
        import_function("math:no_such_function")
    with pytest.raises(RewardError, match="is a float, not a function"):
        import_function("math:pi")

"""How rewards are called: async ones at once, with limits on time and number. Nothing here measures time: rewards wait
for each other, and one that would wait for good is cut off."""

import asyncio
import threading

import pytest
import torch

from alignlab.errors import RewardError
from alignlab.rewards import FunctionReward, Rewards, Weighted

SOON, NEVER = 0.05, 60.0


def weighted(name, function, **limits):
    return Weighted(name, FunctionReward(function), **limits)


def meeting(num):
    """An async reward that returns only when `num` of them run at the same time."""
    here = []
    met = asyncio.Event()

    async def reward(completions, **given):
        here.append(len(completions))
        if len(here) == num:
            met.set()
        await met.wait()
        return [1.0] * len(completions)

    return reward, here


def test_an_async_function_is_awaited(rollout):
    async def slow(completions, **given):
        await asyncio.sleep(0)
        return [4.0] * len(completions)

    assert Rewards((weighted("slow", slow),))(*rollout)[0].tolist() == [4, 4, 4]


def test_an_object_whose_call_is_async_is_awaited(rollout):
    class Judge:
        async def __call__(self, completions, **given):
            return [2.0] * len(completions)

    assert Rewards((weighted("judge", Judge()),))(*rollout)[0].tolist() == [2, 2, 2]


def test_a_registered_reward_may_be_async(rollout):
    class Rule:
        async def __call__(self, run, batch):
            return torch.ones(len(batch))

    assert Rewards((Weighted("rule", Rule()),))(*rollout)[0].tolist() == [1, 1, 1]


def test_a_plain_function_that_returns_a_coroutine_is_awaited(rollout):
    async def later(num):
        return [3.0] * num

    for limits in ({}, {"timeout": NEVER}):
        reward = weighted("later", lambda completions, **given: later(len(completions)), **limits)
        assert Rewards((reward,))(*rollout)[0].tolist() == [3, 3, 3]


def test_async_rewards_run_at_the_same_time(rollout):
    reward, here = meeting(3)
    parts = tuple(weighted(name, reward, timeout=NEVER) for name in "abc")
    assert Rewards(parts)(*rollout)[0].tolist() == [3, 3, 3]
    assert here == [3, 3, 3]


def test_async_rewards_run_while_plain_ones_do(rollout):
    begun = threading.Event()

    async def early(completions, **given):
        begun.set()
        return [1.0] * len(completions)

    def plain(completions, **given):
        assert begun.wait(NEVER)
        return [2.0] * len(completions)

    rewards = Rewards((weighted("plain", plain), weighted("early", early)))
    total, components = rewards(*rollout)
    assert total.tolist() == [3, 3, 3]
    assert list(components) == ["plain", "early"]


def test_plain_functions_run_one_after_the_other_in_the_caller(rollout):
    threads = []

    def reward(completions, **given):
        threads.append(threading.current_thread())
        return [1.0] * len(completions)

    Rewards((weighted("a", reward), weighted("b", reward)))(*rollout)
    assert threads == [threading.current_thread()] * 2


def test_all_async_rewards_share_one_loop_that_outlives_a_batch(rollout):
    loops = []

    async def reward(completions, **given):
        loops.append(asyncio.get_running_loop())
        return [1.0] * len(completions)

    rewards = Rewards((weighted("a", reward), weighted("b", reward)))
    rewards(*rollout)
    rewards(*rollout)
    assert len(loops) == 4 and len(set(map(id, loops))) == 1 and loops[0].is_running()


def test_concurrency_cuts_the_rows_into_calls_at_the_same_time(rollout):
    reward, here = meeting(2)
    total, _ = Rewards((weighted("a", reward, concurrency=2, timeout=NEVER),))(*rollout)
    assert total.tolist() == [1, 1, 1]
    assert sorted(here) == [1, 2]


def test_a_plain_function_gets_a_thread_for_each_of_its_calls(rollout):
    both = threading.Barrier(3, timeout=NEVER)
    run, batch = rollout

    def reward(completion_ids, **given):
        both.wait()
        return [float(sum(ids)) for ids in completion_ids]

    total, _ = Rewards((weighted("a", reward, concurrency=8),))(run, batch)
    assert total.tolist() == [float(batch.tokens[i][batch.acted[i]].sum()) for i in range(3)]  # in the rows' order


def test_no_gradient_is_recorded_on_any_thread(rollout):
    seen = []

    def plain(completions, **given):
        seen.append(torch.is_grad_enabled())
        return [1.0] * len(completions)

    async def later(completions, **given):
        return plain(completions)

    parts = (weighted("a", plain), weighted("b", plain, timeout=NEVER), weighted("c", later))
    Rewards(parts)(*rollout)
    assert seen == [False, False, False]


def test_an_async_reward_that_hangs_is_cancelled_after_its_timeout(rollout):
    cancelled = threading.Event()

    async def hangs(completions, **given):
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(RewardError, match=r"reward 'judge': it did not return within its timeout of 0.05 s") as raised:
        Rewards((weighted("judge", hangs, timeout=SOON),))(*rollout)
    assert rollout[1].records[0].where in raised.value.where
    assert "raise its `timeout`" in raised.value.do
    assert cancelled.wait(NEVER)


def test_a_plain_reward_that_hangs_stops_the_run_and_is_left_behind(rollout):
    go_on = threading.Event()
    threads = []

    def hangs(completions, **given):
        threads.append(threading.current_thread())
        go_on.wait(NEVER)
        return [1.0] * len(completions)

    with pytest.raises(RewardError, match="reward 'slow': it did not return within its timeout"):
        Rewards((weighted("slow", hangs, timeout=SOON),))(*rollout)
    assert threads[0].is_alive() and threads[0].daemon  # it ends with the process
    go_on.set()
    threads[0].join(NEVER)


def test_when_one_reward_fails_the_others_are_cancelled(rollout):
    cancelled = threading.Event()

    async def hangs(completions, **given):
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def broken(**given):
        raise ValueError("no")

    with pytest.raises(RewardError, match="reward 'broken' raised ValueError: no"):
        Rewards((weighted("hangs", hangs), weighted("broken", broken)))(*rollout)
    assert cancelled.wait(NEVER)


@pytest.mark.parametrize("limits", [{}, {"timeout": NEVER}, {"concurrency": 2}])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_reward_raises_is_named_however_it_is_called(rollout, limits, is_async):
    def broken(**given):
        raise TimeoutError("the server did not answer")  # its own, which is not ours

    async def broken_later(**given):
        broken()

    with pytest.raises(RewardError, match="reward 'a' raised TimeoutError: the server did not answer") as raised:
        Rewards((weighted("a", broken_later if is_async else broken, **limits),))(*rollout)
    assert isinstance(raised.value.__cause__, TimeoutError)

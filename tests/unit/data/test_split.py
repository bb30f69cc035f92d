from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.data.split import epoch_order, held_out_prompts, mixed_rows

prompts = st.lists(st.text("abcd", min_size=1, max_size=3), min_size=1, max_size=40)
seeds = st.integers(0, 3)


@given(prompts, st.floats(0.01, 0.99), seeds)
def test_a_share_of_the_prompts_is_held_out(rows, share, seed):
    distinct = set(rows)
    out = held_out_prompts(rows, share, seed)
    assert out <= distinct and len(out) == max(round(share * len(distinct)), 1)


@given(prompts, st.integers(1, 40), seeds)
def test_a_number_of_rows_is_reached_and_no_prompt_more(rows, num, seed):
    out = held_out_prompts(rows, num, seed)
    counts = Counter(rows)
    held = sum(counts[prompt] for prompt in out)
    assert held >= min(num, len(rows))
    assert any(held - counts[prompt] < num for prompt in out)


@given(prompts, st.randoms(use_true_random=False), st.sampled_from([0.3, 5]), seeds)
def test_the_order_of_rows_does_not_matter(rows, random, wanted, seed):
    shuffled = random.sample(rows, len(rows))
    assert held_out_prompts(shuffled, wanted, seed) == held_out_prompts(rows, wanted, seed)


@given(prompts, prompts, st.floats(0.01, 0.99), seeds)
def test_the_same_prompts_are_held_out_however_many_rows_each_has(rows, more, share, seed):
    again = [*rows, *[prompt for prompt in more if prompt in set(rows)]]
    assert held_out_prompts(again, share, seed) == held_out_prompts(rows, share, seed)


def test_another_seed_holds_out_others():
    rows = [str(i) for i in range(100)]
    assert held_out_prompts(rows, 0.5, 0) != held_out_prompts(rows, 0.5, 1)


@given(st.integers(0, 50), seeds, st.integers(0, 5))
def test_an_epoch_is_a_permutation_that_needs_no_state(num, seed, epoch):
    order = epoch_order(num, seed, epoch)
    assert sorted(order) == list(range(num))
    epoch_order.cache_clear()
    assert epoch_order(num, seed, epoch) == order


def test_epochs_and_seeds_differ():
    assert len({epoch_order(20, seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0.1, 10)), min_size=1, max_size=4), seeds)
def test_a_mixture_holds_every_row_and_the_shares_of_its_weights(sources, seed):
    nums, weights = zip(*sources, strict=True)
    drawn = mixed_rows(nums, weights, seed)
    total = sum(map(len, drawn))
    for num, weight, rows in zip(nums, weights, drawn, strict=True):
        counts = Counter(rows)
        assert set(counts) == set(range(num))
        assert max(counts.values()) - min(counts.values()) <= 1
        assert len(rows) == pytest.approx(total * weight / sum(weights), abs=len(nums))
    assert any(len(rows) == num for num, rows in zip(nums, drawn, strict=True))
    assert mixed_rows(nums, weights, seed) == drawn

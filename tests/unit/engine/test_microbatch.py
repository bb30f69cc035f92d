import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab.batch import Batch, Sample, collate, cut_by_length
from alignlab.engine.microbatch import by_length, microbatches, minibatches, num_per


def batch_of(lengths: list[int], unit: list[int]) -> Batch:
    return collate([Sample((7,) * n, (False,) + (True,) * (n - 1)) for n in lengths], unit)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 100), st.integers(1, 3))
def test_microbatches_hold_every_row_once_and_whole_units_within_the_budget(lengths, budget, rows_per_unit):
    batch = batch_of(lengths, [i // rows_per_unit for i in range(len(lengths))])
    seen = []
    for part, rows in microbatches(batch, budget):
        assert part.tokens.numel() <= budget or len(part.unit.unique()) == 1
        assert part.tokens.shape[1] == int(part.lengths.max())
        for unit in part.unit.unique():
            assert int((part.unit == unit).sum()) == int((batch.unit == unit).sum())
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 100))
def test_parts_by_length_hold_every_row_once_within_the_budget(lengths, budget):
    seen = []
    for part, rows in by_length(batch_of(lengths, [0] * len(lengths)), budget):
        assert part.tokens.numel() <= budget or len(part) == 1
        assert part.lengths.tolist() == [lengths[i] for i in rows]
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 60), st.integers(20, 200))
def test_no_other_cut_of_the_rows_costs_less(lengths, call_tokens, budget):
    lengths = sorted(lengths, reverse=True)

    def cost(sizes):
        starts = np.cumsum([0, *sizes[:-1]])
        tokens = [size * lengths[start] for start, size in zip(starts, sizes, strict=True)]
        fits = all(t <= budget or size == 1 for t, size in zip(tokens, sizes, strict=True))
        return sum(tokens) + call_tokens * len(sizes) if fits else math.inf

    def cuts(num):
        return [[num], *([*rest, last] for last in range(1, num) for rest in cuts(num - last))] if num else [[]]

    assert cost(cut_by_length(lengths, budget, call_tokens)) == min(map(cost, cuts(len(lengths))))


def test_rows_of_two_lengths_are_cut_where_padding_costs_more_than_a_call():
    lengths = [100] * 4 + [20] * 4
    assert cut_by_length(lengths, 10_000, call_tokens=319) == [4, 4]  # 4 rows of 80 tokens of padding
    assert cut_by_length(lengths, 10_000, call_tokens=321) == [8]


def test_rows_of_a_unit_keep_their_order():
    batch = batch_of([3, 9, 4, 2], [0, 0, 1, 1])
    for part, rows in microbatches(batch, 1000):
        assert rows.tolist() == [0, 1, 2, 3]
        assert part.lengths.tolist() == [3, 9, 4, 2]


def test_minibatches_are_a_seeded_partition_of_the_units():
    batch = batch_of([2] * 10, [i // 2 for i in range(10)])

    def cut(seed: int) -> list[list[int]]:
        return [part.unit.tolist() for part in minibatches(batch, 2, torch.Generator().manual_seed(seed))]

    assert cut(0) == cut(0)
    assert cut(0) != cut(1)
    assert sorted(unit for part in cut(0) for unit in part) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_more_minibatches_than_units_give_one_each():
    assert len(list(minibatches(batch_of([2, 2], [0, 1]), 5, None))) == 2


def test_the_divisor_counts_acted_tokens_rows_or_units():
    batch = batch_of([3, 5, 1, 1], [0, 0, 1, 1])
    assert [num_per(batch, per) for per in ("token", "row", "unit")] == [6, 4, 2]


def test_the_divisor_of_a_batch_in_which_nothing_was_acted_is_one():
    assert num_per(batch_of([1], [0]), "token") == 1

import torch

from alignlab.batch import Batch, Record, Sample, collate


def sample(*tokens: int, prompt: int = 1) -> Sample:
    return Sample(tokens, tuple(i >= prompt for i in range(len(tokens))))


def test_masks_come_from_lengths_so_a_pad_token_inside_a_row_stays_valid():
    batch = collate([sample(5, 0, 0), sample(5)], unit=[0, 1], pad_token=0)
    assert batch.valid.tolist() == [[True, True, True], [True, False, False]]
    assert batch.acted.tolist() == [[False, True, True], [False, False, False]]


def test_the_first_token_of_a_row_never_counts_as_acted():
    assert collate([sample(5, 6, prompt=0)], unit=[0]).acted.tolist() == [[False, True]]


def test_select_cuts_columns_without_a_valid_token_on_both_sides():
    valid = torch.tensor([[False, True, True, False], [True, True, True, True]])
    batch = Batch(
        tokens=torch.arange(8).view(2, 4), valid=valid, acted=valid.clone(), unit=torch.arange(2), records=tuple("ab")
    )
    cut = batch.select(torch.tensor([0]))
    assert cut.tokens.tolist() == [[1, 2]]
    assert cut.unit.tolist() == [0]
    assert cut.records == ("a",)


def test_positions_count_valid_tokens_whatever_the_padding_side():
    valid = torch.tensor([[False, False, True, True], [True, True, False, False]])
    batch = Batch(tokens=torch.zeros(2, 4).long(), valid=valid, acted=valid, unit=torch.arange(2))
    assert batch.positions.tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]


def test_last_acted_is_a_column_and_minus_one_where_nothing_was_acted():
    acted = torch.tensor([[False, True, True, False], [False] * 4])
    batch = Batch(tokens=torch.zeros(2, 4).long(), valid=torch.ones(2, 4).bool(), acted=acted, unit=torch.arange(2))
    assert batch.last_acted().tolist() == [2, -1]


def test_select_keeps_records_beside_their_rows():
    records = [Record({"n": i}, {}, f"row {i}") for i in range(3)]
    batch = collate([sample(1, 2)] * 3, unit=[0, 1, 2], records=records)
    assert [r.where for r in batch.select(torch.tensor([2, 0])).records] == ["row 2", "row 0"]

"""Cut a batch into minibatches and microbatches by unit, so that the gradient does not depend on the cut."""

from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor

from alignlab.batch import CALL_TOKENS, Batch, cut_by_length

B = TypeVar("B", bound=Batch)


def num_per(batch: Batch, per: Literal["token", "row", "unit"]) -> int:
    """Return what a sum over the batch is divided by: its acted tokens, rows or units; at least 1."""
    if per == "token":
        return max(int(batch.acted.sum()), 1)
    return max(len(batch) if per == "row" else len(batch.unit.unique()), 1)


def minibatches(batch: B, num: int, rng: torch.Generator | None) -> Iterator[B]:
    """Yield `num` minibatches of whole units (fewer if there are fewer units), shuffled by `rng` if it is given."""
    units, unit_of_row = batch.unit.unique(return_inverse=True)
    order = torch.randperm(len(units), generator=rng) if rng is not None else torch.arange(len(units))
    for part in order.tensor_split(min(num, len(units))):
        yield batch.select(torch.isin(unit_of_row.cpu(), part).nonzero().flatten().to(batch.tokens.device))


def microbatches(batch: B, max_tokens: int, num: int = 1) -> Iterator[tuple[B, Tensor]]:
    """Yield microbatches of whole units and the rows they hold, int64 [N], longest rows first.

    A microbatch has at most `max_tokens` tokens, padding included; a unit that is larger than that goes alone. There
    are at least `num` of them, where the units can be cut so.
    """
    if num > 1:
        max_tokens = min(max_tokens, -(-int(batch.lengths.sum()) // num))
    units, unit_of_row, sizes = batch.unit.unique(return_inverse=True, return_counts=True)
    longest = torch.zeros_like(units).scatter_reduce(0, unit_of_row, batch.lengths, "amax")
    order = longest.argsort(descending=True, stable=True)
    rows_of_unit = unit_of_row.argsort(stable=True).split(sizes.tolist())
    taken: list[Tensor] = []
    width = num_rows = 0
    for unit, length, size in zip(order.tolist(), longest[order].tolist(), sizes[order].tolist(), strict=True):
        if taken and (num_rows + size) * width > max_tokens:
            yield _select(batch, taken)
            taken, num_rows = [], 0
        if not taken:
            width = length
        taken.append(rows_of_unit[unit])
        num_rows += size
    if taken:
        yield _select(batch, taken)


def by_length(batch: B, max_tokens: int, num: int = 1) -> Iterator[tuple[B, Tensor]]:
    """Yield parts of rows of about one length and the rows they hold, int64 [N], so that little padding is computed.

    For what each row gives by itself, whatever its unit. A part has at most `max_tokens` tokens, padding included; a
    row that is longer goes alone. There are at least `num` parts, where there are so many rows.
    """
    if num > 1:
        max_tokens = min(max_tokens, -(-int(batch.lengths.sum()) // num))
    order = batch.lengths.argsort(descending=True, stable=True)
    lengths = batch.lengths[order].tolist()
    cuts = cut_by_length(lengths, max_tokens, CALL_TOKENS.get(batch.tokens.device.type, CALL_TOKENS["cuda"]))
    for rows in order.split(cuts):
        yield batch.select(rows), rows


def _select(batch: B, rows: list[Tensor]) -> tuple[B, Tensor]:
    chosen = torch.cat(rows)
    return batch.select(chosen), chosen

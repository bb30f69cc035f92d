"""Records, samples and batches: what flows from the data stage to the optimizer stage.

Notation: B rows, T tokens. Every tensor of a batch has B as its leading dimension; a second dimension of size T
is a token dimension, and is cut together with `tokens`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self


@dataclass(frozen=True)
class Sample:
    """One tokenized sequence: its tokens, and which of them the policy chose (or should have chosen)."""

    tokens: tuple[int, ...]
    acted: tuple[bool, ...]

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)


@dataclass(frozen=True)
class Record:
    """One checked row of data.

    `columns` holds the row as it was read, extra columns included (rewards get them). `samples` holds what was
    tokenized from it: `prompt`, and by the row's format `completion`, `chosen` and `rejected`, or
    `completions.0`, `completions.1` and so on (each of them the prompt followed by the answer).
    """

    columns: Mapping[str, Any]
    samples: Mapping[str, Sample]
    where: str = "?"  # file and row, for errors


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A padded batch. A method's own batch adds fields."""

    tokens: Tensor  # int64 [B, T]
    valid: Tensor  # bool [B, T]  False on padding
    acted: Tensor  # bool [B, T]  True on the tokens that the policy chose
    unit: Tensor  # int64 [B]  rows of one unit share a microbatch
    records: tuple[Record, ...] = field(default=())  # B of them, or none

    def __len__(self) -> int:
        """Return B."""
        return self.tokens.shape[0]

    @property
    def positions(self) -> Tensor:
        """Position ids, int64 [B, T]: they count valid tokens, so that padding on either side changes nothing."""
        return (self.valid.long().cumsum(1) - 1).clamp_min(0)

    @property
    def lengths(self) -> Tensor:
        """Valid tokens a row, int64 [B]."""
        return self.valid.sum(1)

    def last_acted(self) -> Tensor:
        """Return the column of the last acted token of each row, int64 [B]; -1 for a row without any."""
        columns = torch.arange(1, self.tokens.shape[1] + 1, device=self.tokens.device)
        return (self.acted * columns).amax(1) - 1

    def map(self, tensor_map: Any, records: tuple[Record, ...] | None = None) -> Self:
        """Return a copy with `tensor_map` applied to every tensor field, and `records` replaced if given."""
        changed: dict[str, Any] = {
            f.name: tensor_map(value) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)
        }
        if records is not None:
            changed["records"] = records
        return replace(self, **changed)

    def select(self, rows: Tensor) -> Self:
        """Return the given rows (int64 [N]), cut to the columns in which any of them is valid."""
        width = self.tokens.shape[1]
        columns = self.valid[rows].any(0).nonzero().flatten()
        first, last = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 0)

        def cut(x: Tensor) -> Tensor:
            x = x[rows]
            return x[:, first:last] if x.dim() > 1 and x.shape[1] == width else x

        return self.map(cut, tuple(self.records[i] for i in rows.tolist()) if self.records else None)

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""
        return self.map(lambda x: x.to(device, non_blocking=True))


def pad(rows: Sequence[Sequence[Any]], fill: int | float | bool, dtype: torch.dtype) -> Tensor:
    """Pad rows on the right to one length: [B, T]."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype).reshape(len(rows), width)


def collate(
    samples: Sequence[Sample], unit: Sequence[int], records: Sequence[Record] = (), pad_token: int = 0
) -> Batch:
    """Pad samples on the right into a batch. `unit[i]` is the unit of row i; the masks come from lengths.

    The first token of a row has no token before it, and so no log-prob: it never counts as acted.
    """
    acted = pad([s.acted for s in samples], False, torch.bool)
    acted[:, :1] = False
    return Batch(
        tokens=pad([s.tokens for s in samples], pad_token, torch.int64),
        valid=pad([[True] * len(s) for s in samples], False, torch.bool),
        acted=acted,
        unit=torch.tensor(unit, dtype=torch.int64),
        records=tuple(records),
    )


CALL_TOKENS = {"cpu": 32, "cuda": 1024}
"""What a call of the model costs beside its tokens, in tokens: every weight is read, and Python runs.

On a CPU 18 to 40 tokens were measured (hidden sizes 128 to 512, forward alone and with backward). For a GPU it is an
estimate: an H100 reads a bf16 weight in the time of 300 multiplications. It changes speed, and results by rounding
alone; it is a constant, not measured at run time, so that a run repeats bit for bit.
"""


def cut_by_length(lengths: Sequence[int], max_tokens: int, call_tokens: int) -> list[int]:
    """Return the sizes of consecutive parts of rows, the longest first, that cost least in all.

    A part costs its rows times its first length, and `call_tokens`. It is the shortest path over the cuts.
    """
    num = len(lengths)
    cost = np.zeros(num + 1)  # of the rows before each cut
    start = np.zeros(num + 1, dtype=np.int64)  # of the part that ends there
    widths = np.maximum(np.asarray(lengths, dtype=np.int64), 1)
    for end in range(1, num + 1):
        first = np.arange(end)
        tokens = (end - first) * widths[:end]
        total = cost[:end] + tokens + call_tokens
        total[(tokens > max_tokens) & (first < end - 1)] = np.inf
        start[end] = total.argmin()
        cost[end] = total[start[end]]
    sizes: list[int] = []
    end = num
    while end:
        sizes.append(end - int(start[end]))
        end = int(start[end])
    return sizes[::-1]

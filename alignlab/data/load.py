"""From sources to the records of a phase: checked, held out by prompt, mixed by weight."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from alignlab.batch import Record
from alignlab.data.check import check_rows
from alignlab.data.example import Example
from alignlab.data.sources import Mixed, RowProblem
from alignlab.data.split import mixed_rows
from alignlab.data.summary import RowSummary
from alignlab.data.tokenize import tokenize
from alignlab.errors import DataError
from alignlab.method import RowFormat


@dataclass(frozen=True)
class Split:
    """The records of a phase."""

    train: list[Record]
    eval: list[Record]
    digest: str  # a hash of all that training sees of them
    summary: RowSummary


def load_split(
    sources: Sequence[Mixed],
    want: RowFormat,
    tokenizer: PreTrainedTokenizerBase,
    *,
    context_length: int,
    seed: int,
    cache: Path | None = None,
) -> Split:
    """Return the records that serve `want`, split into those to train on and those held out.

    The train records of several sources are mixed by weight (see `mixed_rows`); held-out records come once. Raises
    DataError with every bad row of every source.
    """
    checked = check_rows(sources, want, tokenizer, context_length=context_length, cache=cache)
    errors = [found.error for found in checked if found.error is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DataError("\n".join(map(str, errors)))
    trains = [[r for r, out in zip(c.records, c.held_out, strict=True) if not out] for c in checked]
    drawn = mixed_rows([len(rows) for rows in trains], [mixed.data.weight for mixed in sources], seed)
    train = [rows[i] for rows, chosen in zip(trains, drawn, strict=True) for i in chosen]
    held_out = [r for c in checked for r, out in zip(c.records, c.held_out, strict=True) if out]
    summaries = tuple(
        replace(c.summary, repeated=len(chosen) / len(rows))
        for c, rows, chosen in zip(checked, trains, drawn, strict=True)
    )
    summary = RowSummary(summaries, any(c.default_template for c in checked))
    return Split(train, held_out, _digest(train, held_out), summary)


def _digest(train: Sequence[Record], held_out: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for records in (train, held_out):
        digest.update(f"{len(records)}\n".encode())
        for record in records:
            digest.update(json.dumps(record.columns, sort_keys=True, default=str).encode())
            for name, sample in record.samples.items():
                digest.update(f"{name} {len(sample)}\n".encode())
                digest.update(np.asarray(sample.tokens, dtype=np.int64).tobytes())
                digest.update(np.asarray(sample.acted, dtype=np.bool_).tobytes())
    return digest.hexdigest()[:32]


def prompt_record(prompt: str, tokenizer: PreTrainedTokenizerBase) -> Record:
    """Return the record of a typed prompt: the user's turn if the tokenizer has a chat template, plain text if not.

    Raises DataError if the template refuses it.
    """
    asked: Any = [{"role": "user", "content": prompt}] if tokenizer.chat_template else prompt
    samples = tokenize([Example("?", {}, asked, {})], tokenizer)[0]
    if isinstance(samples, RowProblem):
        raise DataError(str(samples))
    return Record(columns={"prompt": asked}, samples=samples, where="a prompt that was typed")

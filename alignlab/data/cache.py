"""A cache of tokenized rows, keyed by their content."""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cache as once
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

import alignlab
from alignlab.atomic import whole_file
from alignlab.batch import Sample
from alignlab.data.example import Example
from alignlab.data.sources import RowProblem
from alignlab.data.tokenize import Samples, tokenize


def tokenize_cached(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, directory: Path | None
) -> list[Samples | RowProblem]:
    """Return what `tokenize` returns, from a file in `directory` if it was done before.

    A file is found by the rows' text, the tokenizer, its template and alignlab's own code. One that is damaged is made
    again, and that is logged.
    """
    if directory is None:
        return tokenize(examples, tokenizer)
    path = directory / f"tokens-{_key(examples, tokenizer)}.safetensors"
    if path.is_file():
        try:
            return _load(path, len(examples))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logging.getLogger("alignlab").warning("%s is damaged and is made again: %s", path, error)
    found = tokenize(examples, tokenizer)
    _save(path, found)
    return found


def _key(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> str:
    digest = hashlib.sha256(f"{alignlab.__version__} {_code()} {tokenizer_print(tokenizer)}".encode())
    for example in examples:
        digest.update(json.dumps([example.prompt, example.answers, example.steps]).encode() + b"\n")
    return digest.hexdigest()[:32]


@once
def _code() -> str:
    """Return a hash of this package's source: a changed rule of tokenizing finds no old file."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def tokenizer_print(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a hash of a tokenizer's content: vocabulary, merges, special tokens and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    others = [str(tokenizer.chat_template), str(tokenizer.added_tokens_decoder), str(tokenizer.special_tokens_map)]
    return hashlib.sha256("\0".join([content, *others]).encode()).hexdigest()


def _save(path: Path, found: Sequence[Samples | RowProblem]) -> None:
    """Write flat tokens and masks, with the rows' sample names and lengths as JSON."""
    samples = [s for row in found if not isinstance(row, RowProblem) for s in row.values()]
    tensors = {
        "tokens": torch.tensor([t for s in samples for t in s.tokens], dtype=torch.int32),
        "acted": torch.tensor([a for s in samples for a in s.acted], dtype=torch.bool),
    }
    rows: list[Any] = [
        {"problem": [row.reason, row.kind]}
        if isinstance(row, RowProblem)
        else {"lengths": {name: len(sample) for name, sample in row.items()}}
        for row in found
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as beside:
        save_file(tensors, beside, metadata={"rows": json.dumps(rows), "digest": _digest(tensors)})


def _load(path: Path, num_rows: int) -> list[Samples | RowProblem]:
    with safe_open(path, "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in ("tokens", "acted")}
    rows = json.loads(about["rows"])
    if len(rows) != num_rows or _digest(tensors) != about["digest"]:
        raise ValueError("its content is not what was written")
    tokens, acted = tensors["tokens"].tolist(), tensors["acted"].tolist()
    found: list[Samples | RowProblem] = []
    first = 0
    for row in rows:
        if "problem" in row:
            found.append(RowProblem(*row["problem"]))
            continue
        samples: Samples = {}
        for name, length in row["lengths"].items():
            samples[name] = Sample(tuple(tokens[first : first + length]), tuple(acted[first : first + length]))
            first += length
        found.append(samples)
    return found


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """Return a hash of the tensors' bytes: safetensors checks only their sizes."""
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors.values())).hexdigest()

"""What plugins are tried on: a tiny model, and a few rows of the small world in every row format."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch

from alignlab.batch import Batch, Record
from alignlab.config.recipe import DataSettings, ModelSettings, NewModelSettings
from alignlab.data import Mixed, Split, corpus, load_split
from alignlab.data.world import World, WorldSettings
from alignlab.engine.roles import load_roles
from alignlab.engine.run import EngineRun
from alignlab.errors import did_you_mean
from alignlab.generate import TorchGenerator
from alignlab.method import Method, RowFormat
from alignlab.models import load_tokenizer, new_model
from alignlab.rewards import FunctionReward, Rewards, Weighted

CONTEXT, LONG_CONTEXT = 128, 1024  # of rows; of what judges and writers are asked, in many words
KINDS = {
    "completion": "demonstrations",
    "preference": "preferences",
    "prompt": "prompts",
    "ranked": "ranked",
    "steps": "steps",
}
REWARD = "alignlab.testing.world:even_share"


def even_share(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
    """Reward the share of an answer's tokens whose id is even: any small model can learn it in a few steps."""
    return [sum(token % 2 == 0 for token in ids) / max(len(ids), 1) for ids in completion_ids]


def source(kind: str, num_rows: int = 64) -> Mixed:
    """Return rows of the small world as a data source."""
    return Mixed(World(), WorldSettings(kind=kind, num_rows=num_rows), DataSettings(source="world", eval=0.25))  # type: ignore[arg-type]


def tiny_rows(rows: str, num_rows: int = 64) -> list[dict[str, Any]]:
    """Return rows of a row format: `prompt`, `completion`, `preference`, `label`, `ranked` or `steps`."""
    if rows not in get_args(RowFormat):
        raise ValueError(f"there is no row format {rows!r}; {did_you_mean(rows, get_args(RowFormat))}")
    mixed = source(KINDS.get(rows, "preferences"), num_rows if rows != "label" else -(-num_rows // 2))
    found = [row for _, row in World().load(mixed.settings)]  # type: ignore[arg-type]
    if rows != "label":
        return found
    both = [("chosen", True), ("rejected", False)]
    return [{"prompt": r["prompt"], "completion": r[key], "label": good} for r in found for key, good in both]


def write_rows(path: Path, rows: str, num_rows: int = 64) -> Path:
    """Write rows of a row format to a JSONL file; return it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows(rows, num_rows)))
    return path


def tiny_model(directory: Path, architecture: str = "llama", context_length: int = CONTEXT) -> Path:
    """Write a tiny model of the small world (about 40,000 weights, not trained) and its tokenizer; return it."""
    settings = NewModelSettings(
        architecture=architecture,  # type: ignore[arg-type]
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        vocab_size=320,
        context_length=context_length,
    )
    new_model(settings, corpus([source("demonstrations")]), directory, seed=0)
    return directory


@cache
def shared_model(context_length: int = CONTEXT) -> Path:
    """Return the tiny model of this process, which is removed when the process ends."""
    return tiny_model(_kept() / f"model-{context_length}", context_length=context_length)


@cache
def shared_rows(rows: str, num_rows: int = 64) -> Path:
    """Return a JSONL file with rows of a row format, which is removed when the process ends."""
    return write_rows(_kept() / f"{rows}-{num_rows}.jsonl", rows, num_rows)


@cache
def _kept() -> Path:
    import atexit

    directory = Path(tempfile.mkdtemp(prefix="alignlab-testing-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@cache
def tiny_split(base: Path, rows: str, num_rows: int = 64) -> Split:
    """Return rows as records, tokenized for a model, a quarter of them held out."""
    if rows in KINDS:
        mixed = source(KINDS[rows], num_rows)
    else:
        from alignlab.data.rows import Rows, RowsSettings

        settings = RowsSettings(path=str(shared_rows(rows, num_rows)))
        mixed = Mixed(Rows(), settings, DataSettings(source="rows", eval=0.25))
    tokenizer = load_tokenizer(str(base))
    return load_split([mixed], rows, tokenizer, context_length=CONTEXT, seed=0, cache=None)  # type: ignore[arg-type]


def engine_run(
    base: Path,
    method: Method,
    microbatch_tokens: int = 100_000,
    seed: int = 0,
    reward: Callable[..., Any] = even_share,
) -> EngineRun:
    """Return an engine's run whose frozen and trained roles differ, as they do after some steps."""
    models = load_roles(method, str(base), ModelSettings(path=str(base), device="cpu"), None)
    rng = torch.Generator().manual_seed(1)
    for model in models.values():
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng)
    return EngineRun(
        models,
        load_tokenizer(str(base)),
        seed=seed,
        rewards=Rewards((Weighted(reward.__name__, FunctionReward(reward)),)),
        generator=TorchGenerator(),
        microbatch_tokens=microbatch_tokens,
    )


def collect(run: EngineRun, method: Method, records: Sequence[Record]) -> Batch:
    """Return the batch that the data stage and the reward stage make of records."""
    with torch.no_grad():
        return method.reward(run, method.data(run, records))


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory for the time of a check."""
    with tempfile.TemporaryDirectory(prefix="alignlab-testing-") as directory:
        yield Path(directory)

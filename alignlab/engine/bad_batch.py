"""A minibatch whose loss or gradient was not finite, on disk with the weights that it was met with."""

import importlib
import json
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alignlab.atomic import whole_directory, writing
from alignlab.batch import Batch, Record, Sample
from alignlab.engine.checkpoint import save_weights
from alignlab.engine.files import read_json, write_json
from alignlab.errors import CheckpointError

TENSORS, ABOUT, RECIPE = "batch.safetensors", "batch.json", "recipe.yaml"


@dataclass(frozen=True)
class Met:
    """When a batch was met, and the numbers that came out."""

    phase: str
    step: int
    update: int  # which optimizer step of that step's passes and minibatches, from 1
    loss: float
    grad_norm: float
    state: dict[str, Any]  # the method's `run.state`


def save_bad_batch(
    directory: Path, batch: Batch, met: Met, weights: dict[str, dict[str, Tensor]], recipe: Path
) -> None:
    """Write all that `alignlab replay` needs: the batch, its rows, the weights before the step, and the recipe."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    others = {name: value for name, value in vars(batch).items() if name not in tensors and name != "records"}
    about = {
        "met": vars(met),
        "type": f"{type(batch).__module__}:{type(batch).__qualname__}",
        "others": others,
        "records": [
            {
                "where": record.where,
                "columns": dict(record.columns),
                "samples": {name: [s.tokens, s.acted] for name, s in record.samples.items()},
            }
            for record in batch.records
        ],
    }
    with whole_directory(directory) as beside:
        with writing(directory / TENSORS):
            # A copy: safetensors refuses tensors that share memory, and padding makes some of them strided.
            save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, beside / TENSORS)
        write_json(beside / ABOUT, json.loads(json.dumps(about, default=str)))
        save_weights(weights, beside)
        shutil.copy(recipe, beside / RECIPE)


def load_bad_batch(directory: Path) -> tuple[Batch, Met]:
    """Read a batch, as the method's own type, and when it was met."""
    if not (directory / ABOUT).is_file():
        raise CheckpointError(
            "this is no batch that a run has saved",
            where=str(directory),
            do="name a directory RUN/PHASE/bad-batch-step-N; the error that stopped the run says which",
        )
    about = read_json(directory / ABOUT)
    try:
        module, _, name = about["type"].partition(":")
        cls: Any = importlib.import_module(module)
        for part in name.split("."):
            cls = getattr(cls, part)
        records = tuple(
            Record(
                columns=row["columns"],
                samples={key: Sample(tuple(tokens), tuple(acted)) for key, (tokens, acted) in row["samples"].items()},
                where=row["where"],
            )
            for row in about["records"]
        )
        values = {**load_file(directory / TENSORS), **about["others"], "records": records}
        known = {f.name for f in fields(cls)}
        batch = cls(**{key: value for key, value in values.items() if key in known})
        if not isinstance(batch, Batch):
            raise TypeError(f"{about['type']} is no batch")
        return batch, Met(**about["met"])
    except (OSError, SafetensorError, ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the batch cannot be read: {error}", where=str(directory)) from error

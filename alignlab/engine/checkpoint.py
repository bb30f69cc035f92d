"""Checkpoints: weights and optimizer state in safetensors, the rest in JSON, written beside and renamed."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from alignlab.engine.files import read_json, write_json
from alignlab.errors import CheckpointError


@dataclass(frozen=True)
class Progress:
    """What a checkpoint holds beside tensors."""

    step: int  # steps done
    fingerprint: str  # of the phase's inputs
    state: dict[str, Any]  # the method's `run.state`


def save_checkpoint(
    directory: Path,
    progress: Progress,
    models: Mapping[str, PreTrainedModel],
    optimizer: torch.optim.Optimizer,
    *,
    keep: int = 2,
) -> Path:
    """Write `directory/step-N`, then remove all but the newest `keep`."""
    _check_state(progress.state)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"step-{progress.step:06d}"
    beside = directory / f".{path.name}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for role, parameters in _trained(models).items():
        weights = {name: p.detach().contiguous() for name, p in parameters.items()}
        save_file(weights, beside / f"{role}.safetensors")
    tensors, rest = _split_optimizer(optimizer.state_dict())
    save_file(tensors, beside / "optimizer.safetensors")
    write_json(beside / "optimizer.json", rest)
    write_json(beside / "progress.json", vars(progress))
    os.replace(beside, path)
    for old in checkpoints(directory)[:-keep]:
        shutil.rmtree(old)
    return path


def _check_state(state: dict[str, Any]) -> None:
    """Raise for what would come back changed: tensors, tuples, keys that are not text."""
    for key, value in state.items():
        try:
            same = json.loads(json.dumps({key: value})) == {key: value}
        except TypeError:
            same = False
        if not same:
            raise CheckpointError(
                f"run.state[{key!r}] is {value!r:.80}, which cannot be saved as it is",
                do="keep numbers, text, lists and dicts with text keys in run.state",
            )


def checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a phase, oldest first."""
    return sorted(directory.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def read_progress(path: Path) -> Progress:
    """Read what a checkpoint says of itself."""
    try:
        return Progress(**read_json(path / "progress.json"))
    except (CheckpointError, TypeError) as error:
        raise _damaged(path, error) from error


def load_checkpoint(path: Path, models: Mapping[str, PreTrainedModel], optimizer: torch.optim.Optimizer) -> None:
    """Load weights and optimizer state in place."""
    try:
        for role, parameters in _trained(models).items():
            saved = load_file(path / f"{role}.safetensors")
            if saved.keys() != parameters.keys():
                raise ValueError(f"{role} has other parameters than the model")
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(saved[name])
        tensors = load_file(path / "optimizer.safetensors")
        optimizer.load_state_dict(_join_optimizer(tensors, read_json(path / "optimizer.json")))
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, CheckpointError) as error:
        raise _damaged(path, error) from error


def _trained(models: Mapping[str, PreTrainedModel]) -> dict[str, dict[str, Tensor]]:
    """Return the trained parameters by role and name; one that roles share belongs to the first of them."""
    found: dict[str, dict[str, Tensor]] = {}
    seen: set[Tensor] = set()
    for role, model in models.items():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter not in seen:
                found.setdefault(role, {})[name] = parameter
                seen.add(parameter)
    return found


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint is damaged: {error}",
        where=str(path),
        do="remove that directory; the run then goes on from the checkpoint before it, or from the phase's start",
    )


def _split_optimizer(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state dict into tensors, by "index.name", and plain values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.contiguous()
            else:
                plain.setdefault(str(index), {})[name] = value
    return tensors, {"plain": plain, "param_groups": state["param_groups"]}


def _join_optimizer(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in rest["plain"].items()}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": rest["param_groups"]}

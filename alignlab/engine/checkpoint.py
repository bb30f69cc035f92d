"""Checkpoints: weights and optimizer state in safetensors, the rest in JSON, whole or not there."""

import json
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alignlab.atomic import remove_directory, whole_directory, writing
from alignlab.engine.best import Best
from alignlab.engine.files import read_json, write_json
from alignlab.errors import CheckpointError, TrainingError

SUMS = "sums.json"  # a checksum of every other file


@dataclass(frozen=True)
class Progress:
    """What a checkpoint holds beside tensors."""

    step: int  # steps done
    fingerprint: str  # of the phase's inputs
    state: dict[str, Any] = field(default_factory=dict)  # the method's `run.state`
    evaluated: dict[str, float] = field(default_factory=dict)  # the evaluation of this step, if there was one
    best: Best | None = None  # the best evaluation up to this step, where the phase asks for it


def save_checkpoint(
    directory: Path,
    progress: Progress,
    models: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    changing: Collection[str] = (),
) -> Path:
    """Write `directory/step-N`: everything that training has changed.

    `changing` names frozen roles whose weights the method itself changes. Raises CheckpointError for a state that
    cannot be saved, TrainingError for weights that are not finite, OSError if the disk is full.
    """
    check_state(progress.state)
    path = checkpoint_path(directory, progress.step)
    weights = changed_weights(models, changing)
    _check_finite(weights, path)
    tensors, rest = _split_optimizer(optimizer.state_dict())
    with whole_directory(path) as beside:
        save_weights(weights, beside)
        with writing(path / "optimizer.safetensors"):
            save_file(tensors, beside / "optimizer.safetensors")
        write_json(beside / "optimizer.json", rest)
        write_json(beside / "progress.json", asdict(progress))
        write_json(beside / SUMS, {file.name: _checksum(file) for file in sorted(beside.iterdir())})
    return path


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return where the checkpoint of a step stands."""
    return directory / f"step-{step:06d}"


def checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a phase, oldest first."""
    found = [path for path in directory.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def prune(directory: Path, keep_last: int, best: Best | None) -> None:
    """Remove all checkpoints but the newest `keep_last` and the best."""
    kept = checkpoint_path(directory, best.step) if best else None
    for old in checkpoints(directory)[:-keep_last]:
        if old != kept:
            remove_directory(old)


def read_progress(path: Path) -> Progress:
    """Read what a checkpoint says of itself."""
    try:
        found = read_json(path / "progress.json")
        best = Best(**found.pop("best")) if found.get("best") else None
        return Progress(**{**found, "best": best})
    except (CheckpointError, TypeError, AttributeError) as error:
        raise _damaged(path, f"progress.json: {getattr(error, 'what', error)}") from error


def load_checkpoint(
    path: Path,
    models: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer | None,
    changing: Collection[str] = (),
) -> None:
    """Load weights and optimizer state (where one is given) in place. Raises CheckpointError that names the file."""
    try:
        sums = read_json(path / SUMS)
    except CheckpointError as error:
        raise _damaged(path, f"{SUMS}: {error.what}") from error
    for name, wanted in sums.items():
        if not (path / name).is_file() or _checksum(path / name) != wanted:
            raise _damaged(path, f"{name} is not what was written")
    load_weights(path, models, changing)
    if optimizer is not None:
        try:
            tensors = load_file(path / "optimizer.safetensors")
            optimizer.load_state_dict(_join_optimizer(tensors, read_json(path / "optimizer.json")))
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, CheckpointError) as error:
            raise _damaged(path, f"its optimizer state does not fit: {error}") from error


def changed_weights(models: Mapping[str, nn.Module], changing: Collection[str] = ()) -> dict[str, dict[str, Tensor]]:
    """Return what training changes, by role and name: trained parameters, and persistent buffers beside them.

    Of a role in `changing`, everything. A tensor that roles share belongs to the first of them.
    """
    found: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    for role, model in models.items():
        whole = role in changing
        if not whole and not any(p.requires_grad for p in model.parameters()):
            continue
        for name, tensor in model.state_dict(keep_vars=True).items():
            frozen = isinstance(tensor, nn.Parameter) and not tensor.requires_grad
            if id(tensor) not in seen and (whole or not frozen):
                seen.add(id(tensor))
                found.setdefault(role, {})[name] = tensor
    return found


def save_weights(weights: Mapping[str, Mapping[str, Tensor]], directory: Path) -> None:
    """Write a safetensors file for each role."""
    for role, tensors in weights.items():
        file = directory / f"{role}.safetensors"
        with writing(file):
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)


def load_weights(path: Path, models: Mapping[str, nn.Module], changing: Collection[str] = ()) -> None:
    """Load what `save_weights` wrote, in place. Raises CheckpointError that names the file."""
    for role, tensors in changed_weights(models, changing).items():
        file = path / f"{role}.safetensors"
        try:
            saved = load_file(file)
            if saved.keys() != tensors.keys():
                raise ValueError(f"it holds other weights than the model: {sorted(saved.keys() ^ tensors.keys())[:3]}")
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor.copy_(saved[name])
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise _damaged(path, f"{file.name}: {error}") from error


def check_state(state: dict[str, Any]) -> None:
    """Raise CheckpointError for what would come back changed: tensors, tuples, NaN, keys that are not text."""
    for key, value in state.items():
        try:
            same = json.loads(json.dumps({key: value})) == {key: value}
        except (TypeError, ValueError, RecursionError):
            same = False
        if not same:
            raise CheckpointError(
                f"run.state[{key!r}] is {value!r:.80}, which cannot be saved as it is",
                do="keep finite numbers, text, lists and dicts with text keys in run.state",
            )


def _check_finite(weights: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    """Raise for weights that nobody could go on from, before they take the place of an older checkpoint."""
    for role, tensors in weights.items():
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise TrainingError(
                    f"weights of {role} are not finite: {name}",
                    where=f"{path}, which is not written; the checkpoints before it are kept",
                    do="lower `lr`",
                )


def _checksum(file: Path) -> str:
    """Return the CRC-32 of a file, which finds any damage that is not malice, several times faster than a hash."""
    found = 0
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 24):
            found = zlib.crc32(chunk, found)
    return f"{found:08x}"


def _damaged(path: Path, what: str) -> CheckpointError:
    earlier = [other.name for other in takewhile(path.__ne__, checkpoints(path.parent))]
    return CheckpointError(
        f"the checkpoint is damaged: {what}",
        where=str(path),
        do=f"rm -r {path}; the same command then goes on from {earlier[-1] if earlier else 'the start of the phase'}",
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
    rest = {"plain": plain, "param_groups": state["param_groups"]}
    try:
        json.dumps(rest)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the optimizer's state cannot be saved: {error}",
            do="keep tensors (one by one, not in lists), numbers and text in it",
        ) from error
    return tensors, rest


def _join_optimizer(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in rest["plain"].items()}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value.clone()  # not a view of the file, which will be removed
    return {"state": state, "param_groups": rest["param_groups"]}

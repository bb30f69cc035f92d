"""Replay a batch whose loss or gradient was not finite: which weights, rows, tokens and terms are not."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from alignlab.batch import Batch
from alignlab.config import load_recipe
from alignlab.engine import update
from alignlab.engine.bad_batch import RECIPE, load_bad_batch
from alignlab.engine.checkpoint import load_weights
from alignlab.engine.files import locked
from alignlab.engine.microbatch import num_per
from alignlab.engine.phase import Phase
from alignlab.engine.pipeline import Pipeline
from alignlab.engine.run import EngineRun

MAX_UNITS, MAX_TOKENS = 8, 4  # units shown, and tokens of each
Say = Callable[[str], None]


class Watched:
    """A run that notes what the method is given by the models."""

    def __init__(self, run: EngineRun) -> None:
        """Watch a run."""
        self._run = run
        self.noted: list[tuple[str, Tensor]] = []  # "policy logp", float [B, T] or [B]

    def __getattr__(self, name: str) -> Any:
        """Return what the run has; of a function that returns tensors for a role, note them."""
        found = getattr(self._run, name)
        if name not in ("logp", "kl", "value", "sequence_score"):
            return found

        def call(role: str, *args: Any, **settings: Any) -> Any:
            result = found(role, *args, **settings)
            for tensor in result if isinstance(result, tuple) else (result,):
                self.noted.append((f"{role} {name}", tensor.detach()))
            return result

        return call


def replay(directory: Path, say: Say) -> bool:
    """Go through a saved batch again and say what is not finite; return whether the numbers are those of the run."""
    batch, met = load_bad_batch(directory)
    output = directory.resolve().parents[1]
    with locked(output):
        pipeline = Pipeline(load_recipe(directory / RECIPE, [f"output={output}"]))
        phase = pipeline.prepared(met.phase)
    phase.run.state = met.state
    phase.run.begin(met.step)
    load_weights(directory, phase.run.models, phase.changing)
    batch = batch.to(phase.run.device)

    loss, norm = _numbers(phase, batch)
    same = _equal(loss, met.loss) and _equal(norm, met.grad_norm)
    say(f"{met.phase}, step {met.step}, update {met.update}: {len(batch)} rows, {len(batch.unit.unique())} units")
    say(f"in the run: loss {met.loss:.6g}, norm of its gradient {met.grad_norm:.6g}")
    verdict = "the same" if same else "not the same: the phase's data, what it starts from, or the machine has changed"
    say(f"here:       loss {loss:.6g}, norm of its gradient {norm:.6g} ({verdict})")
    clean = [_weights(phase, say), _fields(batch, say), _units(phase, batch, say)]
    if all(clean):
        say("every unit alone is finite in fp32: their sum is not, or the recipe's precision or dtype is too small")
        say(_largest_gradient(phase.run.models))
    return same


def _numbers(phase: Phase, batch: Batch) -> tuple[float, float]:
    """Return the loss and the gradient's norm as the run computed them."""
    tokens = phase.settings.microbatch_tokens
    sums = update.accumulate(phase.method, phase.optimize, batch, tokens, backward=True)
    gradients = [p.grad for m in phase.run.models.values() for p in m.parameters() if p.grad is not None]
    return sums.means()["loss"], float(nn.utils.get_total_norm(gradients))


def _equal(ours: float, theirs: float) -> bool:
    return ours == theirs or (math.isnan(ours) and math.isnan(theirs))


def _weights(phase: Phase, say: Say) -> bool:
    """Say which weights are not finite; return whether all are."""
    clean = True
    for role, model in phase.run.models.items():
        named = [(name, p) for name, p in model.named_parameters() if p.is_floating_point()]
        if wrong := [name for name, p in named if not bool(p.isfinite().all())]:
            clean = False
            say(f"weights of {role}: {len(wrong)} of {len(named)} are not finite before the step, {wrong[0]} first")
        name, largest = max(((name, float(p.detach().abs().max())) for name, p in named), key=lambda pair: pair[1])
        if largest > 1e4:
            say(f"weights of {role}: the largest is {largest:.3g}, in {name}: an earlier step has diverged")
    return clean


def _fields(batch: Batch, say: Say) -> bool:
    """Say what came into the optimizer stage and was not finite; return whether all was."""
    clean = True
    for name, tensor in vars(batch).items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            clean = False
            for place in (~tensor.isfinite()).nonzero()[:MAX_TOKENS].tolist():
                at = f"row {place[0]} ({_where(batch, place[0])})" + (f", column {place[1]}" if place[1:] else "")
                say(f"batch.{name}: {float(tensor[tuple(place)])} at {at}")
    return clean


def _units(phase: Phase, batch: Batch, say: Say) -> bool:
    """Go through the units one by one, in fp32; say of each that is not finite why; return whether there is none."""
    for model in phase.run.models.values():
        model.float()
    phase.run.precision = "fp32"
    count, shown = num_per(batch, phase.method.per), 0
    for unit in batch.unit.unique().tolist():
        rows = (batch.unit == unit).nonzero().flatten()
        if lines := _unit(phase, batch.select(rows), count):
            shown += 1
            if shown <= MAX_UNITS:
                say(f"unit {unit}, rows {rows.tolist()} ({_where(batch, int(rows[0]))}):")
                for line in lines:
                    say(f"  {line}")
    if shown > MAX_UNITS:
        say(f"{shown - MAX_UNITS} more units are not finite")
    return not shown


def _unit(phase: Phase, part: Batch, count: int) -> list[str]:
    """Return what is not finite of one unit: log-probs and values by token, terms of the loss, the gradient."""
    watched = Watched(phase.run)
    part = part.map(lambda x: x.float() if x.is_floating_point() else x)
    for model in phase.run.models.values():
        model.zero_grad(set_to_none=True)
    with warnings.catch_warnings(record=True) as caught, torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("always")
        loss = replace(phase, run=cast(EngineRun, watched)).optimize(part)
        found = [line for name, tensor in watched.noted for line in _tokens(phase, part, name, tensor)]
        terms = {"loss": loss.total, **loss.metrics}
        found += [f"term {name} is {float(x)}" for name, x in terms.items() if not math.isfinite(float(x))]
        try:
            (loss.total / count).backward()
        except RuntimeError as error:
            if "returned nan values" not in str(error):
                raise
            return [*found, f"gradient: {error}{_made_at(caught)}"]
    for role, model in phase.run.models.items():
        named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
        if wrong := [name for name, grad in named if not bool(grad.isfinite().all())]:
            found.append(f"gradient: that of {len(wrong)} of {len(named)} weights of {role} is not finite: {wrong[0]}")
    return found


def _tokens(phase: Phase, part: Batch, name: str, tensor: Tensor) -> Iterator[str]:
    """Yield the tokens of a unit, or its rows, at which a model's output is not finite."""
    wrong = (~tensor.isfinite()).nonzero().tolist()
    for place in wrong[:MAX_TOKENS]:
        at = f"row {place[0]} of the unit"
        if place[1:]:
            token = int(part.tokens[place[0], place[-1]])
            at += f", token {place[-1]} ({phase.run.tokenizer.decode([token])!r}, id {token})"
        yield f"{name} is {float(tensor[tuple(place)])} at {at}"
    if len(wrong) > MAX_TOKENS:
        yield f"{name}: {len(wrong) - MAX_TOKENS} more are not finite"


def _made_at(caught: list[warnings.WarningMessage]) -> str:
    """Return the line of code that made what the gradient failed in, from what anomaly detection warns of."""
    traces = [str(w.message) for w in caught if "Traceback of forward call" in str(w.message)]
    places = [line.strip() for line in (traces[-1].splitlines() if traces else []) if line.strip().startswith("File")]
    return f" {places[-1]}" if places else ""


def _largest_gradient(models: Any) -> str:
    named = [(f"{role} {n}", p.grad) for role, m in models.items() for n, p in m.named_parameters()]
    sizes = [(float(grad.abs().max()), name) for name, grad in named if grad is not None]
    return "the largest gradient of the last unit is {:.3g}, in {}".format(*max(sizes)) if sizes else "no gradient"


def _where(batch: Batch, row: int) -> str:
    return batch.records[row].where if batch.records else "no record"

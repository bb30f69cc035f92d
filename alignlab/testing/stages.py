"""Checks of a method's settings and stages on a small batch."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from alignlab.batch import Batch, Record
from alignlab.config.recipe import OptimizerSettings
from alignlab.testing.promise import BrokenPromise, check_round_trip
from alignlab.testing.subject import NUM_RECORDS, Subject
from alignlab.testing.world import shared_model, tiny_split


def check_settings(subject: Subject) -> None:
    """Check that settings survive a recipe, and clash with none of the engine's."""
    check_round_trip(subject.method)
    if clash := sorted(subject.cls.model_fields.keys() & OptimizerSettings.model_fields.keys()):
        raise BrokenPromise(
            "its settings are its own", f"the engine has {', '.join(clash)} too", "a name that is taken: rename it"
        )


def check_stages(subject: Subject) -> None:
    """Check what each stage returns, and that it changes nothing that it is given."""
    method, run = subject.method, subject.run()
    records = tiny_split(shared_model(), method.rows).train[:NUM_RECORDS]
    known = copy.deepcopy([(dict(r.columns), dict(r.samples)) for r in records])
    stages = subject.contract(run)
    with torch.no_grad():
        batch = method.data(run, records)
        _check_batch(batch, "data")
        before = _copy(batch)
        scored = stages.reward(run, batch)
    _check_batch(scored, "reward")
    _check_unchanged(batch, before, "reward")
    before = _copy(scored)
    loss = stages.optimize(run, scored)
    _check_unchanged(scored, before, "optimize")
    _check_records(records, known)
    for name, value in {"total": loss.total, **loss.metrics}.items():
        if not bool(value.isfinite().all()):
            raise BrokenPromise(
                "the loss is finite on a small, plain batch",
                f"{name} is {value.item()}",
                "a division by a count that can be 0, the log of 0, or 0 * inf: mask before the operation, not after",
            )
    if attached := [name for name, value in loss.metrics.items() if value.requires_grad]:
        raise BrokenPromise(
            "metrics carry no gradient",
            f"{', '.join(attached)} of the Loss hold the graph of the whole microbatch in memory",
            "write `value.detach()` in the metrics",
        )


def _check_batch(batch: Any, stage: str) -> None:
    if not isinstance(batch, Batch):
        cause = "a stage returns its batch: derive the method's own from Batch, as a frozen dataclass"
        raise BrokenPromise(f"{stage}() returns a Batch", f"it returned {batch!r:.80}", cause)
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and (value.dim() == 0 or len(value) != len(batch)):
            raise BrokenPromise(
                "every tensor of a batch has one row for each of its rows",
                f"`{field.name}` has the shape {list(value.shape)} in a batch of {len(batch)} rows, after {stage}()",
                "a number of the whole batch: repeat it for every row, so that a microbatch has it too",
            )
    if bool((batch.acted & ~batch.valid).any()) or bool(batch.acted[:, 0].any()):
        found = "`acted` is True on padding, or on a row's first token, which nothing predicts"
        raise BrokenPromise("what is acted is a token", found, f"a mask is shifted in {stage}()")


def _copy(batch: Batch) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in vars(batch).items() if isinstance(value, Tensor)}


def _check_unchanged(batch: Batch, before: Mapping[str, Tensor], stage: str) -> None:
    """Compare the values too: a change by way of `.data` counts nowhere."""
    if changed := [name for name, value in before.items() if not _equal(getattr(batch, name), value)]:
        raise BrokenPromise(
            "a stage leaves its batch as it is",
            f"{stage}() changed {', '.join(changed)} in place",
            "an operation in place (x += 1, x[i] = 0, x.clamp_()): work on a copy, and return a new batch",
        )


def _check_records(records: Sequence[Record], known: Sequence[tuple[Any, Any]]) -> None:
    for record, (columns, samples) in zip(records, known, strict=True):
        if dict(record.columns) != columns or dict(record.samples) != samples:
            raise BrokenPromise(
                "a stage leaves the records as they are",
                f"the columns of {record.where} have changed",
                "the next epoch gets the same records: put what is computed into the batch",
            )


def _equal(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(torch.equal(one.nan_to_num(), two.nan_to_num()))


def check_determinism(subject: Subject) -> None:
    """Check that a seed decides everything."""
    first, second = (subject.gradients(*subject.collected()) for _ in range(2))
    if first.keys() != second.keys() or any(not torch.equal(first[name], second[name]) for name in first):
        raise BrokenPromise(
            "the same seed gives the same bits",
            "two runs with one seed have other gradients",
            "random numbers, or an order (of a set, of a directory), that do not come from run.rng",
        )
    if subject.method.rows != "prompt":
        return
    _, one = subject.collected(seed=0)
    _, two = subject.collected(seed=1)
    if one.tokens.shape == two.tokens.shape and bool((one.tokens == two.tokens).all()):
        raise BrokenPromise(
            "another seed samples other answers", "seeds 0 and 1 sample the same", "temperature 0, or a seed of its own"
        )

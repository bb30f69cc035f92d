"""Checks of a method's gradient: it depends on the batch, and not on how the engine lays it out."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from alignlab.batch import Batch
from alignlab.engine.contract import PER
from alignlab.engine.microbatch import microbatches, num_per
from alignlab.engine.optim import trained_parameters
from alignlab.engine.run import EngineRun
from alignlab.testing.promise import BrokenPromise
from alignlab.testing.subject import Subject, check_same, clear_gradients, read_gradients

MEAN = (
    "optimize() takes a mean, or another statistic, over the rows that it is given: return sums, and take statistics "
    "in reward(), which sees the whole batch"
)
PADDING = "a sum or a mean over padding: mask with `acted` (or `valid`) before anything is added up"


def check_sums(subject: Subject) -> None:
    """Check that loss and metrics add up over units, with different numbers of tokens, rows and units in the parts."""
    run, batch = subject.collected()
    stages = subject.contract(run)
    units = batch.unit.unique()
    first = torch.isin(batch.unit, units[: max(len(units) // 3, 1)])
    parts = [batch.select(rows.nonzero().flatten()) for rows in (first, ~first)]
    for train in (True, False):
        run.train = train
        with torch.no_grad():
            whole, *shares = (
                {"total": x.total, **x.metrics} for x in (stages.optimize(run, b) for b in (batch, *parts))
            )
        names = whole.keys() | shares[0].keys() | shares[1].keys()
        for name in sorted(names):
            total, one, two = (float(found.get(name, 0.0)) for found in (whole, *shares))  # as the engine adds them up
            size = abs(total) + abs(one) + abs(two)
            if not abs(total - one - two) <= 1e-4 * size + 1e-6:
                _raise_no_sum(subject, name, batch, parts, (total, one, two))


def _raise_no_sum(
    subject: Subject, name: str, batch: Batch, parts: list[Batch], values: tuple[float, float, float]
) -> None:
    """Say whether what is no sum is a mean, and over what."""
    what = "loss" if name == "total" else f"metric {name!r}"
    misses: dict[str, float] = {}
    for per in PER:
        counts = [num_per(part, per) for part in (batch, *parts)]
        whole, one, two = (value * count for value, count in zip(values, counts, strict=True))
        misses[per] = abs(whole - one - two) / (abs(whole) + abs(one) + abs(two))
    nearest = min(misses, key=lambda per: misses[per])
    mean = f"it is a mean over {nearest}s: use .sum(), and the engine divides once, by all {subject.method.per}s"
    cause = mean if misses[nearest] < 1e-4 else MEAN
    raise BrokenPromise(
        f"the {what} is a sum over {subject.method.per}s, never a mean",
        f"{values[0]:.6g} for the whole batch, and {values[1]:.6g} + {values[2]:.6g} = {values[1] + values[2]:.6g} for "
        "its two parts",
        cause,
    )


def check_microbatches(subject: Subject) -> None:
    """Check that microbatches of every size give the same gradient."""
    run, batch = subject.collected()
    whole = subject.gradients(run, batch)
    for max_tokens in (1, 100, 250):
        num = len(list(microbatches(batch, max_tokens)))
        parts = subject.gradients(run, batch, max_tokens)
        promise = "the gradient is the same for every size of microbatches"
        check_same(whole, parts, promise, MEAN, f"in {num} microbatches")


def check_padding(subject: Subject) -> None:
    """Check that columns of padding, on either side, change nothing."""
    run, batch = subject.collected()
    whole = subject.gradients(run, batch)
    width = batch.tokens.shape[1]
    for left, right in ((0, 7), (5, 0), (3, 4)):

        def pad(x: Tensor, sides: tuple[int, int] = (left, right)) -> Tensor:
            return torch.nn.functional.pad(x, sides, value=1) if x.dim() > 1 and x.shape[1] == width else x

        masks: dict[str, Any] = {
            key: torch.nn.functional.pad(getattr(batch, key), (left, right)) for key in ("valid", "acted")
        }
        padded = replace(batch.map(pad), **masks)
        given = f"with {left} columns of padding on the left and {right} on the right"
        promise = "the gradient does not depend on padding"
        check_same(whole, _whole(subject, run, padded), promise, PADDING, given)


def check_order(subject: Subject) -> None:
    """Check that the units of a batch may come in any order."""
    run, batch = subject.collected()
    units = batch.unit.unique()
    order = units[torch.randperm(len(units), generator=torch.Generator().manual_seed(3))]
    rows = torch.cat([(batch.unit == unit).nonzero().flatten() for unit in order])
    check_same(
        _whole(subject, run, batch),
        _whole(subject, run, batch.select(rows)),
        "the gradient does not depend on the order of the units",
        "rows of different units are paired by their places: pair them by `unit`, whose rows stay together, in order",
        "with the units in another order",
    )


def _whole(subject: Subject, run: EngineRun, batch: Batch) -> dict[str, Tensor]:
    """Return the gradients of a batch as it is: not by way of microbatches, which sort its rows and cut its padding."""
    clear_gradients(run)
    (subject.contract(run).optimize(run, batch).total / num_per(batch, subject.method.per)).backward()
    return read_gradients(run)


def check_acted(subject: Subject) -> None:
    """Check that the gradient comes in where something was acted, and nowhere else."""
    run, batch = subject.collected()
    method = subject.method
    calls: list[tuple[str, Tensor, Tensor]] = []  # role, tokens [b, t] and hidden states [b, t, H] of a forward pass

    def keep(role: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            if output.last_hidden_state.requires_grad:  # the engine also tries the head, without gradients
                output.last_hidden_state.retain_grad()
                calls.append((role, kwargs["input_ids"], output.last_hidden_state))

        return hook

    for role, model in run.models.items():
        if method.roles[role].train:
            model.base_model.register_forward_hook(keep(role), with_kwargs=True)
    subject.contract(run).optimize(run, batch).total.backward()
    for role, tokens, hidden in calls:
        if hidden.grad is None:
            continue
        allowed, used = _allowed(subject, role, batch), hidden.grad.abs().sum(-1) > 0
        width = tokens.shape[1]  # a pass holds some of the rows, without the columns that only pad them
        for row, ids in zip(used, tokens, strict=True):
            same = (batch.tokens[:, :width] == ids).all(1)
            wrong = (row & ~allowed[same][:, :width].any(0)).nonzero().flatten().tolist()
            if wrong:
                acted = batch.acted[same.nonzero()[0, 0]].nonzero().flatten().tolist()
                raise BrokenPromise(
                    "no gradient comes from outside what was acted",
                    f"role {role!r} gets one at the positions {wrong[:5]} of a row whose acted tokens are "
                    f"{acted[:5]}{' and so on' if len(acted) > 5 else ''} (what is before a token, predicts it)",
                    "run.value is not masked: multiply by `acted` before anything is summed; or a mask is shifted",
                )


def _allowed(subject: Subject, role: str, batch: Batch) -> Tensor:
    """Return the positions that a role's gradient may come in at, bool [B, T].

    A token's log-prob, and the value before it, come from the position before; a row's score from its last token, and a
    step's from its own end, which is what is acted there.
    """
    if subject.method.roles[role].head == "lm" or subject.method.rows == "prompt":
        before = torch.zeros_like(batch.acted)
        before[:, :-1] = batch.acted[:, 1:]
        return before
    if subject.method.rows == "steps":
        return batch.acted
    last = torch.zeros_like(batch.acted)
    last[torch.arange(len(batch)), batch.valid.long().cumsum(1).argmax(1)] = True
    return last


def check_frozen(subject: Subject) -> None:
    """Check that an optimizer step moves every role that is trained, and no other."""
    run, batch = subject.collected()
    before = {role: [p.detach().clone() for p in model.parameters()] for role, model in run.models.items()}
    subject.gradients(run, batch)
    torch.optim.SGD(trained_parameters(run.models.values()), lr=1.0).step()
    for role, model in run.models.items():
        same = all(torch.equal(p, q) for p, q in zip(model.parameters(), before[role], strict=True))
        if same and subject.method.roles[role].train:
            found = f"role {role!r} is trained, and a step leaves it as it is"
            cause = "nothing of the loss hangs on it: take it out of `roles`, set train=False, or detach less"
            raise BrokenPromise("a step moves what is trained", found, cause)
        if not same and not subject.method.roles[role].train:
            found = f"role {role!r} is frozen, and a step has changed it"
            raise BrokenPromise("frozen roles stay as they are", found, "a stage writes into a model's weights")

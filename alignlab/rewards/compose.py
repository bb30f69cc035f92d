"""How several rewards become one number a row."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from alignlab.batch import Batch
from alignlab.errors import RewardError
from alignlab.method import Run
from alignlab.rewards.base import Reward
from alignlab.rewards.calls import Call, begin
from alignlab.rewards.text import describe


@dataclass(frozen=True)
class Weighted:
    """One reward of a phase, its name in the logs, its weight, and how it is called."""

    name: str
    reward: Reward
    weight: float = 1.0
    timeout: float | None = None  # seconds
    concurrency: int = 1

    @property
    def is_async(self) -> bool:
        """Whether calling it takes no time: what comes back is awaited."""
        known = getattr(self.reward, "is_async", None)
        return inspect.iscoroutinefunction(type(self.reward).__call__) if known is None else bool(known)

    def begin(self, run: Run, batch: Batch) -> list[Call]:
        """Begin its calls: one with the whole batch, or `concurrency` with a part of the rows each."""
        rows = torch.arange(len(batch), device=batch.tokens.device).tensor_split(min(self.concurrency, len(batch)) or 1)
        parts = [batch] if len(rows) == 1 else [batch.select(part) for part in rows]
        thread = not self.is_async and (self.timeout is not None or len(parts) > 1)
        return [begin(partial(self.reward, run, part), thread=thread) for part in parts]

    def collect(self, calls: list[Call]) -> Any:
        """Wait for its calls; return float [B], or whatever wrong thing came back."""
        found = [_later(call.result(self.timeout), call, self.timeout) for call in calls]
        whole = all(isinstance(part, Tensor) and part.dim() == 1 for part in found)
        return torch.cat(found) if len(found) > 1 and whole else found[0]


def _later(found: Any, call: Call, timeout: float | None) -> Any:
    """Wait again for a plain function on a thread that returned what is to be awaited."""
    if not inspect.isawaitable(found):
        return found
    return Call(begin(lambda: found, thread=False).future, call.began).result(timeout)


@dataclass(frozen=True)
class Rewards:
    """The rewards of a phase: their weighted sum, and each by its name."""

    parts: tuple[Weighted, ...]

    def __call__(self, run: Run, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum over the rewards that do not abstain, float [B], and every reward by name.

        All async rewards begin at once and are awaited while the others work, which come one after the other: they may
        share models, or state.
        """
        begun: dict[str, list[Call]] = {}
        scores: dict[str, Tensor] = {}
        try:
            for part in (part for part in self.parts if part.is_async):
                with self._blamed(part, run, batch):
                    begun[part.name] = part.begin(run, batch)
            for part in sorted(self.parts, key=lambda part: part.is_async):  # the async ones last
                with self._blamed(part, run, batch):
                    calls = begun[part.name] if part.is_async else part.begin(run, batch)
                    scores[part.name] = self._checked(part.collect(calls), run, batch)
        finally:
            for call in (call for calls in begun.values() for call in calls):
                call.future.cancel()  # of those that are still running, if one of the rewards failed
        components = {part.name: scores[part.name] for part in self.parts}
        stacked = torch.stack([components[part.name] * part.weight for part in self.parts])  # float [R, B]
        silent = stacked.isnan().all(0)
        if silent.any():
            row = int(silent.nonzero()[0])
            raise RewardError(
                "every reward abstains (NaN) on an answer",
                where=describe(run, batch, row),
                do="let one of them score every answer",
            )
        return stacked.nansum(0), components

    @contextmanager
    def _blamed(self, part: Weighted, run: Run, batch: Batch) -> Iterator[None]:
        """Name the reward in whatever it raises (PPO.md row 30)."""
        try:
            with torch.no_grad():
                yield
        except torch.OutOfMemoryError:
            raise  # which the engine explains
        except RewardError as error:
            where = error.where or f"{describe(run, batch, 0)} (the first of the batch)"
            raise RewardError(f"reward {part.name!r}: {error.what}", where=where, do=error.do) from error
        except Exception as error:
            raise RewardError(
                f"reward {part.name!r} raised {type(error).__name__}: {error}",
                where=f"{describe(run, batch, 0)} (the first of the batch)",
                do="mend the reward; a row that it cannot score is None or NaN",
            ) from error

    def _checked(self, scores: Any, run: Run, batch: Batch) -> Tensor:
        """Raise if what came back is not one number a row, or none of them is a number."""
        if not isinstance(scores, Tensor) or scores.shape != (len(batch),):
            came = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RewardError(f"it returned {came}; wanted a tensor of shape [{len(batch)}]", do="mend the reward")
        scores = scores.float()
        wrong = scores.isinf() | (scores.isnan().all() & scores.isnan())
        if wrong.any():
            row = int(wrong.nonzero()[0])
            what = f"it returned {float(scores[row])}" + (" for every answer" if scores.isnan().all() else "")
            raise RewardError(what, where=describe(run, batch, row), do="mend the reward; NaN or None abstains")
        checked: Tensor = scores.to(batch.tokens.device)
        return checked

"""Plain functions as rewards, in the signature that people have."""

import importlib
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignlab.batch import Batch
from alignlab.errors import RewardError
from alignlab.method import Run
from alignlab.rewards.text import describe_prompt, texts

OWN = {"prompt", "prompts", "completion", "completions", "completion_ids"}


@dataclass(frozen=True)
class FunctionReward:
    """A plain or async function `f(prompts, completions, completion_ids, **columns) -> list[float | None]`."""

    function: Callable[..., Any]

    @property
    def is_async(self) -> bool:
        """Whether a call only returns what is to be awaited."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 - an object's own, which may be async
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)

    def __call__(self, run: Run, batch: Batch) -> Tensor | Awaitable[Tensor]:
        """Call it with the batch as text (or as messages where the data was conversational)."""
        prompts, completions = texts(run, batch)
        names = set.intersection(*(set(r.columns) for r in batch.records)) if batch.records else set()
        columns = {name: [record.columns[name] for record in batch.records] for name in names - OWN}
        ids = [batch.tokens[i][batch.acted[i]].tolist() for i in range(len(batch))]
        found = self.function(prompts=prompts, completions=completions, completion_ids=ids, **columns)
        device = batch.tokens.device
        return _awaited(found, prompts, device) if inspect.isawaitable(found) else numbers(found, prompts, device)


async def _awaited(found: Awaitable[Any], prompts: Sequence[Any], device: torch.device) -> Tensor:
    return numbers(await found, prompts, device)


def numbers(found: Any, prompts: Sequence[Any], device: torch.device) -> Tensor:
    """Turn what a function returned into float [B]; None abstains. Raises RewardError for anything else."""
    if isinstance(found, Tensor):
        found = found.tolist()
    if isinstance(found, str | bytes) or not isinstance(found, Sequence):
        what = f"it returned {found!r:.200}; wanted a list of {len(prompts)} numbers"
        raise RewardError(what, do="return a list with a number for each of `completions`, None to abstain")
    if len(found) != len(prompts):
        raise RewardError(
            f"it returned {len(found)} numbers for {len(prompts)} answers", do="return one for each of `completions`"
        )
    for value, prompt in zip(found, prompts, strict=True):
        if value is not None and (isinstance(value, str | bytes) or not hasattr(value, "__float__")):
            what = f"it returned {value!r:.200} for an answer; wanted a number or None"
            raise RewardError(what, where=describe_prompt(prompt), do="return numbers, and None to abstain")
    return torch.tensor([math.nan if v is None else float(v) for v in found], device=device)


def import_function(spec: str) -> FunctionReward:
    """Import `package.module:function` as a reward."""
    module, _, name = spec.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RewardError(
            f"cannot import the reward {spec!r}: {error}",
            do="name it as `package.module:function`, in a package that is installed or on PYTHONPATH",
        ) from error
    if not callable(function):
        raise RewardError(f"the reward {spec!r} is a {type(function).__name__}, not a function")
    return FunctionReward(function)

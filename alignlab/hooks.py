"""The hook points: what a plugin may register, wrap, and observe. Nothing here imports torch.

A plugin marks its functions with `@hookimpl`, and may leave out arguments. docs/hooks.md shows each hook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = "alignlab"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Registration:
    """Called once, when a plugin is used. Each returns an iterable of objects that have a `name`."""

    @hookspec
    def register_methods(self) -> Iterable[Any]:
        """Return methods: classes derived from `alignlab.MethodSettings`."""
        return ()

    @hookspec
    def register_rewards(self) -> Iterable[Any]:
        """Return rewards: classes derived from `alignlab.rewards.RewardRule`."""
        return ()

    @hookspec
    def register_judges(self) -> Iterable[Any]:
        """Return judges, which compare two answers to a prompt and return P(first is better)."""
        return ()

    @hookspec
    def register_data(self) -> Iterable[Any]:
        """Return data sources (`alignlab.data.DataSource`)."""
        return ()

    @hookspec
    def register_optimizers(self) -> Iterable[Any]:
        """Return optimization algorithms: objects with `build(groups, settings) -> torch.optim.Optimizer`."""
        return ()

    @hookspec
    def register_generators(self) -> Iterable[Any]:
        """Return samplers (`alignlab.generate.Generator`)."""
        return ()

    @hookspec
    def register_kernels(self) -> Iterable[Any]:
        """Return implementations of ops (`alignlab.ops.Kernel`); their names are what `backend` may ask for."""
        return ()

    @hookspec
    def register_trackers(self) -> Iterable[Any]:
        """Return trackers: objects with `start(output, manifest)`, `log(phase, step, metrics)` and `finish()`."""
        return ()

    @hookspec
    def register_commands(self) -> Iterable[Any]:
        """Return commands of `alignlab`: objects with `help`, `configure(parser)` and `run(args) -> int`."""
        return ()


class Stages:
    """Called once per batch (the optimizer stage: once per microbatch). The run's method is the innermost caller.

    A plugin wraps a stage with `@hookimpl(wrapper=True)`: what it yields gives the inner result, what it returns is
    passed on.
    """

    @hookspec(firstresult=True)
    def data_stage(self, run: Any, method: Any, records: Sequence[Any]) -> Any:
        """Turn records into a batch."""

    @hookspec(firstresult=True)
    def reward_stage(self, run: Any, method: Any, batch: Any) -> Any:
        """Add rewards, advantages, reference log-probs or labels to a batch. No gradient is recorded."""

    @hookspec(firstresult=True)
    def optimizer_stage(self, run: Any, method: Any, batch: Any) -> Any:
        """Return the `Loss` of a microbatch, a sum; the engine divides, and calls backward() and step()."""


class Events:
    """Called when something has happened. The result is ignored."""

    @hookspec
    def on_run_start(self, manifest: Mapping[str, Any]) -> None:
        """Take note of a run: everything is resolved and checked, nothing is trained yet."""

    @hookspec
    def on_step_end(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Look at a step that is done and written; steps count from 1."""

    @hookspec
    def on_evaluate(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Look at an evaluation of the held-out rows."""

    @hookspec
    def on_checkpoint(self, phase: str, step: int, path: Path) -> None:
        """Take note of a checkpoint that stands at `path`; told again when a run goes on from it."""

    @hookspec
    def on_run_end(self, output: Path) -> None:
        """Look at a run whose phases are all done; `output` is its directory."""


FAMILIES = (Registration, Stages, Events)

"""A method as its checks see it: the class, its settings, and the tiny world that it is tried in."""

import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignlab import builtin
from alignlab.batch import Batch
from alignlab.engine.contract import Contract, check_class, check_settings
from alignlab.engine.run import EngineRun
from alignlab.engine.update import accumulate
from alignlab.method import MethodSettings
from alignlab.plugins import Plugins
from alignlab.testing.promise import BrokenPromise, NotCheckable
from alignlab.testing.world import collect, engine_run, shared_model, tiny_split

SHORT = {"max_new_tokens": 8}  # a sampling method's own default is too long for a check, where it has such a setting
NUM_RECORDS = 8


@dataclass(frozen=True)
class Subject:
    """A method under test."""

    cls: type[MethodSettings]
    settings: Mapping[str, Any]
    registered: bool  # an installed plugin registers it under its name

    @classmethod
    def find(cls, method: str | type[MethodSettings], settings: Mapping[str, Any]) -> "Subject":
        """Look a name up, and check that the class is complete."""
        found = Plugins(builtin).get("method", method) if isinstance(method, str) else method
        check_class(found, f"{found!r:.80}" if not isinstance(found, type) else name_of(found))
        short = {k: v for k, v in SHORT.items() if k in found.model_fields and k not in settings}
        subject = cls(found, {**short, **settings}, isinstance(method, str))
        check_settings(subject.method, subject.who)
        return subject

    @property
    def who(self) -> str:
        """What errors call it."""
        return name_of(self.cls)

    @cached_property
    def method(self) -> MethodSettings:
        """The method with its settings."""
        return self.cls.model_validate(dict(self.settings))

    def plugins(self) -> Plugins:
        """Return plugins among which the method is."""
        plugins = Plugins(builtin)
        if not self.registered:
            plugins.offer("method", self.cls)
        return plugins

    @property
    def source(self) -> dict[str, str] | None:
        """Where another process finds the class; None for one that is installed."""
        if self.registered:
            return None
        file = inspect.getsourcefile(self.cls)
        if file is None or "<locals>" in self.cls.__qualname__:
            raise NotCheckable(
                f"{self.who} stands in a function, where a second process cannot find it; define it at the top level "
                "of a module, install it and give its name, or leave the check 'ranks' out"
            )
        return {"file": file, "module": self.cls.__module__, "name": self.cls.__qualname__}

    def run(self, seed: int = 0) -> EngineRun:
        """Return a new run, always the same for a seed."""
        return engine_run(shared_model(), self.method, seed=seed)

    def collected(self, seed: int = 0) -> tuple[EngineRun, Batch]:
        """Return a new run, and the batch of a few records."""
        run = self.run(seed)
        return run, collect(run, self.method, tiny_split(shared_model(), self.method.rows).train[:NUM_RECORDS])

    def contract(self, run: EngineRun) -> Contract:
        """Return the stages as the engine calls them."""
        return Contract(self.method, run.models, self.who)

    def gradients(self, run: EngineRun, batch: Batch, max_tokens: int = 100_000) -> dict[str, Tensor]:
        """Return the gradients of a batch by role and weight, as the engine accumulates them."""
        clear_gradients(run)
        stages = self.contract(run)
        accumulate(self.method, lambda part: stages.optimize(run, part), batch, max_tokens, backward=True)
        return read_gradients(run)


def name_of(cls: type) -> str:
    """Return what errors call a class."""
    return f"{getattr(cls, 'name', '(no name)')!r} ({cls.__module__}.{cls.__qualname__})"


def load_class(source: Mapping[str, str]) -> type[MethodSettings]:
    """Import a class from the file that it stands in, whether or not its module is on sys.path."""
    name = source["module"] if source["module"] != "__main__" else "__checked__"
    spec = importlib.util.spec_from_file_location(name, source["file"])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(Path(source["file"]).parent))
    spec.loader.exec_module(module)
    found: Any = module
    for part in source["name"].split("."):
        found = getattr(found, part)
    cls: type[MethodSettings] = found
    return cls


def clear_gradients(run: EngineRun) -> None:
    """Forget what was accumulated."""
    for model in run.models.values():
        model.zero_grad(set_to_none=True)


def read_gradients(run: EngineRun) -> dict[str, Tensor]:
    """Return copies of the gradients there are."""
    return {
        f"{role}.{name}": p.grad.clone()
        for role, model in run.models.items()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def check_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], promise: str, cause: str, given: str) -> None:
    """Raise BrokenPromise if two sets of gradients differ by more than rounding; `given` is what theirs were got by."""
    largest = max((float(x.abs().max()) for x in ours.values()), default=0.0)
    if not largest > 0:
        wrong = "there is no gradient" if largest == 0 else "the gradient is NaN"
        raise BrokenPromise("a small batch gives a gradient", wrong, "a loss that is constant, detached, or not finite")
    if ours.keys() != theirs.keys():
        which = ", ".join(sorted(ours.keys() ^ theirs.keys())[:3])
        raise BrokenPromise(promise, f"{given}, other weights get a gradient: {which}", cause)
    worst = max(ours, key=lambda name: float((ours[name] - theirs[name]).abs().nan_to_num(torch.inf).max()))
    for name in ours:
        if not torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5 * largest):
            break
    else:
        return
    one, two = (float(torch.stack([x.norm() for x in side.values()]).norm()) for side in (ours, theirs))
    gap = float((ours[worst] - theirs[worst]).abs().max())
    raise BrokenPromise(
        promise,
        f"{given}, the gradient's norm is {two:.6g}, and {one:.6g} without; {worst} differs by up to {gap:.3g}, where "
        f"the largest gradient is {largest:.3g}",
        cause,
    )

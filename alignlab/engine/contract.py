"""What the engine holds a method to: what it says of itself before a run, and its stages while they run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from alignlab.batch import Batch
from alignlab.config.settings import Settings
from alignlab.engine.optim import trained_parameters
from alignlab.errors import PluginError, did_you_mean
from alignlab.method import Loss, Method, MethodSettings, Role, RowFormat, Run

DECLARED = {
    "name": 'name = "my_method"',
    "roles": 'roles = {"policy": Role()}',
    "per": 'per = "token", "row" or "unit": what the loss is a sum over',
    "rows": 'rows = "preference", say: the row format that the data stage needs',
}
PER: tuple[Literal["token", "row", "unit"], ...] = ("token", "row", "unit")


def check_class(cls: Any, who: str) -> None:
    """Check that a method is complete. Raises PluginError, which names it as `who`."""
    if not (isinstance(cls, type) and issubclass(cls, MethodSettings)):
        raise PluginError(f"{who} is {cls!r:.80}, no class of settings", do="derive it from alignlab.MethodSettings")
    for name, example in DECLARED.items():
        if not hasattr(cls, name) and name not in cls.model_fields:
            raise PluginError(f"{who} does not say its `{name}`", do=f"write in the class: {example}")
    if cls.optimize is MethodSettings.optimize:
        raise PluginError(
            f"{who} has no optimizer stage",
            do="write optimize(self, run, batch), which returns alignlab.Loss(total): a sum, never a mean",
        )
    if not cls.model_config.get("frozen"):
        do = "take `frozen` out of its model_config; what changes in a run belongs in run.state"
        raise PluginError(f"{who} is not frozen: its settings can change while a run goes on", do=do)


def check_settings(method: MethodSettings, who: str) -> None:
    """Check what may depend on a method's settings. Raises PluginError, which names it as `who`."""
    roles = method.roles
    if not isinstance(roles, Mapping) or not all(isinstance(role, Role) for role in roles.values()):
        raise PluginError(f"{who} has the roles {roles!r:.80}", do=f"write in the class: {DECLARED['roles']}")
    if not any(role.train for role in roles.values()):
        raise PluginError(f"{who} trains no role", do='give it one: roles = {"policy": Role()}')
    for name, value, known in (("per", method.per, PER), ("rows", method.rows, get_args(RowFormat))):
        if value not in known:
            raise PluginError(f"{who} has {name} = {value!r}", do=did_you_mean(str(value), known))
    for name, value in _mutable(method):
        raise PluginError(
            f"{who} has a mutable setting: `{name}` is a {type(value).__name__}, which can change while a run goes on",
            do=f"make it a tuple, such as `{name}: tuple[float, ...]`; what changes in a run belongs in run.state",
        )


def _mutable(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Yield the settings that can be changed in place."""
    for name in type(settings).model_fields:
        values = [getattr(settings, name)]
        while values:
            value = values.pop()
            if isinstance(value, tuple | frozenset):
                values += value
            elif isinstance(value, Settings):
                yield from ((f"{name}.{below}", found) for below, found in _mutable(value))
            elif isinstance(value, list | dict | set | bytearray | Tensor) or hasattr(value, "__array__"):
                yield name, value


@dataclass(frozen=True)
class Contract:
    """A method's stages as the engine calls them: what a stage must not do is an error that names the method."""

    method: Method
    models: Mapping[str, nn.Module]
    who: str

    def reward(self, run: Run, batch: Batch) -> Batch:
        """Call the reward stage. Raises PluginError if it changes its batch in place."""
        before = _versions(batch)
        scored = self.method.reward(run, batch)
        self._check_unchanged(before, "reward")
        return scored

    def optimize(self, run: Run, batch: Batch) -> Loss:
        """Call the optimizer stage.

        Raises PluginError if it changes its batch in place, calls backward() or step(), or returns what is no sum that
        gradients can be taken of.
        """
        before, gradients = _versions(batch), self._gradients()
        loss = self.method.optimize(run, batch)
        self._check_unchanged(before, "optimize")
        if self._gradients() != gradients:
            raise PluginError(
                f"{self.who} calls backward() or step() in its optimize()",
                do="return the loss, and leave both to the engine: it divides by the count over the whole batch, and "
                "adds up the gradients of all microbatches",
            )
        if hasattr(loss, "total") and hasattr(loss, "metrics"):  # the caller says so if they are missing
            self._check_loss(loss)
        return loss

    def _check_loss(self, loss: Loss) -> None:
        for name, value in {"total": loss.total, **loss.metrics}.items():
            if not isinstance(value, Tensor) or value.numel() != 1:
                came = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise PluginError(
                    f"{self.who} returns a Loss whose {name} is {came}, wanted a tensor of shape []",
                    do=f"sum it over the {self.method.per}s of the microbatch",
                )
        if torch.is_grad_enabled() and not loss.total.requires_grad:
            raise PluginError(
                f"{self.who} returns a loss without a gradient",
                do="make it of run.logp or run.value of a trained role, outside of detach() and no_grad()",
            )

    def _check_unchanged(self, before: Mapping[str, tuple[Tensor, int]], stage: str) -> None:
        """Compare torch's own counters of changes in place."""
        if changed := [name for name, (tensor, version) in before.items() if tensor._version != version]:
            raise PluginError(
                f"{self.who} changes its batch in place: {', '.join(changed)}, in its {stage}()",
                do="work on a copy (x = x + 1, x.clone(), x.masked_fill(...)), and return a new batch where a stage "
                "adds something: dataclasses.replace, or the method's own class of batch",
            )

    @cached_property
    def _trained(self) -> list[nn.Parameter]:
        return trained_parameters(self.models.values())

    def _gradients(self) -> list[tuple[int, int, int]]:
        """Return what backward() and step() change: gradients, by identity and version, and weights, by version."""
        return [(p._version, id(p.grad), p.grad._version if p.grad is not None else 0) for p in self._trained]


def _versions(batch: Batch) -> dict[str, tuple[Tensor, int]]:
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return {name: (value, value._version) for name, value in tensors.items() if not value.is_inference()}

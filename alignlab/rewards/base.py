"""What a reward is, and what a registered one may need."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from alignlab.batch import Batch
from alignlab.config.settings import Settings
from alignlab.method import Run


class Reward(Protocol):
    """Scores a batch: float [B], NaN where it abstains."""

    def __call__(self, run: Run, batch: Batch) -> Tensor | Awaitable[Tensor]:
        """Score every row; an `async` one is awaited while others work."""
        ...


@dataclass(frozen=True)
class RewardContext:
    """What a reward may need while it is loaded."""

    models: Mapping[str, Path]  # the exported model of each finished phase
    device: torch.device
    dtype: torch.dtype = torch.float32
    trust_remote_code: bool = False
    microbatch_tokens: int = 16384
    name: str = ""  # what the reward is logged as
    panel: Callable[[Any], Any] | None = None  # the judges of some `alignlab.PanelSettings`: an `alignlab.Panel`


class RewardRule(Settings):
    """The base of registered rewards: a record of settings that scores, or that loads what scores."""

    name: ClassVar[str]

    def load(self, context: RewardContext) -> Reward:
        """Load what is heavy, once a phase. A rule that needs nothing is its own reward."""
        return self

    def __call__(self, run: Run, batch: Batch) -> Tensor:
        """Score every row."""
        raise NotImplementedError(f"reward {self.name!r} has no __call__()")

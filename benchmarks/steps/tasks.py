"""What is measured, for both sides alike. Standard library only: every environment imports it."""

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUM_PAIRS = 256
MAX_LENGTH = 199  # tokens a row: under 200
LR = 1e-4
BETA = 0.1
DPO_PAIRS = 8  # a step
SFT_ROWS = 16
REWARD_PAIRS = 8
PPO_PROMPTS = 16
PPO_PROMPT_TOKENS = 32
PPO_NEW_TOKENS = 32
PPO_PASSES = 4
NEW_TOKENS = 64  # in the generation tasks
NUM_PROMPTS = 128  # in the generation tasks

STEPS = {"dpo": 14, "sft": 14, "reward": 20, "ppo": 7}
WARM_UP = 2
"""Steps that are not counted: the first ones fault their memory in and fill caches."""


def rows(path: Path) -> list[dict[str, Any]]:
    """Read a jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Clock:
    """Notes the end of every step, and what the process has used in the end."""

    def __init__(self) -> None:
        """Start counting."""
        self.ends: list[float] = []
        self.losses: list[float] = []

    def step(self, loss: float | None = None) -> None:
        """Note that a step has ended."""
        self.ends.append(time.perf_counter())
        if loss is not None:
            self.losses.append(loss)

    def report(self, **more: Any) -> dict[str, Any]:
        """Return seconds a step, from the end of one step to that of the next, the first ones left out."""
        gaps = [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]
        return {"seconds": gaps[WARM_UP - 1 :], "losses": self.losses[:10], "peak_rss": peak_rss(), **more}


def peak_rss() -> int:
    """Return the most memory that this process has had resident, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and its result."""
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result

"""alignlab's own methods and their variants, on the small world of `alignlab.testing`."""

from pathlib import Path
from typing import Any, get_args

from alignlab import builtin
from alignlab.batch import Batch, Record
from alignlab.data import Mixed, Split
from alignlab.engine.run import EngineRun
from alignlab.losses import DPOLoss
from alignlab.method import Method
from alignlab.plugins import Plugins, installed
from alignlab.testing import world

# Settings that let a method show more of itself than its defaults do.
METHODS: dict[str, dict[str, Any]] = {
    "reward_model": {"center_coef": 0.01},
    "ppo": {"max_new_tokens": 8, "minibatches": 2, "passes": 2, "entropy_coef": 0.01},
}
# One method in many forms: every loss by its name, and DPO's other settings together.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    f"dpo {loss_type}": ("dpo", {"loss_type": loss_type, "beta": 0.5}) for loss_type in get_args(DPOLoss)
}
VARIANTS |= {name: ("reward_model", {"loss_type": name}) for name in ("all_pairs", "plackett_luce")}
VARIANTS["dpo exo_pair"][1]["label_smoothing"] = 0.01
VARIANTS["dpo robust"][1]["label_smoothing"] = 0.1
VARIANTS["dpo mixture"] = (
    "dpo",
    {
        "loss_type": ["bco_pair", "aot", "aot_unpaired", "simpo"],
        "loss_weights": [1.0, 0.5, 2.0, 0.3],
        "length_normalize": True,
        "sft_coef": 0.1,
        "ref_sync_steps": 2,
    },
)


def registered() -> list[str]:
    """Every method that alignlab itself installs."""
    return sorted(f.name for f in installed() if f.kind == "method" and f.distribution == "alignlab")


def variants() -> list[str]:
    """Every method, and the variants that are tested like methods."""
    return [*registered(), *VARIANTS]


def settings(name: str) -> tuple[str, dict[str, Any]]:
    """The method that a name stands for, and the settings that it is tested with."""
    name, variant = VARIANTS.get(name, (name, {}))
    return name, {**METHODS.get(name, {}), **variant}


def method(name: str, **more: Any) -> Method:
    name, own = settings(name)
    return Plugins(builtin).get("method", name)(**{**own, **more})


def base_model(directory: Path, architecture: str = "llama") -> Path:
    return world.tiny_model(directory, architecture)


def split_for(base: Path, rows: str, num_rows: int = 64) -> Split:
    return world.tiny_split(base, rows, num_rows)


def source(kind: str, num_rows: int = 64) -> Mixed:
    return world.source(kind, num_rows)


def word_count(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
    """A reward that differs between answers, whatever they say."""
    return [len(ids) / 4 + sum(ids[:1]) % 3 for ids in completion_ids]


def run_for(base: Path, chosen: Method, microbatch_tokens: int = 100_000, seed: int = 0) -> EngineRun:
    return world.engine_run(base, chosen, microbatch_tokens, seed, reward=word_count)


def collect(run: EngineRun, chosen: Method, records: list[Record]) -> Batch:
    return world.collect(run, chosen, records)

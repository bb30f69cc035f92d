"""A toy that every method can be tested on: tiny models of the small world, and its records."""

from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch

from alignlab import builtin
from alignlab.batch import Batch, Record
from alignlab.config.recipe import DataSettings, ModelSettings, NewModelSettings
from alignlab.data import Mixed, Split, corpus, load_split
from alignlab.data.world import World, WorldSettings
from alignlab.engine.roles import load_roles
from alignlab.engine.run import EngineRun
from alignlab.generate import TorchGenerator
from alignlab.losses import DPOLoss
from alignlab.method import Method
from alignlab.models import load_tokenizer, new_model
from alignlab.plugins import Plugins, installed
from alignlab.rewards import FunctionReward, Rewards, Weighted

KINDS = {
    "completion": "demonstrations",
    "preference": "preferences",
    "prompt": "prompts",
    "ranked": "ranked",
    "steps": "steps",
}
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


def source(kind: str, num_rows: int = 64) -> Mixed:
    return Mixed(World(), WorldSettings(kind=kind, num_rows=num_rows), DataSettings(source="world", eval=0.25))


def base_model(directory: Path, architecture: str = "llama") -> Path:
    settings = NewModelSettings(
        architecture=architecture, hidden_size=32, num_layers=2, num_heads=4, vocab_size=320, context_length=128
    )
    new_model(settings, corpus([source("demonstrations")]), directory, seed=0)
    return directory


@cache
def split_for(base: Path, rows: str, num_rows: int = 64) -> Split:
    return load_split(
        [source(KINDS[rows], num_rows)], rows, load_tokenizer(str(base)), context_length=128, seed=0, cache=None
    )


def method(name: str, **settings: Any) -> Method:
    name, variant = VARIANTS.get(name, (name, {}))
    cls = Plugins(builtin).get("method", name)
    return cls(**{**METHODS.get(name, {}), **variant, **settings})


def word_count(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
    """A reward that differs between answers, whatever they say."""
    return [len(ids) / 4 + sum(ids[:1]) % 3 for ids in completion_ids]


def run_for(base: Path, chosen: Method, microbatch_tokens: int = 100_000, seed: int = 0) -> EngineRun:
    """An engine run whose frozen and trained roles differ, as they do after some steps."""
    models = load_roles(chosen, str(base), ModelSettings(path=str(base), device="cpu"), None)
    rng = torch.Generator().manual_seed(1)
    for model in models.values():
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=rng)
    return EngineRun(
        models,
        load_tokenizer(str(base)),
        seed=seed,
        rewards=Rewards((Weighted("word_count", FunctionReward(word_count)),)),
        generator=TorchGenerator(),
        microbatch_tokens=microbatch_tokens,
    )


def collect(run: EngineRun, chosen: Method, records: list[Record]) -> Batch:
    with torch.no_grad():
        return chosen.reward(run, chosen.data(run, records))

"""Ask exported models: what `alignlab sample` prints."""

from collections.abc import Sequence
from pathlib import Path

import torch

from alignlab.config import load_recipe
from alignlab.data import prompt_record
from alignlab.engine.files import read_json
from alignlab.engine.run import EngineRun
from alignlab.errors import CheckpointError, did_you_mean
from alignlab.generate import Sampling, TorchGenerator
from alignlab.models import load_model, load_tokenizer, resolve_device
from alignlab.rewards import texts


def policies(path: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Return the language models of a run directory by phase; a model directory is its own."""
    if (path / "config.json").is_file():
        return {path.name: path}
    recipe = path / "recipe.yaml"
    phases = load_recipe(recipe).recipe.phases if recipe.is_file() else []
    found = {p.name: path / p.name / "model" for p in phases if (path / p.name / "phase.json").is_file()}
    found = {name: model for name, model in found.items() if not _is_reward_model(model)}
    if not found:
        raise CheckpointError("there is no finished model here", where=str(path), do="name a run or model directory")
    for name in names or ():
        if name not in found:
            raise CheckpointError(f"there is no phase {name!r}", where=str(path), do=did_you_mean(name, found))
    return {name: found[name] for name in names or found}


def _is_reward_model(model: Path) -> bool:
    return any("SequenceClassification" in name for name in read_json(model / "config.json").get("architectures", []))


def answer(path: Path, prompts: Sequence[str], sampling: Sampling, seed: int) -> list[list[str]]:
    """Return `num_samples` answers of a model to each prompt."""
    tokenizer = load_tokenizer(str(path))
    model = load_model(str(path), "lm", dtype=torch.float32, device=resolve_device("auto"))
    run = EngineRun({"policy": model}, tokenizer, seed=seed, generator=TorchGenerator())
    batch = run.generate("policy", [prompt_record(p, tokenizer) for p in prompts], **sampling.model_dump())
    found = texts(run, batch)[1]
    size = sampling.num_samples
    said = [text if isinstance(text, str) else text[0]["content"] for text in found]
    return [said[i * size : (i + 1) * size] for i in range(len(prompts))]

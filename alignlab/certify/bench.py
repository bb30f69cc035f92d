"""One world on the disk, and training in it: recipes of one phase, run by the same engine as any others."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from alignlab.certify.exact import answer_logp
from alignlab.certify.model import new_base
from alignlab.certify.request import FEEDBACK, FEEDBACK_ROWS, KINDS, REFERENCE, Resolved
from alignlab.certify.world import World, WorldSize
from alignlab.config import load_recipe
from alignlab.config.yaml_lines import write_yaml
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.models import load_model, load_tokenizer

PHASE = "method"


@dataclass(frozen=True)
class Bench:
    """A world, the model with random weights, and the reference that is made of it."""

    size: WorldSize
    hidden_size: int
    directory: Path
    hooks: tuple[str, ...] = ()  # plugins that wrap the stages of what is certified

    @cached_property
    def world(self) -> World:
        """The world."""
        return World(self.size)

    @property
    def reference(self) -> Path:
        """The model that has learned from demonstrations."""
        return self.directory / "reference" / PHASE / "model"

    def ref_logp(self, temperature: float = 1.0) -> Tensor:
        """Return the reference's log-probs of the world's answers, brought to add up to 1; float64 [P, A]."""
        model = load_model(str(self.reference), "lm", dtype=torch.float64, device=torch.device("cpu"))
        tokenizer = load_tokenizer(str(self.reference))
        return answer_logp(model, tokenizer, self.world, temperature=temperature).log_softmax(1)

    def prepare(self) -> None:
        """Make the model and the reference, unless they are there."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / "base").is_dir():
            new_base(self.world, self.hidden_size, self.directory / "base")
        data = self._data({"kind": "demonstrations"}, REFERENCE["steps"] * REFERENCE["batch_size"])
        self._run("reference", self.directory / "base", data, {"method": "sft", **REFERENCE})
        save_file({"logp": self.ref_logp()}, self._drawn_from)

    def train(self, found: Resolved) -> Path:
        """Train a method; return the directory of its phase."""
        name = "-".join([found.request.slug, *self.hooks])
        rows: dict[str, Any] = {"kind": KINDS[found.method.rows]}
        if rows["kind"] == "prompts":
            optimizer = {"batch_size": len(self.world.prompts), **found.optimizer}
            reward = {"use": "tabular", **self.size.model_dump()}
            return self._run(name, self.reference, self._data(rows, 1), optimizer, reward)
        if rows["kind"] != "demonstrations":
            rows["drawn_from"] = str(self._drawn_from)
        data = self._data(rows, found.optimizer["steps"] * found.optimizer["batch_size"])
        if found.request.name in FEEDBACK:
            judge = {"use": "tabular", **self.size.model_dump()}
            rows = {**FEEDBACK_ROWS, "max_new_tokens": self.size.max_letters}
            data = {**rows, "prompts": self._data({"kind": "prompts"}, 1), "judge": judge}
        return self._run(name, self.start(found), data, dict(found.optimizer))

    def start(self, found: Resolved) -> Path:
        """Return the model that a method starts from: the reference, or random weights to learn demonstrations with."""
        return self.directory / "base" if found.method.rows == "completion" else self.reference

    @property
    def _drawn_from(self) -> Path:
        return self.directory / "reference.safetensors"

    def _data(self, rows: Mapping[str, Any], num: int) -> dict[str, Any]:
        return {"source": "tabular", **self.size.model_dump(), **rows, "num_rows": max(num, len(self.world.prompts))}

    def _run(
        self,
        name: str,
        start: Path,
        data: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        reward: Mapping[str, Any] | None = None,
    ) -> Path:
        """Run a recipe, which stays in the directory, with its terminal in a file."""
        output = self.directory / name
        phase = {"name": PHASE, "data": data, "optimizer": optimizer} | ({"reward": [reward]} if reward else {})
        recipe = {
            "output": str(output),
            "seed": self.size.seed,
            "model": {"path": str(start), "device": "cpu"},
            "plugins": [] if name == "reference" else list(self.hooks),
            "phases": [phase],
        }
        path = self.directory / f"{name}.yaml"
        path.write_text(write_yaml(recipe))
        with (self.directory / f"{name}.log").open("w") as log:
            Pipeline(load_recipe(path), Display(Console(file=log, width=120))).run()
        return output / PHASE

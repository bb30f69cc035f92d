"""A small run of one phase in this process, through the command line's own entry."""

import json
from pathlib import Path

from alignlab.cli.main import main

RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, eval: 0.25, num_rows: 64}}
phases:
  - name: sft
    data: {{kind: demonstrations}}
    optimizer: {{method: sft, lr: 3.0e-3, steps: 6, batch_size: 8, save_every: 2, eval_every: 3}}
"""


def write_recipe(directory: Path, output: Path, text: str = RECIPE) -> Path:
    path = directory / "recipe.yaml"
    path.write_text(text.format(output=output))
    return path


def run(recipe: Path, *overrides: str) -> int:
    """Run a recipe; return the exit code."""
    return main(["run", str(recipe), *(word for override in overrides for word in ("--set", override))])


def steps_of(output: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (output / "sft" / "metrics.jsonl").read_text().splitlines()]


def model_of(output: Path) -> bytes:
    return (output / "sft" / "model" / "model.safetensors").read_bytes()


def checkpoints_of(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "sft" / "checkpoints").iterdir())

"""DPO, SFT and reward models train as TRL 1.16 trains them: the same batches in the same order give the same losses.

The numbers in training.json are TRL's. To make them again, with an interpreter that has TRL 1.16:
    PYTHONPATH=tests .venv/bin/python tests/parity/test_training.py .peers/trl-1.16/bin/python
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
import toy
from transformers import AutoModelForSequenceClassification

from alignlab.config import load_recipe
from alignlab.config.recipe import NewModelSettings
from alignlab.data import epoch_order
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.models import load_tokenizer, new_model, save_model

FILE = Path(__file__).parent / "training.json"
TRL = Path(__file__).parents[2] / "benchmarks/steps/trl_116.py"
ANSWERS = ("chosen", "rejected")
NUM_ROWS = 256  # an epoch is longer than what is compared
TASKS = {  # as benchmarks/steps/tasks.py sets them for TRL
    "dpo": ("pairs", "method: dpo, beta: 0.1, batch_size: 8"),
    "sft": ("answers", "method: sft, batch_size: 16"),
    "reward": ("pairs", "method: reward_model, batch_size: 8"),
}


def write_inputs(directory: Path) -> None:
    """Write rows of the small world as text, a model, and a reward model whose head is not zero."""
    rows = toy.source("preferences", 2 * NUM_ROWS)
    pairs = [
        {
            "prompt": row["prompt"][-1]["content"],
            **{side: " " + row[side][0]["content"] for side in ("chosen", "rejected")},
        }
        for _, row in rows.source.load(rows.settings)
        if row["chosen"] != row["rejected"]
    ][:NUM_ROWS]
    answered = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    for name, found in (("pairs", pairs), ("answers", answered)):
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    (directory / "order.json").write_text(json.dumps(epoch_order(NUM_ROWS, 0, 0)))
    sizes = NewModelSettings(
        hidden_size=32, num_layers=2, num_heads=4, vocab_size=320, context_length=128, initializer_range=0.1
    )
    new_model(sizes, [text for row in pairs for text in row.values()], directory / "model", seed=0)
    torch.manual_seed(0)
    scored = AutoModelForSequenceClassification.from_pretrained(directory / "model", num_labels=1)
    save_model(scored, load_tokenizer(str(directory / "model")), directory / "reward")


class Silent(Display):
    def say(self, text: str) -> None:
        pass


def train(task: str, inputs: Path, output: Path) -> list[float]:
    rows, optimizer = TASKS[task]
    model = "reward" if task == "reward" else "model"
    recipe = output / f"{task}.yaml"
    recipe.write_text(
        f"output: {output}/run-{task}\nmodel: {{path: {inputs}/{model}, device: cpu}}\n"
        f"data: {{source: rows, path: {inputs}/{rows}.jsonl}}\n"
        f"phases: [{{name: {task}, optimizer: {{{optimizer}, lr: 1.0e-4, schedule: constant, steps: 10}}}}]\n"
    )
    run = Pipeline(load_recipe(recipe), Silent()).run()
    return [json.loads(line)["loss"] for line in (run / task / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("inputs")
    write_inputs(directory)
    return directory


@pytest.mark.parametrize("task", TASKS)
def test_the_first_ten_losses_are_those_of_trl(task, inputs, tmp_path):
    theirs = json.loads(FILE.read_text())[task]
    assert len(theirs) == 10 and len(set(theirs)) == 10
    assert train(task, inputs, tmp_path) == pytest.approx(theirs, rel=0, abs=1e-4)


def main(python: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        write_inputs(Path(scratch))
        found = {}
        for task in TASKS:
            done = subprocess.run([python, TRL, task, scratch], check=True, capture_output=True, text=True)
            found[task] = json.loads(done.stdout.splitlines()[-1])["losses"]
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

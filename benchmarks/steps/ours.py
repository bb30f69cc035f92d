"""alignlab on the same models and rows: the recipes below, as `alignlab run` runs them.

.venv/bin/python benchmarks/steps/ours.py dpo|sft|reward|ppo|generate... INPUTS
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tasks
import torch

from alignlab.config import load_recipe
from alignlab.engine.display import Bar, Display
from alignlab.engine.pipeline import Pipeline
from alignlab.generate import Sampling, TorchGenerator
from alignlab.models import load_model, load_tokenizer

OPTIMIZERS = {
    "dpo": f"method: dpo, beta: {tasks.BETA}, batch_size: {tasks.DPO_PAIRS}",
    "sft": f"method: sft, batch_size: {tasks.SFT_ROWS}",
    "reward": f"method: reward_model, batch_size: {tasks.REWARD_PAIRS}",
    "ppo": (
        f"method: ppo, batch_size: {tasks.PPO_PROMPTS}, max_new_tokens: {tasks.PPO_NEW_TOKENS}, "
        f"passes: {tasks.PPO_PASSES}"
    ),
}
ROWS = {"dpo": "pairs", "sft": "answers", "reward": "pairs", "ppo": "prompts"}


class Timer(Display):
    """A display that tells a clock of every step instead of showing it."""

    def __init__(self, clock: tasks.Clock) -> None:
        super().__init__()
        self.clock = clock

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def bar(self, name: str, start: int, total: int) -> Iterator[Bar]:
        def note(step: int, metrics: Mapping[str, float]) -> None:
            self.clock.step(metrics["loss"])

        yield note


def train(task: str, inputs: Path) -> dict[str, Any]:
    """Train some steps; return seconds a step, losses and memory."""
    clock = tasks.Clock()
    with tempfile.TemporaryDirectory() as scratch:
        model = inputs / ("reward" if task == "reward" else "model")
        reward = f"reward: [{{use: reward_model, path: {inputs}/reward}}], " if task == "ppo" else ""
        steps = tasks.STEPS[task]
        recipe = Path(scratch) / "recipe.yaml"
        recipe.write_text(
            f"output: {scratch}/run\nmodel: {{path: {model}, device: cpu}}\n"
            f"data: {{source: rows, path: {inputs}/{ROWS[task]}.jsonl}}\n"
            f"phases: [{{name: {task}, {reward}optimizer: {{{OPTIMIZERS[task]}, lr: {tasks.LR}, schedule: constant, "
            f"steps: {steps}, save_every: {steps}, log_samples: 0}}}}]\n"
        )
        Pipeline(load_recipe(recipe), Timer(clock)).run()
    return clock.report()


def generate(case: str, batch_size: int, inputs: Path) -> dict[str, Any]:
    """Answer the prompts, `batch_size` at a time; return seconds and the answers' lengths."""
    ends = case == "ends"
    directory = str(inputs / ("talker/sft/model" if ends else "model"))
    model = load_model(directory, "lm", dtype=torch.float32, device=torch.device("cpu"))
    tokenizer = load_tokenizer(directory)
    if not ends:
        model.generation_config.eos_token_id = tokenizer.eos_token = None
    texts = [row["prompt"] for row in tasks.rows(inputs / "pairs.jsonl")][: tasks.NUM_PROMPTS]
    prompts = [tokenizer(text)["input_ids"] for text in texts]
    generator = TorchGenerator(max_rows=batch_size)
    sampling = Sampling(max_new_tokens=tasks.NEW_TOKENS)
    generator(model, tokenizer, prompts[:batch_size], sampling, range(batch_size))  # warm-up
    seconds, answers = tasks.timed(lambda: generator(model, tokenizer, prompts, sampling, range(len(prompts))))
    lengths = [len(answer.tokens) for answer in answers]
    return {"seconds": [seconds / sum(lengths)], "lengths": lengths, "peak_rss": tasks.peak_rss()}


def main() -> None:
    task, inputs = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(2)
    if task.startswith("generate"):
        _, case, batch_size = task.split("_")
        found = generate(case, int(batch_size), inputs)
    else:
        found = train(task, inputs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

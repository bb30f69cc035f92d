"""Write what both sides start from: models, and rows of real preferences; the same bytes every time.

.venv/bin/python benchmarks/steps/inputs.py DATA DIRECTORY
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from alignlab.cli.run import run_and_report
from alignlab.config.recipe import NewModelSettings
from alignlab.data import epoch_order
from alignlab.models import load_tokenizer, new_model, save_model

import tasks  # isort: skip

SEED = 0
ANSWER = "\n\nAssistant:"


def read(path: Path) -> list[dict[str, str]]:
    """Return dialogues as prompt, chosen and rejected: the prompt ends where the last answer begins."""
    found = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            prompt, _, chosen = row["chosen"].rpartition(ANSWER)
            other, _, rejected = row["rejected"].rpartition(ANSWER)
            if prompt == other and chosen.strip() and rejected.strip() and chosen != rejected:
                found.append({"prompt": prompt + ANSWER, "chosen": chosen, "rejected": rejected})
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    data, directory = map(Path, sys.argv[1:3])
    directory.mkdir(parents=True, exist_ok=True)
    dialogues = read(data)
    settings = NewModelSettings(hidden_size=128, num_layers=4, num_heads=4, vocab_size=4096, context_length=512)
    new_model(settings, [text for row in dialogues for text in row.values()], directory / "model", SEED)
    tokenizer = load_tokenizer(str(directory / "model"))
    torch.manual_seed(SEED)
    scored = AutoModelForSequenceClassification.from_pretrained(directory / "model", num_labels=1)
    save_model(scored, tokenizer, directory / "reward")

    def length(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    pairs = [
        row
        for row in dialogues
        if max(length(row["prompt"] + row[side]) + 1 for side in ("chosen", "rejected")) <= tasks.MAX_LENGTH
    ][: tasks.NUM_PAIRS]
    write(directory / "pairs.jsonl", pairs)
    write(directory / "answers.jsonl", [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs])
    starts = [tokenizer.decode(tokenizer(row["prompt"])["input_ids"][: tasks.PPO_PROMPT_TOKENS]) for row in dialogues]
    prompts = list(dict.fromkeys(text for text in starts if length(text) == tasks.PPO_PROMPT_TOKENS))
    write(directory / "prompts.jsonl", [{"prompt": text} for text in prompts[: tasks.NUM_PAIRS]])
    # What the engine shuffles the rows to, so that the other side can take them in the same order.
    (directory / "order.json").write_text(json.dumps(epoch_order(tasks.NUM_PAIRS, SEED, 0)))
    # A model that has learned when to stop, so that its answers are as long as the real ones.
    recipe = directory / "talker.yaml"
    recipe.write_text(
        f"output: {directory}/talker\nmodel: {{path: {directory}/model, device: cpu}}\n"
        f"data: {{source: rows, path: {directory}/answers.jsonl}}\n"
        "phases: [{name: sft, optimizer: {method: sft, lr: 3.0e-3, steps: 60, batch_size: 16, log_samples: 0}}]\n"
    )
    run_and_report(str(recipe), [])


if __name__ == "__main__":
    main()

"""The main road from real model directories: four architectures, each with its own tokenizer and chat template."""

import json
from pathlib import Path

import model_directories
import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlab.config import load_recipe
from alignlab.data import DEFAULT_TEMPLATE
from alignlab.engine.pipeline import Pipeline
from alignlab.report import make_report

RECIPE = """
output: {output}
model: {{path: {model}, device: cpu}}
data: {{source: rows, path: {data}, eval: 4}}
phases:
  - name: sft
    optimizer: {{method: sft, lr: 1.0e-3, steps: 2, batch_size: 4}}
  - name: rm
    from: sft
    optimizer: {{method: reward_model, lr: 1.0e-3, steps: 2, batch_size: 4}}
  - name: ppo
    from: sft
    reward: [{{use: reward_model, from: rm}}]
    optimizer: {{method: ppo, lr: 1.0e-3, steps: 2, batch_size: 4, max_new_tokens: 6}}
  - name: dpo
    from: sft
    optimizer: {{method: dpo, lr: 1.0e-3, steps: 2, batch_size: 4}}
report: {{baseline: sft, reward: [{{use: reward_model, from: rm}}], num_prompts: 4, max_new_tokens: 6}}
"""


def write_pairs(path: Path) -> Path:
    rows = [
        {
            "prompt": [{"role": "user", "content": f"say {word}"}],
            "chosen": [{"role": "assistant", "content": f"{word}, of course"}],
            "rejected": [{"role": "assistant", "content": "no"}],
        }
        for word in (
            "hello",
            "good day",
            "yes",
            "thanks",
            "please",
            "sorry",
            "welcome",
            "well",
            "fine",
            "sure",
            "hm",
            "oh",
        )
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("write", [model_directories.llama, model_directories.qwen3, model_directories.gemma,
                                   model_directories.gpt2])  # fmt: skip
def test_the_main_road_runs_from_a_directory_and_ends_in_plain_directories(tmp_path, write):
    model = write(tmp_path / "model")
    recipe = tmp_path / "recipe.yaml"
    data = write_pairs(tmp_path / "pairs.jsonl")
    recipe.write_text(RECIPE.format(output=tmp_path / "run", model=model, data=data))
    loaded = load_recipe(recipe)
    pipeline = Pipeline(loaded)
    output = pipeline.run()
    report = make_report(loaded, pipeline)
    assert list(report["policies"]) == ["sft", "ppo", "dpo"]
    for phase in ("sft", "ppo", "dpo"):
        AutoModelForCausalLM.from_pretrained(output / phase / "model")
        trained = AutoTokenizer.from_pretrained(output / phase / "model")
        assert trained.get_vocab() == AutoTokenizer.from_pretrained(model).get_vocab()
        # A model that had no template was trained on alignlab's own, and says so.
        assert trained.chat_template == (AutoTokenizer.from_pretrained(model).chat_template or DEFAULT_TEMPLATE)
    scorer = AutoModelForSequenceClassification.from_pretrained(output / "rm" / "model")
    assert scorer.config.num_labels == 1

"""A DPO run that is broken off in its second epoch goes on with the bits of an unbroken one."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from alignlab.config import load_recipe
from alignlab.engine.display import Display
from alignlab.engine.phase import Phase
from alignlab.engine.pipeline import Pipeline
from alignlab.engine.reference_cache import ReferenceCache

# About 48 pairs to train on: 4 steps an epoch. Broken off at step 9, after the checkpoint of step 6.
RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, kind: preferences, eval: 0.25, num_rows: 64}}
phases:
  - name: dpo
    optimizer:
      method: dpo
      lr: 3.0e-3
      steps: 11
      batch_size: 12
      eval_every: 4
      save_every: 3
      log_samples: 0
"""


class Silent(Display):
    def say(self, text):
        pass


class StoppedError(Exception):
    pass


def run(directory, settings):
    recipe = yaml.safe_load(RECIPE.format(output=directory / "run"))
    recipe["phases"][0]["optimizer"] |= settings
    directory.mkdir(exist_ok=True)
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    Pipeline(load_recipe(directory / "recipe.yaml"), Silent()).run()
    phase = directory / "run" / "dpo"
    metrics = [json.loads(line) for line in (phase / "metrics.jsonl").read_text().splitlines()]
    return load_file(phase / "model" / "model.safetensors"), [{**row, "seconds": 0} for row in metrics]


def break_off(directory, settings, monkeypatch):
    write = Phase._write

    def stop_at_9(self, step, values):
        if step == 9:
            raise StoppedError
        write(self, step, values)

    with monkeypatch.context() as patch:
        patch.setattr(Phase, "_write", stop_at_9)
        with pytest.raises(StoppedError):
            run(directory, settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ref_sync_steps": 2, "ref_sync_alpha": 0.6},
        {"loss_type": ["bco_pair", "aot"], "length_normalize": True},
    ],
    ids=["cached reference", "following reference", "running mean"],
)
def test_a_broken_run_ends_with_the_bits_of_an_unbroken_one(tmp_path, monkeypatch, settings):
    weights, metrics = run(tmp_path / "unbroken", settings)
    break_off(tmp_path / "broken", settings, monkeypatch)
    ours, our_metrics = run(tmp_path / "broken", settings)
    assert our_metrics == metrics
    assert all(torch.equal(ours[key], weights[key]) for key in weights)
    assert not list((tmp_path / "broken" / "run" / "cache").glob("reference-*"))


def test_a_resumed_run_asks_the_reference_nothing_that_it_answered_before(tmp_path, monkeypatch):
    break_off(tmp_path, {}, monkeypatch)
    asked = []
    monkeypatch.setattr(ReferenceCache, "_write", lambda self, keys, values: asked.extend(keys))
    run(tmp_path, {})
    assert asked == []

"""A run with the native kernels and one with the reference: the same trajectory."""

import json
import shutil

import pytest

from alignlab import ops
from alignlab.config import load_recipe
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline

RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 2, num_heads: 4, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, eval: 0.25, num_rows: 64}}
phases:
  - name: sft
    data: {{kind: demonstrations}}
    optimizer: {{method: sft, lr: 3.0e-3, steps: 10, batch_size: 8, log_samples: 0}}
  - name: reward_model
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: reward_model, lr: 3.0e-4, steps: 5, batch_size: 8, log_samples: 0}}
  - name: ppo
    from: sft
    data: {{kind: prompts}}
    reward: [{{use: reward_model, from: reward_model}}]
    optimizer:
      {{method: ppo, lr: 1.0e-4, steps: 10, batch_size: 8, passes: 2, max_new_tokens: 8, entropy_coef: 0.01,
        log_samples: 0}}
  - name: dpo
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: dpo, lr: 3.0e-4, steps: 10, batch_size: 8, log_samples: 0}}
"""


class Silent(Display):
    def say(self, text: str) -> None:
        pass


def run(directory, name, backend, until=None):
    recipe = directory / f"{name}.yaml"
    recipe.write_text(RECIPE.format(output=directory / name))
    with ops.use_backend(backend):
        return Pipeline(load_recipe(recipe), Silent()).run(until)


def losses(output):
    lines = {name: (output / name / "metrics.jsonl").read_text().splitlines() for name in ("ppo", "dpo")}
    return {name: [json.loads(line)["loss"] for line in found] for name, found in lines.items()}


@pytest.mark.skipif("native" not in ops.implementations("gae"), reason="alignlab was built without csrc/")
def test_ppo_and_dpo_take_the_same_way_with_native_kernels_and_with_the_reference(tmp_path):
    # From one SFT and one reward model: Adam makes much of what rounding leaves of a gradient that is almost 0.
    run(tmp_path, "native", "reference", until="reward_model")
    shutil.copytree(tmp_path / "native", tmp_path / "reference")
    native, reference = (losses(run(tmp_path, backend, backend)) for backend in ("native", "reference"))
    assert len(native["ppo"]) == len(native["dpo"]) == 10
    assert native["ppo"] != native["dpo"]
    for name in native:
        assert native[name] == pytest.approx(reference[name], rel=1e-5, abs=1e-5)

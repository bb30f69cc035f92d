"""The first 50 losses of every method on the toy, against numbers in the repository: a refactor moves none of them."""

import json
import sys
import tempfile
from pathlib import Path

import pytest
import toy

from alignlab.config import load_recipe
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline

FILE = Path(__file__).parent / "losses.json"
NAMES = [*toy.registered(), "all_pairs", "plackett_luce"]
RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 2, num_heads: 4, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, eval: 0.25, num_rows: 128}}
phases:
  - name: sft
    data: {{kind: demonstrations}}
    optimizer: {{method: sft, lr: 3.0e-3, steps: 50, batch_size: 8, log_samples: 0}}
  - name: reward_model
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: reward_model, lr: 3.0e-4, steps: 50, batch_size: 8, log_samples: 0}}
  - name: all_pairs
    from: sft
    data: {{kind: ranked, overlong: truncate_left}}
    optimizer: {{method: reward_model, loss_type: all_pairs, lr: 3.0e-4, steps: 50, batch_size: 8, log_samples: 0}}
  - name: plackett_luce
    from: sft
    data: {{kind: ranked, overlong: truncate_left}}
    optimizer: {{method: reward_model, loss_type: plackett_luce, lr: 3.0e-4, steps: 50, batch_size: 8, log_samples: 0}}
  - name: process_reward_model
    from: sft
    data: {{kind: steps, overlong: truncate_left}}
    optimizer: {{method: process_reward_model, lr: 3.0e-4, steps: 50, batch_size: 8, log_samples: 0}}
  - name: ppo
    from: sft
    data: {{kind: prompts}}
    reward: [{{use: reward_model, from: reward_model}}]
    optimizer: {{method: ppo, lr: 1.0e-4, steps: 50, batch_size: 8, passes: 2, max_new_tokens: 8, log_samples: 0}}
  - name: dpo
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: dpo, lr: 3.0e-4, steps: 50, batch_size: 8, log_samples: 0}}
"""


class Silent(Display):
    def say(self, text: str) -> None:
        pass


def losses() -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "recipe.yaml"
        recipe.write_text(RECIPE.format(output=Path(scratch) / "run"))
        output = Pipeline(load_recipe(recipe), Silent()).run()
        return {
            name: [json.loads(line)["loss"] for line in (output / name / "metrics.jsonl").read_text().splitlines()]
            for name in NAMES
        }


@pytest.fixture(scope="module")
def found():
    return losses()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_losses_are_the_golden_ones(found, name):
    golden = json.loads(FILE.read_text())[name]
    assert len(golden) == 50
    # A sampled token may flip on a machine that rounds otherwise, and then PPO goes another way: its first steps count.
    num = 5 if name == "ppo" else 50
    assert found[name][:num] == pytest.approx(golden[:num], rel=1e-3, abs=1e-4)


if __name__ == "__main__":
    FILE.write_text(json.dumps(losses(), indent=1) + "\n")
    sys.stdout.write(f"wrote {FILE}\n")

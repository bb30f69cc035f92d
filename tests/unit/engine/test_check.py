import json
from pathlib import Path

import pytest
import toy

from alignlab.config import load_recipe
from alignlab.config.recipe import ModelSettings
from alignlab.engine.check import check
from alignlab.engine.display import Display
from alignlab.engine.memory import ModelSize, estimate, model_size
from alignlab.method import Role
from alignlab.models import load_model, resolve_device

RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: rows, path: {data}}}
phases:
  - {{name: sft, optimizer: {{method: sft, steps: 1}}}}
  - {{name: dpo, from: sft, optimizer: {{method: dpo, steps: 1}}}}
"""


class Lines(Display):
    def __init__(self):
        super().__init__()
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def checked(directory: Path, *rows: dict) -> tuple[bool, str]:
    data = directory / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = directory / "recipe.yaml"
    recipe.write_text(RECIPE.format(output=directory / "run", data=data))
    display = Lines()
    good = check(load_recipe(recipe), display)
    return good, "\n".join(display.lines)


GOOD = {"prompt": "how are you", "chosen": "well, thank you", "rejected": "go away"}


def test_a_sound_recipe_is_said_to_run_and_nothing_is_written(tmp_path):
    good, said = checked(tmp_path, *[{**GOOD, "prompt": f"how are you {i}"} for i in range(6)])
    assert good
    assert "all phases can run" in said
    assert "6 rows read, 6 kept" in said
    assert "GiB of memory" in said
    assert "plugin method dpo: alignlab" in said
    assert not (tmp_path / "run").exists()


def test_every_bad_row_is_listed_by_number_and_reason_for_every_phase(tmp_path):
    bad = [{**GOOD, "rejected": None}, {**GOOD, "chosen": "go away"}]
    good, said = checked(tmp_path, GOOD, bad[0], GOOD, bad[1])
    assert not good
    assert "some phases cannot run" in said
    assert "row 2" in said
    assert "row 4" in said
    assert "rejected" in said
    assert "sft: " in said
    assert "dpo: " in said


def test_a_soft_label_that_is_no_probability_is_listed_by_row(tmp_path):
    rows = [{**GOOD, "prompt": f"how are you {i}", "probability": p} for i, p in enumerate((0.9, 1.5, 0.2))]
    good, said = checked(tmp_path, *rows)
    assert not good
    assert "dpo: 1 of 3 rows cannot be used:\n  row 2: `probability` is 1.5, wanted a number from 0 to 1" in said
    assert "3 rows read, 3 kept" in said  # SFT looks at no soft label


def test_the_size_of_a_model_is_read_from_its_config(tmp_path):
    base = toy.base_model(tmp_path / "model")
    import torch

    model = load_model(str(base), "lm", dtype=torch.float32, device=resolve_device("cpu"))
    assert model_size(str(base)) == ModelSize(sum(p.numel() for p in model.parameters()), 2, 32, 320)


@pytest.mark.parametrize(
    ("changes", "factor"), [({}, 16), ({"dtype": "bfloat16"}, 8)], ids=["fp32 weights", "bf16 weights"]
)
def test_a_trained_model_takes_weights_gradients_and_two_moments(changes, factor):
    size = ModelSize(num_parameters=10**9, num_layers=0, hidden_size=0, vocab_size=0)
    settings = ModelSettings(path="x", **changes)
    assert estimate(size, {"policy": Role()}, settings, 0) == factor * 10**9
    with_frozen = estimate(size, {"policy": Role(), "ref": Role(train=False)}, settings, 0)
    assert with_frozen == (factor + factor // 4) * 10**9

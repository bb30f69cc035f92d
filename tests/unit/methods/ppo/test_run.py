"""PPO in whole runs: what adapts is saved with every checkpoint (PPO.md row 4), and doubtful settings are said (3b)."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file

from alignlab.config import load_recipe
from alignlab.engine.check import check
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.errors import RecipeError

README = Path(__file__).parents[4] / "plugins/rlhf/README.md"
RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, kind: prompts, eval: 0.25, num_rows: 64}}
phases:
  - name: ppo
    reward: [{{use: "alignlab.data.world:true_reward_function"}}]
    optimizer:
      {{method: ppo, lr: 1.0e-3, steps: 4, batch_size: 8, save_every: 1, passes: 2, minibatches: 2, max_new_tokens: 8,
        kl_in: loss, kl_estimator: k3, kl_straight_through: false, kl_target: 0.001, kl_horizon: 50,
        normalize_rewards: true, importance_cap: 2.0, critic_warmup_steps: 1}}
"""


class Lines(Display):
    def __init__(self):
        super().__init__()
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    path = directory / "recipe.yaml"
    path.write_text(RECIPE.format(output=directory / "run"))
    return path


@pytest.fixture(scope="module")
def finished(recipe):
    display = Lines()
    return Pipeline(load_recipe(recipe), display).run() / "ppo", display.lines


def state(directory: Path, step: int) -> dict:
    return json.loads((directory / "checkpoints" / f"step-{step:06d}" / "progress.json").read_text())["state"]


def metrics(directory: Path) -> list[dict]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_row_4_and_5_what_adapts_is_in_every_checkpoint(finished):
    directory, _ = finished
    before, after = state(directory, 3), state(directory, 4)
    assert after["scores"]["num"] == 4 * 8
    assert after["batches"] == 4
    assert after["kl_coef"] != before["kl_coef"]
    assert metrics(directory)[3]["kl_coef"] == pytest.approx(before["kl_coef"])


def test_row_4_and_5_a_run_that_goes_on_from_a_checkpoint_ends_as_the_unbroken_one(recipe, finished):
    directory, _ = finished
    whole, rows, ended = load_file(directory / "model" / "model.safetensors"), metrics(directory), state(directory, 4)
    shutil.rmtree(directory / "checkpoints" / "step-000004")
    (directory / "phase.json").unlink()
    Pipeline(load_recipe(recipe), Lines()).run()
    again = load_file(directory / "model" / "model.safetensors")
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert metrics(directory) == rows
    assert state(directory, 4) == ended


def test_row_25_the_numbers_of_a_step_are_all_there(finished):
    directory, _ = finished
    wanted = {
        *("reward/true_reward_function", "score", "score_std", "kl", "kl_coef", "kl_loss", "approx_kl", "entropy"),
        *("clip_fraction", "dual_clip_fraction", "value_clip_fraction", "policy_loss", "value_loss", "value_error"),
        *("explained_variance", "answer_length", "answer_length_max", "finished", "rollout_gap", "rollout_gap_max"),
        *("importance_weight", "importance_truncated", "updates", "grad_norm", "lr", "tokens"),
    }
    for row in metrics(directory):
        assert wanted <= row.keys()


def test_row_3b_a_wrong_gradient_is_said_at_the_start_of_the_run_and_by_check(recipe, finished):
    display = Lines()
    assert check(load_recipe(recipe), display)
    for lines in (finished[1], display.lines):
        assert sum("ppo: warning: the gradient of k3 in the loss" in line for line in lines) == 1


def test_settings_that_contradict_each_other_are_an_error_of_the_recipe(recipe):
    with pytest.raises(RecipeError, match="importance_cap"):
        Pipeline(load_recipe(recipe, ["phases.0.optimizer.old_logp=rollout"]), Lines())


def test_the_readme_has_every_setting_with_its_default_and_every_metric(finished):
    directory, _ = finished
    text = README.read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for name, field in type(toy.method("ppo")).model_fields.items():
        row = next(row for row in rows if f"`{name}`" in row.split("|")[1])
        default = "none" if field.default in (None, ()) else str(field.default).lower()
        assert default in row.split("|")[2], name
    for name in metrics(directory)[0].keys() - {"step", "loss", "grad_norm", "lr", "tokens"}:
        if not name.startswith(("reward/", "eval/")):
            assert any(f"`{name}`" in row for row in rows), name

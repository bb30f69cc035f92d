"""Phases that train reward models of every kind, and PPO on what they made, small."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from alignlab.config import load_recipe
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.errors import RecipeError, RewardError
from alignlab.models import load_model, load_tokenizer, save_model

BATCH = {"lr": 1.0e-3, "steps": 3, "batch_size": 8}
PAIRS = {"data": {"kind": "preferences"}, "optimizer": {"method": "reward_model", **BATCH}}
PPO = {
    "name": "ppo",
    "data": {"kind": "prompts"},
    "reward": [
        {"use": "reward_ensemble", "from": ["rm1", "rm2", "ranked"], "k": 0.5, "name": "ensemble"},
        {"use": "process_reward", "from": "steps", "weight": 0.5, "timeout": 60},
        {"use": "length", "max": 4, "soft": 8, "weight": 0.1},
        {"use": "regex", "pattern": "[a-z]", "weight": 0.1},
        {"use": "alignlab.data.world:true_reward_function", "name": "truth", "weight": 0, "concurrency": 2},
    ],
    "optimizer": {"method": "ppo", **BATCH, "steps": 2, "max_new_tokens": 8, "eval_every": 1},
}
PHASES = [
    {"name": "rm1", "seed": 1, **PAIRS},
    {"name": "rm2", "seed": 2, **PAIRS},
    {
        "name": "ranked",
        "data": {"kind": "ranked"},
        "optimizer": {"method": "reward_model", "loss_type": "all_pairs", **BATCH},
    },
    {"name": "steps", "data": {"kind": "steps"}, "optimizer": {"method": "process_reward_model", **BATCH}},
    PPO,
]


class Lines(Display):
    def __init__(self):
        super().__init__()
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def write_recipe(directory, phases=PHASES, vocab_size=320):
    new = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "vocab_size": vocab_size, "context_length": 160}
    recipe = {
        "output": str(directory / "run"),
        "model": {"new": new, "device": "cpu"},
        "data": {"source": "world", "eval": 0.25, "num_rows": 64},
        "phases": phases,
    }
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    display = Lines()
    path = write_recipe(tmp_path_factory.mktemp("finished"))
    pipeline = Pipeline(load_recipe(path), display)
    pipeline.run()
    return path, pipeline.output, display.lines


def about(output, phase):
    return json.loads((output / phase / "model" / "alignlab.json").read_text())


def metrics(output, phase):
    return [json.loads(line) for line in (output / phase / "metrics.jsonl").read_text().splitlines()]


def test_phases_of_different_seeds_make_different_reward_models(finished):
    _, output, _ = finished
    first, second = (load_file(output / name / "model" / "model.safetensors") for name in ("rm1", "rm2"))
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("phase", "rows"), [("rm1", "preference"), ("ranked", "ranked"), ("steps", "steps")])
def test_a_reward_model_keeps_what_it_scores_and_how_calibrated_it_is(finished, phase, rows):
    _, output, lines = finished
    found = about(output, phase)
    assert found["rows"] == rows
    table = found["calibration"]
    assert table["num"] == found["eval"]["num"] > 0
    assert sum(one["share"] for one in table["bins"]) == pytest.approx(1, abs=1e-5)
    assert table["error"] == pytest.approx(found["eval"]["calibration_error"])
    assert 0 <= found["eval"]["accuracy"] <= 1
    assert f"{phase}: calibration: error {table['error']:.3f}" in "\n".join(lines)
    assert sum(line.startswith(f"{phase}:   predicted") for line in lines) == len(table["bins"])


def test_ranked_lists_keep_a_scale_that_ppo_normalises_by(finished):
    _, output, _ = finished
    measured = about(output, "ranked")["eval"]
    assert measured["score_square"] > measured["score_mean"] ** 2


def test_every_reward_is_logged_by_its_name_and_the_ensemble_s_disagreement_too(finished):
    _, output, _ = finished
    names = {f"reward/{name}" for name in ("ensemble", "process_reward", "length", "regex", "truth")}
    for row in metrics(output, "ppo"):
        assert names | {"disagreement/ensemble"} <= set(row)
        weights = {"ensemble": 1, "process_reward": 0.5, "length": 0.1, "regex": 0.1, "truth": 0}
        assert row["score"] == pytest.approx(sum(w * row[f"reward/{name}"] for name, w in weights.items()), abs=1e-4)
        assert row["disagreement/ensemble"] > 0
        assert "eval/disagreement/ensemble" in row


def test_samples_of_a_process_reward_model_have_a_chance_for_each_step(finished):
    _, output, _ = finished
    rows = [json.loads(line) for line in (output / "steps" / "samples.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        answer = row["text"].rpartition("Assistant:\n")[2]
        assert len(row["steps"]) == answer.count("\n")
        assert all(0 < chance < 1 for chance in row["steps"])


def test_a_member_that_makes_no_reward_model_is_refused_before_training(tmp_path):
    path = write_recipe(tmp_path)
    with pytest.raises(RecipeError, match="phase 'rm2' makes a language model, not a reward model"):
        Pipeline(load_recipe(path, ["phases.rm2.optimizer={method: sft, steps: 1}"]), Lines())


@pytest.mark.parametrize("function", ["builtins:len", "tests_reward_object:judge"])
def test_a_reward_function_may_be_any_object_that_can_be_called(tmp_path, monkeypatch, function):
    (tmp_path / "tests_reward_object.py").write_text("class Judge:\n    __call__ = len\njudge = Judge()\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write_recipe(tmp_path)
    pipeline = Pipeline(load_recipe(path, [f"phases.ppo.reward.4.use={function}"]), Lines())
    assert all(isinstance(code, str) for code in pipeline.phases[-1].inputs([])["code"])


def test_a_function_takes_no_settings_of_its_own(tmp_path):
    path = write_recipe(tmp_path)
    with pytest.raises(RecipeError, match="wieght") as raised:
        Pipeline(load_recipe(path, ["phases.ppo.reward.4.wieght=2"]), Lines())
    assert "did you mean 'weight'?" in str(raised.value)


def scored_by(path):
    return [{**PPO, "reward": [{"use": "reward_model", "path": str(path)}]}]


def test_a_reward_model_with_another_vocabulary_scores_the_policy_and_starts_no_critic(finished, tmp_path):
    _, output, _ = finished
    path = write_recipe(tmp_path, scored_by(output / "rm1" / "model"), vocab_size=280)
    Pipeline(load_recipe(path), Lines()).run()
    rows = metrics(tmp_path / "run", "ppo")
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["prompt_cut/reward_model"] == 0 for row in rows)


def test_a_reward_model_of_another_vocabulary_without_a_template_stops_the_run(finished, tmp_path):
    _, output, _ = finished
    tokenizer = load_tokenizer(str(output / "rm1" / "model"))
    tokenizer.chat_template = None
    model = load_model(str(output / "rm1" / "model"), "scalar", dtype=torch.float32, device=torch.device("cpu"))
    save_model(model, tokenizer, tmp_path / "bare")
    path = write_recipe(tmp_path, scored_by(tmp_path / "bare"), vocab_size=280)
    with pytest.raises(RewardError, match="has no chat template to put answers into"):
        Pipeline(load_recipe(path), Lines()).run()

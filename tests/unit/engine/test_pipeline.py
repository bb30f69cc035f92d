"""Whole runs, small: what is skipped, resumed, moved aside, written."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlab.config import load_recipe
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.errors import CheckpointError, PluginError, RecipeError, TrainingError
from alignlab.report import make_report

RECIPE = """
output: {output}
model: {{new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}, device: cpu}}
data: {{source: world, eval: 0.25, num_rows: 64}}
phases:
  - name: sft
    data: {{kind: demonstrations}}
    optimizer: {{method: sft, lr: 3.0e-3, steps: 6, batch_size: 8, save_every: 2, eval_every: 3}}
  - name: rm
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: reward_model, lr: 1.0e-3, steps: 3, batch_size: 8}}
  - name: ppo
    from: sft
    data: {{kind: prompts}}
    reward: [{{use: reward_model, from: rm}}]
    optimizer:
      {{method: ppo, lr: 1.0e-3, steps: 4, batch_size: 8, save_every: 1, passes: 2, minibatches: 2, max_new_tokens: 8}}
  - name: dpo
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: dpo, lr: 1.0e-3, steps: 3, batch_size: 8}}
report:
  baseline: sft
  reward: [{{use: "alignlab.data.world:true_reward_function", name: truth}}, {{use: reward_model, from: rm}}]
  data: {{kind: prompts}}
  num_prompts: 12
  max_new_tokens: 8
"""


class Lines(Display):
    def __init__(self):
        super().__init__()
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def write_recipe(directory: Path) -> Path:
    path = directory / "recipe.yaml"
    path.write_text(RECIPE.format(output=directory / "run"))
    return path


def run(path: Path, *overrides: str) -> tuple[Pipeline, list[str]]:
    display = Lines()
    pipeline = Pipeline(load_recipe(path, overrides), display)
    pipeline.run()
    return pipeline, display.lines


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = write_recipe(tmp_path_factory.mktemp("finished"))
    pipeline, lines = run(path)
    return path, pipeline, lines


def steps_of(directory: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (directory / "metrics.jsonl").read_text().splitlines()]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model" / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_run_directory_holds_what_the_design_says(finished):
    _, pipeline, _ = finished
    output = pipeline.output
    assert {"recipe.yaml", "manifest.json", "sft", "rm", "ppo", "dpo"} <= {p.name for p in output.iterdir()}
    for phase in ("sft", "rm", "ppo", "dpo"):
        assert {"metrics.jsonl", "samples.jsonl", "checkpoints", "model"} <= {
            p.name for p in (output / phase).iterdir()
        }
    assert steps_of(output / "sft") == [1, 2, 3, 4, 5, 6]
    assert steps_of(output / "ppo") == [1, 2, 3, 4]


def test_the_manifest_records_versions_plugins_seed_data_and_device(finished):
    _, pipeline, _ = finished
    manifest = json.loads((pipeline.output / "manifest.json").read_text())
    assert manifest["torch"] == torch.__version__
    assert {p["name"] for p in manifest["plugins"]} == {"sft", "reward_model", "ppo", "dpo"}
    assert {p["distribution"] for p in manifest["plugins"]} == {"alignlab"}
    assert set(manifest["data"]) == {"sft", "rm", "ppo", "dpo"}
    assert (manifest["seed"], manifest["device"]) == (0, "cpu")


def test_the_resolved_recipe_runs_again(finished):
    _, pipeline, _ = finished
    again = load_recipe(pipeline.output / "recipe.yaml")
    assert again.recipe == pipeline.recipe


def test_the_exported_models_load_with_plain_transformers(finished):
    _, pipeline, _ = finished
    model = AutoModelForCausalLM.from_pretrained(pipeline.output / "ppo" / "model")
    tokenizer = AutoTokenizer.from_pretrained(pipeline.output / "ppo" / "model")
    assert model.config.vocab_size == len(tokenizer)
    scorer = AutoModelForSequenceClassification.from_pretrained(pipeline.output / "rm" / "model")
    assert scorer.config.num_labels == 1
    assert float(scorer.score.weight.detach().abs().sum()) > 0


def test_the_reward_model_keeps_the_scale_of_its_scores(finished):
    _, pipeline, _ = finished
    about = json.loads((pipeline.output / "rm" / "model" / "alignlab.json").read_text())
    assert {"score_mean", "score_square", "accuracy", "num"} <= set(about["eval"])
    assert about["eval"]["num"] == len(pipeline.split(pipeline.phases[1].sources, "preference",
                                                      str(pipeline.finished["sft"].model), None).eval)  # fmt: skip


def test_a_finished_run_is_not_run_again(finished):
    path, pipeline, _ = finished
    before = (pipeline.output / "ppo" / "metrics.jsonl").stat().st_mtime_ns
    _, lines = run(path)
    assert [line for line in lines if "done already" in line] == [
        f"{name}: done already, its inputs did not change" for name in ("sft", "rm", "ppo", "dpo")
    ]
    assert (pipeline.output / "ppo" / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_phase_whose_settings_changed_runs_again_and_the_old_one_is_kept(tmp_path):
    path = write_recipe(tmp_path)
    run(path)
    old = weights(tmp_path / "run" / "dpo")
    _, lines = run(path, "phases.dpo.optimizer.beta=0.5")
    assert [line for line in lines if "done already" in line] == [
        f"{name}: done already, its inputs did not change" for name in ("sft", "rm", "ppo")
    ]
    assert any("its inputs changed" in line and "dpo.1" in line for line in lines)
    assert all(torch.equal(old[key], value) for key, value in weights(tmp_path / "run" / "dpo.1").items())
    assert not same(tmp_path / "run" / "dpo", tmp_path / "run" / "dpo.1")


def test_a_phase_that_is_added_makes_no_other_run_again(tmp_path):
    path = write_recipe(tmp_path)
    recipe = yaml.safe_load(path.read_text())
    added = recipe["phases"].pop()
    path.write_text(yaml.safe_dump(recipe))
    run(path)
    path.write_text(yaml.safe_dump({**recipe, "phases": [*recipe["phases"], added]}))
    _, lines = run(path)
    assert sum("done already" in line for line in lines) == 3
    assert any(line.startswith("dpo: done in") for line in lines)


def test_a_run_is_the_same_for_every_microbatch_size_and_another_for_another_seed(finished, tmp_path):
    _, unbroken, _ = finished
    path = write_recipe(tmp_path)
    run(path, "phases.sft.optimizer.microbatch_tokens=100", f"output={tmp_path / 'small'}")
    run(path, "seed=1", f"output={tmp_path / 'seed'}")
    ours, small, seed = (weights(d / "sft") for d in (unbroken.output, tmp_path / "small", tmp_path / "seed"))
    for key in ours:
        torch.testing.assert_close(small[key], ours[key], rtol=1e-3, atol=1e-5)
    assert any(not torch.allclose(ours[key], seed[key], atol=1e-3) for key in ours)


def test_the_report_compares_policies_prompt_by_prompt(finished):
    path, pipeline, _ = finished
    report = make_report(load_recipe(path), pipeline)
    rows = report["policies"]
    assert list(rows) == ["sft", "ppo", "dpo"]
    assert rows["sft"]["kl"][0] == pytest.approx(0, abs=1e-6)
    assert rows["ppo"]["kl"][0] > 0
    assert report["num_prompts"] == 12
    for name in ("ppo", "dpo"):
        difference = rows[name]["rewards"]["truth"][0] - rows["sft"]["rewards"]["truth"][0]
        assert rows[name]["gain"]["truth"][0] == pytest.approx(difference, abs=1e-9)
        share, low, high = rows[name]["win_rate"]
        assert 0 <= low <= share <= high <= 1
    held_out = report["reward_models"]["rm"]
    assert held_out["accuracy"][1] < held_out["accuracy"][0] < held_out["accuracy"][2]
    assert json.loads((pipeline.output / "report.json").read_text()) == report


def test_after_a_corrupt_checkpoint_is_removed_as_the_error_says_the_run_goes_on_from_the_one_before(
    finished, tmp_path
):
    _, unbroken, _ = finished
    path = write_recipe(tmp_path)
    shutil.copytree(unbroken.output, tmp_path / "run")
    sft = tmp_path / "run" / "sft"
    (sft / "phase.json").unlink()
    shutil.rmtree(sft / "model")
    (sft / "checkpoints" / "step-000006" / "optimizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"optimizer\.json") as raised:
        run(path)
    command, _, then = str(raised.value.do).partition(";")
    assert then == " the same command then goes on from step-000004"
    subprocess.run(shlex.split(command), check=True)
    _, lines = run(path)
    assert "sft: goes on after step 4 of 6" in lines
    assert same(sft, unbroken.output / "sft")
    assert steps_of(sft) == [1, 2, 3, 4, 5, 6]
    assert (sft / "samples.jsonl").read_bytes() == (unbroken.output / "sft" / "samples.jsonl").read_bytes()


def test_a_run_that_goes_on_elsewhere_says_that_the_bits_will_differ(finished, tmp_path):
    _, unbroken, _ = finished
    shutil.copytree(unbroken.output, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({**manifest, "threads": 96}))
    _, lines = run(write_recipe(tmp_path))
    assert any(line.startswith("threads was 96 when this run was started, and is 1") for line in lines)


WITNESS = """
    import random

    import numpy as np
    import torch
    from alignlab import hookimpl

    drawn, told = {}, []

    @hookimpl(wrapper=True)
    def data_stage(run):
        batch = yield
        if run.train:
            drawn.setdefault(run.phase, []).append((random.random(), float(np.random.rand()), float(torch.rand(1))))
        return batch

    @hookimpl
    def on_checkpoint(phase, step):
        told.append((phase, step))
        if len(told) == 2:
            raise RuntimeError("killed between the checkpoint and what hears of it")
"""


def test_what_a_plugin_draws_is_drawn_again_and_it_hears_of_every_checkpoint(distribution, tmp_path):
    distribution("witness", entry_points={"witness": "witness_plugin"}, witness_plugin=WITNESS)
    path = write_recipe(tmp_path)
    path.write_text(path.read_text() + "plugins: [witness]\n")
    with pytest.raises(PluginError, match="killed between"):
        run(path)
    import witness_plugin

    display = Lines()
    Pipeline(load_recipe(path), display).run("sft")
    assert witness_plugin.told == [("sft", 2), ("sft", 4), ("sft", 4), ("sft", 6)]
    broken = list(witness_plugin.drawn["sft"])
    witness_plugin.drawn.clear()
    Pipeline(load_recipe(path, [f"output={tmp_path / 'unbroken'}"]), display).run("sft")
    assert broken == witness_plugin.drawn["sft"]
    assert len(set(broken)) == 6


def test_a_state_that_cannot_be_saved_stops_the_first_step_and_not_the_first_checkpoint(distribution, tmp_path):
    keeper = """
        import torch
        from alignlab import hookimpl

        @hookimpl(wrapper=True)
        def data_stage(run):
            run.state["seen"] = torch.zeros(1)
            return (yield)
    """
    distribution("keeper", entry_points={"keeper": "keeper_plugin"}, keeper_plugin=keeper)
    path = write_recipe(tmp_path)
    path.write_text(path.read_text() + "plugins: [keeper]\n")
    with pytest.raises(CheckpointError, match=r"run\.state\['seen'\]"):
        run(path)
    assert not (tmp_path / "run" / "sft" / "metrics.jsonl").exists()


def test_a_corrupt_checkpoint_stops_a_resumed_run_and_loses_nothing(tmp_path):
    path = write_recipe(tmp_path)
    run(path)
    sft = tmp_path / "run" / "sft"
    (sft / "phase.json").unlink()
    newest = sorted((sft / "checkpoints").iterdir())[-1]
    content = (newest / "policy.safetensors").read_bytes()
    (newest / "policy.safetensors").write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match=newest.name):
        run(path)
    assert (newest / "policy.safetensors").read_bytes() == content[:-100]


def test_a_loss_that_is_not_finite_stops_the_run_with_its_batch_saved(tmp_path):
    path = write_recipe(tmp_path)
    with pytest.raises(TrainingError, match="nan") as raised:
        run(path, "phases.sft.optimizer.lr=1.0e+30", "phases.sft.optimizer.schedule=constant")
    saved = Path(str(raised.value.where).removeprefix("the batch is saved in "))
    assert load_file(saved / "batch.safetensors")["tokens"].shape[0] == 8


def test_a_policy_cannot_start_from_a_reward_model(tmp_path):
    path = write_recipe(tmp_path)
    with pytest.raises(RecipeError, match="'dpo' trains a language model, but 'rm' makes a reward model") as raised:
        run(path, "phases.dpo.from=rm")
    assert raised.value.where == "--set phases.dpo.from=rm"
    assert not (tmp_path / "out" / "sft").exists()  # before anything was trained


def test_the_critic_starts_from_the_reward_model_with_a_head_of_zero(finished):
    from alignlab.config.recipe import ModelSettings
    from alignlab.engine.roles import load_roles

    _, pipeline, _ = finished
    rm = pipeline.output / "rm" / "model"
    settings = ModelSettings(path="unused", device="cpu")
    models = load_roles(pipeline.phases[2].method, str(pipeline.output / "sft" / "model"), settings, rm)
    critic = models["critic"]
    assert float(critic.score.weight.detach().abs().sum()) == 0
    trained = load_file(rm / "model.safetensors")
    assert torch.equal(critic.model.embed_tokens.weight, trained["model.embed_tokens.weight"])
    assert not any(p.requires_grad for p in models["ref"].parameters())


def test_samples_are_written_at_every_evaluation(finished):
    _, pipeline, _ = finished
    rows = [json.loads(line) for line in (pipeline.output / "sft" / "samples.jsonl").read_text().splitlines()]
    assert sorted({row["step"] for row in rows}) == [3, 6]
    assert {"prompt", "completion", "finished", "where"} <= set(rows[0])
    scores = [json.loads(line) for line in (pipeline.output / "rm" / "samples.jsonl").read_text().splitlines()]
    assert all(isinstance(row["score"], float) for row in scores)


def test_tensorboard_gets_every_step(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = yaml.safe_load(RECIPE.format(output=tmp_path / "run"))
    recipe["phases"] = recipe["phases"][:1]
    del recipe["report"]
    recipe["trackers"] = ["tensorboard"]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    run(path)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "sft"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]

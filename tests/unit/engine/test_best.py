"""keep_last, keep_best and export: which checkpoints are left, and which model comes out."""

import json
import math
import shutil

import pytest
import small_run

from alignlab.config import load_recipe
from alignlab.config.recipe import BestSettings
from alignlab.engine.best import Best, better
from alignlab.errors import RecipeError

LOW, HIGH = BestSettings(min="eval/loss"), BestSettings(max="eval/accuracy")
# At this learning rate the best evaluation is in the middle of the run.
WORSENING = (
    "phases.sft.optimizer.eval_every=1",
    "phases.sft.optimizer.steps=8",
    "phases.sft.optimizer.lr=0.03",
    "phases.sft.optimizer.schedule=constant",
    "phases.sft.optimizer.keep_best.min=eval/loss",
    "phases.sft.optimizer.save_every=3",
)


@pytest.mark.parametrize(
    ("rule", "first", "second", "step"),
    [
        (LOW, {"loss": 2.0}, {"loss": 1.0}, 2),
        (LOW, {"loss": 1.0}, {"loss": 2.0}, 1),
        (HIGH, {"accuracy": 0.5}, {"accuracy": 0.6}, 2),
        (HIGH, {"accuracy": 0.6}, {"accuracy": 0.5}, 1),
        (LOW, {"loss": 1.0}, {"loss": 1.0}, 1),  # the earlier wins a tie
        (LOW, {"loss": math.nan}, {"loss": 1.0}, 2),
        (LOW, {"loss": 1.0}, {"loss": math.nan}, 1),
    ],
)
def test_the_better_evaluation_is(rule, first, second, step):
    best = better(rule, 2, second, better(rule, 1, first, None))
    assert best == Best(step, first if step == 1 else second)


def test_an_evaluation_without_the_metric_is_an_error_with_the_nearest_name():
    with pytest.raises(RecipeError, match="no 'eval/acuracy'") as raised:
        better(BestSettings(max="eval/acuracy"), 1, {"loss": 1.0, "accuracy": 0.5}, None)
    assert raised.value.do == "did you mean 'eval/accuracy'?"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("keep_best={}", "exactly one of `min` and `max`"),
        ("keep_best={min: eval/loss, max: eval/loss}", "exactly one of `min` and `max`"),
        ("keep_best={min: loss}", "eval/"),
        ("export=best", "wants `keep_best`"),
    ],
)
def test_settings_that_do_not_fit_together_are_errors(tmp_path, capsys, setting, said):
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run")
    assert small_run.run(recipe, f"phases.sft.optimizer.{setting}") == 2
    assert said in capsys.readouterr().err


def test_the_best_of_nothing_held_out_is_an_error_before_anything_runs(tmp_path, capsys):
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run")
    assert small_run.run(recipe, "data.eval=0", "phases.sft.optimizer.keep_best.min=eval/loss") == 2
    assert "nothing is held out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def best_step(output):
    rows = [json.loads(line) for line in (output / "sft" / "metrics.jsonl").read_text().splitlines()]
    return min(rows, key=lambda row: row["eval/loss"])["step"]


@pytest.fixture(scope="module")
def worsening(tmp_path_factory):
    directory = tmp_path_factory.mktemp("worsening")
    recipe = small_run.write_recipe(directory, directory / "run")
    assert small_run.run(recipe, *WORSENING, "phases.sft.optimizer.export=best") == 0
    return recipe, directory / "run"


def test_the_best_checkpoint_is_kept_and_exported_with_its_own_evaluation(worsening, tmp_path):
    _, output = worsening
    best = best_step(output)
    assert 1 < best < 6
    assert small_run.checkpoints_of(output) == [f"step-{best:06d}", "step-000006", "step-000008"]
    about = json.loads((output / "sft" / "model" / "alignlab.json").read_text())
    assert about["step"] == best
    lines = (output / "sft" / "metrics.jsonl").read_text().splitlines()
    assert about["eval"]["loss"] == json.loads(lines[best - 1])["eval/loss"]
    last = small_run.write_recipe(tmp_path, tmp_path / "last")
    assert small_run.run(last, *WORSENING) == 0
    assert small_run.checkpoints_of(tmp_path / "last") == small_run.checkpoints_of(output)
    assert small_run.model_of(tmp_path / "last") != small_run.model_of(output)
    assert json.loads((tmp_path / "last" / "sft" / "model" / "alignlab.json").read_text())["step"] == 8


def test_the_exported_model_is_the_one_that_was_evaluated(worsening, tmp_path):
    """The best step's model is what a run of so many steps ends with."""
    _, output = worsening
    best = best_step(output)
    assert (
        small_run.run(
            small_run.write_recipe(tmp_path, tmp_path / "short"), *WORSENING, f"phases.sft.optimizer.steps={best}"
        )
        == 0
    )
    assert small_run.model_of(tmp_path / "short") == small_run.model_of(output)


def test_a_run_that_goes_on_remembers_the_best_before_it_was_stopped(worsening, tmp_path):
    """As after a kill at the last step: its checkpoint was not written, nor anything after it."""
    recipe, output = worsening
    unbroken = small_run.model_of(output)
    shutil.copytree(output, tmp_path / "run")
    sft = tmp_path / "run" / "sft"
    shutil.rmtree(sft / "model")
    shutil.rmtree(sft / "checkpoints" / "step-000008")
    (sft / "phase.json").unlink()
    again = ("phases.sft.optimizer.export=best", f"output={tmp_path / 'run'}")
    assert small_run.run(recipe, *WORSENING, *again) == 0
    assert small_run.model_of(tmp_path / "run") == unbroken
    assert small_run.steps_of(tmp_path / "run") == list(range(1, 9))
    assert small_run.checkpoints_of(tmp_path / "run") == small_run.checkpoints_of(output)


def test_a_metric_that_is_never_a_number_is_an_error_and_not_the_last_model(distribution, tmp_path, capsys):
    broken = """
        from alignlab import Loss, hookimpl

        @hookimpl(wrapper=True)
        def optimizer_stage():
            loss = yield
            return Loss(loss.total, {"broken": loss.total.detach() * float("nan")})
    """
    distribution("broken", entry_points={"broken": "broken_metric"}, broken_metric=broken)
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run", small_run.RECIPE + "plugins: [broken]\n")
    best = ("phases.sft.optimizer.keep_best.min=eval/broken", "phases.sft.optimizer.export=best")
    assert small_run.run(recipe, *best) == 2
    assert "was NaN in all of them" in capsys.readouterr().err
    assert not (tmp_path / "run" / "sft" / "model").exists()


def test_keep_last_says_how_many_checkpoints_are_left(tmp_path):
    recipe = small_run.write_recipe(tmp_path, tmp_path / "run")
    assert small_run.run(recipe, "phases.sft.optimizer.keep_last=1", "phases.sft.optimizer.save_every=1") == 0
    assert small_run.checkpoints_of(tmp_path / "run") == ["step-000006"]


def test_what_is_kept_does_not_make_a_finished_phase_run_again_unless_it_decides_what_comes_out(worsening):
    recipe, _ = worsening

    def inputs(*overrides):
        from alignlab import builtin
        from alignlab.engine.plan import plan
        from alignlab.plugins import Plugins

        plugins = Plugins(builtin)
        return plan(load_recipe(recipe, overrides), plugins)[0].inputs(plugins.used())

    best = "phases.sft.optimizer.keep_best.min=eval/loss"
    assert inputs() == inputs("phases.sft.optimizer.keep_last=5", best)
    exported = inputs(best, "phases.sft.optimizer.export=best")
    assert exported != inputs()
    assert exported != inputs(best, "phases.sft.optimizer.export=best", "phases.sft.optimizer.eval_every=2")

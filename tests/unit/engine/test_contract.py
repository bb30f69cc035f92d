"""A third party's method that breaks the engine's contract, installed, named in a recipe, and run: what is said."""

import pytest
import yaml

from alignlab.cli.main import main
from alignlab.testing.world import shared_model, shared_rows

WHO = "plugin method 'paper' of alignlab-paper 2.5 (module alignlab_paper)"
CLASS = """
from typing import Any
import torch
from alignlab import Loss, MethodSettings, Role, hookimpl

class Paper(MethodSettings):
    name = "paper"
    roles = {{"policy": Role()}}
    per = "token"
    rows = "completion"
    {setting}

    def {stage}(self, run, batch):
        {body}
        return Loss(total, metrics)

@hookimpl
def register_methods():
    return [Paper]
"""
TOTAL = 'total, metrics = -run.logp("policy", batch).sum(), {}'


@pytest.fixture
def said(distribution, tmp_path, capsys):
    """Run a method with these lines in it; return what the command says to stderr."""

    def run(body=TOTAL, setting="", stage="optimize", change=lambda source: source):
        source = change(CLASS.format(body=body.replace("\n", "\n        "), setting=setting, stage=stage))
        distribution("alignlab-paper", "2.5", {"method.paper": "alignlab_paper"}, alignlab_paper=source)
        phase = {
            "name": "only",
            "data": {"path": str(shared_rows("completion")), "limit": 24, "eval": 0.25},
            "optimizer": {"method": "paper", "steps": 1, "batch_size": 4, "log_samples": 0},
        }
        model = {"path": str(shared_model()), "device": "cpu"}
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({"output": str(tmp_path / "run"), "model": model, "phases": [phase]}))
        code = main(["run", str(recipe)])
        text = capsys.readouterr().err
        assert code == (2 if text else 0)
        return text

    return run


def test_a_method_that_holds_the_contract_runs(said):
    assert said() == ""


def test_a_method_without_its_stage_is_refused_before_the_run(said):
    assert said(stage="optimise") == (
        f"error: {WHO} has no optimizer stage\n"
        "  to do: write optimize(self, run, batch), which returns alignlab.Loss(total): a sum, never a mean\n"
    )


@pytest.mark.parametrize(
    ("line", "missing"),
    [('roles = {"policy": Role()}', "roles"), ('per = "token"', "per"), ('rows = "completion"', "rows")],
)
def test_a_method_that_does_not_say_what_it_is_is_refused(said, line, missing):
    text = said(change=lambda source: source.replace(line, ""))
    assert f"{WHO} does not say its `{missing}`" in text
    assert f"to do: write in the class: {missing} = " in text


def test_a_method_that_trains_nothing_is_refused(said):
    text = said(change=lambda source: source.replace("Role()", "Role(train=False)"))
    assert f"{WHO} trains no role" in text


def test_a_sum_over_something_unknown_names_the_nearest(said):
    text = said(change=lambda source: source.replace('per = "token"', 'per = "tokens"'))
    assert f"{WHO} has per = 'tokens'\n  to do: did you mean 'token'?" in text


def test_what_is_no_class_of_settings_is_refused(said):
    text = said(change=lambda source: source.replace("(MethodSettings)", ""))
    assert "is <class 'alignlab_paper.Paper'>, no class of settings\n  to do: derive it from" in text


@pytest.mark.parametrize(
    ("setting", "kind"),
    [("layers: list[int] = [1]", "list"), ("layers: tuple[Any, ...] = ({},)", "dict"), ("layers: Any = set()", "set")],
)
def test_a_mutable_setting_is_refused(said, setting, kind):
    assert said(setting=setting) == (
        f"error: {WHO} has a mutable setting: `layers` is a {kind}, which can change while a run goes on\n"
        "  to do: make it a tuple, such as `layers: tuple[float, ...]`; what changes in a run belongs in run.state\n"
    )


def test_a_method_that_is_not_frozen_is_refused(said):
    assert f"{WHO} is not frozen" in said(setting='model_config = {"frozen": False}')


def test_a_setting_whose_default_has_the_wrong_type_names_it(said):
    text = said(setting='beta: float = "much"')
    assert text.startswith("error: 'beta' wants a number, came 'much'\n")


def test_a_setting_without_a_type_says_so_when_it_is_imported(said):
    text = said(setting="beta = 0.1")
    assert f"{WHO} cannot be imported: PydanticUserError" in text
    assert "`beta = 0.1`" in text


def test_a_method_that_calls_backward_is_named(said):
    assert said(f"{TOTAL}\ntotal.backward(retain_graph=True)") == (
        f"error: {WHO} calls backward() or step() in its optimize()\n"
        "  to do: return the loss, and leave both to the engine: it divides by the count over the whole batch, and "
        "adds up the gradients of all microbatches\n"
    )


def test_a_method_that_steps_is_named(said):
    step = "with torch.no_grad():\n    next(run.models['policy'].parameters()).add_(1)"
    assert f"{WHO} calls backward() or step()" in said(f"{TOTAL}\n{step}")


@pytest.mark.parametrize("stage", ["optimize", "reward"])
def test_a_stage_that_changes_its_batch_in_place_is_named_with_the_field(said, stage):
    change = "batch.acted[:, 1:3] = False"
    own = f"def reward(self, run, batch):\n        {change}\n        return batch\n\n    def optimize"
    if stage == "optimize":
        text = said(f"{TOTAL}\n{change}")
    else:
        text = said(change=lambda source: source.replace("def optimize", own))
    assert f"error: {WHO} changes its batch in place: acted, in its {stage}()\n" in text
    assert "to do: work on a copy" in text


def test_a_loss_that_is_not_a_number_names_the_method_and_where_the_batch_is(said):
    text = said(f"{TOTAL}\ntotal = total * float('nan')")
    assert f"error: {WHO}: the loss is nan and the norm of its gradient nan\n" in text
    assert "the batch is saved in" in text
    assert "to do: alignlab replay" in text


def test_a_loss_without_a_gradient_is_named(said):
    text = said(f"{TOTAL}\ntotal = total.detach()")
    assert f"{WHO} returns a loss without a gradient" in text
    assert "outside of detach() and no_grad()" in text


def test_a_loss_that_is_no_single_number_is_named(said):
    text = said('total, metrics = -run.logp("policy", batch).sum(1), {}')
    assert f"{WHO} returns a Loss whose total is of shape [4], wanted a tensor of shape []" in text
    assert "to do: sum it over the tokens of the microbatch" in text


def test_a_metric_that_is_no_tensor_is_named(said):
    text = said(f'{TOTAL}\nmetrics = {{"beta": 0.1}}')
    assert f"{WHO} returns a Loss whose beta is a float, wanted a tensor of shape []" in text

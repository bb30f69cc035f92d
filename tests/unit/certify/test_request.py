import json

import pytest

from alignlab import builtin
from alignlab.certify.request import parse, resolve
from alignlab.cli.main import main
from alignlab.errors import AlignlabError, RecipeError
from alignlab.plugins import Plugins


def resolved(text, beta=0.7):
    return resolve(parse(text), Plugins(builtin), 3, beta)


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("ppo", "ppo", {}),
        ("ppo:kl_in=loss,kl_estimator=k2", "ppo", {"kl_in": "loss", "kl_estimator": "k2"}),
        ("dpo:beta=0.1,lr=3e-3,soft_labels=false", "dpo", {"beta": 0.1, "lr": 0.003, "soft_labels": False}),
        ("dpo:loss_type=[sigmoid, ipo],steps=9", "dpo", {"loss_type": ["sigmoid", "ipo"], "steps": 9}),
    ],
)
def test_a_method_is_named_with_its_settings(text, name, settings):
    found = parse(text)
    assert (found.name, found.settings) == (name, settings)
    assert parse(found.label) == found


@pytest.mark.parametrize("text", [":beta=1", "dpo:beta", "dpo:loss_type=[a"])
def test_what_cannot_be_read_says_how_it_is_written(text):
    with pytest.raises(AlignlabError, match="METHOD:key=value"):
        parse(text)


def test_beta_is_the_setting_that_the_method_names():
    assert resolved("ppo").method.kl_coef == resolved("dpo").method.beta == 0.7
    assert resolved("dpo:beta=0.2").beta == 0.2


def test_a_method_that_promises_nothing_is_measured_at_the_beta_of_one_that_does():
    found = resolved("ppo:kl_in=loss,kl_straight_through=false")
    assert found.optimum is None
    assert found.method.kl_coef == found.beta == 0.7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ppo:kl_coeff=1", "no setting 'kl_coeff'.*kl_coef"),
        ("dpo:beta=-1", "beta: .*greater than 0"),
        ("process_reward_model", "no rows of format 'steps'"),
    ],
)
def test_a_setting_or_method_that_does_not_fit_is_named(text, message):
    with pytest.raises(RecipeError, match=f"(?s){message}"):
        resolved(text)


def test_the_command_prints_and_writes_what_it_measured_and_fails_for_a_promise_that_is_not_kept(tmp_path, capsys):
    assert (
        main(["certify", "dpo:batch_size=8", "--steps", "2", "--letters", "1", "--json", "--output", str(tmp_path)])
        == 1
    )
    (found,) = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "certify.json").read_text())[0]
    assert (found["promise"], found["passed"], found["seed"]) == ("kl_regularized", False, 0)
    assert [point["step"] for point in found["curve"]] == [0, 1, 2]
    assert 0 < found["reached"]["kl_to_optimum"] < 5
    assert (tmp_path / "certify.svg").read_text().count("<polyline") == 4  # three lines, and a curve

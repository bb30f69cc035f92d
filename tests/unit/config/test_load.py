from pathlib import Path

import pytest
import yaml
from pydantic import PositiveFloat

from alignlab.config import Settings, dump_recipe, load_recipe, phase_data, report_data
from alignlab.config.recipe import DataSettings
from alignlab.errors import RecipeError

ROOT = Path(__file__).parents[3]
RECIPE = """\
output: runs/x
model: {path: here}
data: {source: hh, path: data.jsonl, eval: 0.2}
phases:
  - name: sft
    optimizer: {method: sft, lr: 1e-5, steps: 3}
  - name: rm
    from: sft
    data:
      path: pairs.jsonl
    optimizer: {method: reward_model, steps: 3}
  - name: ppo
    from: sft
    data: [{source: prompts}, {weight: 2}]
    reward: [{use: reward_model, from: rm}]
    optimizer:
      method: ppo
      kl_coef: 0.05
report:
  baseline: sft
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a recipe, RECIPE with something replaced, from the file r.yaml."""
    monkeypatch.chdir(tmp_path)

    def load(*overrides, text=RECIPE, **replaced):
        for old, new in replaced.get("replace", {}).items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        Path("r.yaml").write_text(text)
        return load_recipe("r.yaml", overrides)

    return load


@pytest.fixture
def error(load):
    def error(*arguments, **keywords):
        with pytest.raises(RecipeError) as raised:
            load(*arguments, **keywords)
        return str(raised.value)

    return error


def optimizer(loaded, phase=0):
    return loaded.recipe.phases[phase].optimizer


# YAML


@pytest.mark.parametrize("number", ["1e-5", "1E-5", "1.0e-5", "0.00001", "+1e-5"])
def test_a_number_in_any_notation_is_a_number(load, number):
    assert optimizer(load(replace={"1e-5": number}))["lr"] == 1e-5
    assert optimizer(load(f"phases.sft.optimizer.lr={number}"))["lr"] == 1e-5


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "y", "1:30", "2024-01-01", "010"])
def test_a_word_that_yaml_1_1_would_change_stays_as_it_is(load, word):
    assert load(replace={"path: here": f"path: {word}"}).recipe.model.path == word
    assert optimizer(load(f"phases.sft.optimizer.x={word}"))["x"] == word


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("False", False), ("null", None), ("", None), ("0x1f", 31), ("1_000", 1000)]
)
def test_booleans_null_and_integers_are_what_they_look_like(load, text, value):
    found = optimizer(load(f"phases.sft.optimizer.x={text}"))["x"]
    assert found == value
    assert type(found) is type(value)


def test_a_key_that_stands_twice_names_both_lines(error):
    assert error(replace={"      method: ppo\n": "      method: ppo\n      kl_coef: 1\n"}) == (
        "'kl_coef' stands twice, in lines 18 and 19\n"
        "  where: r.yaml, line 19: phases[2].optimizer.kl_coef\n"
        "  to do: remove one of them"
    )


def test_a_key_that_is_no_text_names_its_line(error):
    assert error(text="output: a\n2: b\n") == "a key must be text\n  where: r.yaml, line 2\n  to do: put it into quotes"


def test_what_is_merged_in_has_the_line_it_was_written_in(load):
    shared = "output: x\nmodel: {path: here}\ndata: &d\n  path: a\nreport: {baseline: a, data: {<<: *d}}\n"
    loaded = load(text=shared + "phases: [{name: a, data: {<<: *d, eval: 3}, optimizer: {}}]\n")
    assert loaded.recipe.phases[0].data == {"path": "a", "eval": 3}
    assert loaded.positions.where(("phases", 0, "data", "path")).startswith("r.yaml, line 4: ")


def test_what_is_not_yaml_names_line_and_column(error):
    assert "\n  where: r.yaml, line 3, column 7" in error(text="output: x\nmodel: [1\nphases: 2\n")
    assert "the recipe is not YAML" in error(text="output: x\nmodel: !!python/name:os.system x\n")
    assert "the recipe is not YAML" in error(text="a: \x00")
    assert error(text="a: &x [*x]").startswith("the recipe holds an anchor (&) inside itself")


def test_an_empty_file_and_a_list_are_no_recipes(error):
    assert error(text="").startswith("the recipe is empty\n  where: r.yaml")
    assert error(text="# nothing\n").startswith("the recipe is empty")
    assert error(text="- a\n") == "a recipe is a mapping of keys, and this is ['a']\n  where: r.yaml"


def test_a_missing_file_names_the_nearest(load, tmp_path):
    load()
    with pytest.raises(RecipeError) as raised:
        load_recipe("rr.yaml")
    assert str(raised.value) == (
        "the recipe cannot be read: No such file or directory\n  where: rr.yaml\n  to do: did you mean 'r.yaml'?"
    )
    with pytest.raises(RecipeError, match="Is a directory"):
        load_recipe(tmp_path)


def test_a_file_that_is_not_utf_8_says_so(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"output: caf\xe9\n")
    with pytest.raises(RecipeError, match="not text in UTF-8"):
        load_recipe(tmp_path / "r.yaml")


# Settings


def test_an_unknown_key_names_line_and_nearest(error):
    assert error(replace={"output: runs": "outptu: runs"}) == (
        "2 things are wrong\n"
        "- 'output' is missing\n"
        "  where: r.yaml: output\n"
        "- there is no setting 'outptu'\n"
        "  where: r.yaml, line 1: outptu\n"
        "  to do: did you mean 'output'?"
    )
    assert error(replace={"    from: sft\n    data: [": "    form: sft\n    data: ["}) == (
        "there is no setting 'form'\n  where: r.yaml, line 13: phases[2].form\n  to do: did you mean 'from'?"
    )


def test_errors_of_one_recipe_are_reported_at_once(error):
    text = error("seed=x", "model.dtype=float23", replace={"name: rm": "name: r m"})
    assert text.startswith("3 things are wrong\n")
    assert "- 'seed' wants a whole number, came 'x'\n  where: --set seed=x\n" in text
    assert "- 'dtype' wants 'float32' or 'bfloat16', came 'float23'" in text
    assert "  to do: did you mean 'float32'?" in text
    assert "- 'name' wants text that matches ^[A-Za-z0-9][A-Za-z0-9_.-]*$, came 'r m'\n  where: r.yaml, line 7:" in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("report.num_prompts=0", "'num_prompts' wants a number above 0, came 0"),
        ("report.num_prompts=1.5", "'num_prompts' wants a whole number, came 1.5"),
        ("report.temperature=abc", "'temperature' wants a number, came 'abc'"),
        ("model.trust_remote_code=maybe", "'trust_remote_code' wants true or false, came 'maybe'"),
        ("output=[1]", "'output' wants text, came [1]"),
        ("output=null", "'output' wants text, came null"),
        ("plugins=timer", "'plugins' wants a list, came 'timer'"),
        ("model=here", "'model' wants a mapping, came 'here'"),
        ("phases=[]", "'phases' wants at least 1 item(s), came []"),
        ("phases.sft.data=5", "'data' wants a mapping or a list, came 5"),
        ("phases.sft.data=[{}, 3]", "item 2 wants a mapping, came 3"),
        ("model={}", "model wants exactly one of `path` (a directory or hub id) and `new` (a small one is built)"),
    ],
)
def test_what_pydantic_says_is_said_in_plain_words(error, override, said):
    assert error(override).splitlines()[0] == said
    assert "pydantic" not in error(override)


class Own(Settings):
    """What a plugin brings."""

    kl_coef: PositiveFloat = 0.1
    target: str = ""


def test_a_plugins_settings_get_the_place_of_their_key(load):
    loaded = load(replace={"kl_coef: 0.05": "kl_coef: -1"})
    at = ("phases", 2, "optimizer")
    values = {key: value for key, value in optimizer(loaded, 2).items() if key != "method"}
    with pytest.raises(RecipeError) as raised:
        loaded.validate(Own, values, at)
    assert str(raised.value) == (
        "'kl_coef' wants a number above 0, came -1\n  where: r.yaml, line 18: phases[2].optimizer.kl_coef"
    )
    assert loaded.validate(Own, {"target": "x"}, at) == Own(target="x")


def test_keys_that_may_stand_beside_a_plugins_are_suggested_too(load):
    with pytest.raises(RecipeError, match="did you mean 'schedule'"):
        load().validate(Own, {"shedule": "cosine"}, ("phases", 0, "optimizer"), also=["schedule", "lr"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("learning_rate", "lr"),
        ("learing_rate", "lr"),
        ("num_train_epochs", "epochs"),
        ("init_kl_coef", "kl_coef"),
        ("warmup_step", "warmup_steps"),
    ],
)
def test_what_other_libraries_call_a_key_leads_to_ours(load, typed, meant):
    with pytest.raises(RecipeError, match=f"to do: did you mean '{meant}'"):
        load().validate(Own, {typed: 1}, ("phases", 0), also=["lr", "epochs", "kl_coef", "warmup_steps", "eval_every"])


def test_a_name_from_elsewhere_is_not_proposed_where_ours_is_unknown(load):
    with pytest.raises(RecipeError, match="to do: known: kl_coef, target"):
        load().validate(Own, {"learning_rate": 1}, ("phases", 0))


def test_every_member_of_an_ensemble_is_a_phase_before(load):
    members = "phases.ppo.reward=[{use: reward_ensemble, from: [rm, rn]}]"
    with pytest.raises(RecipeError, match="there is no phase 'rn' before this") as raised:
        load(members)
    assert raised.value.do == "known: rm, sft"


def test_a_phase_may_have_a_seed_of_its_own(load):
    recipe = load("phases.rm.seed=7").recipe
    assert [phase.seed for phase in recipe.phases] == [7 if phase.name == "rm" else None for phase in recipe.phases]


# --set


def test_set_reaches_a_phase_by_name_and_by_index(load):
    assert optimizer(load("phases.ppo.optimizer.kl_coef=0"), 2)["kl_coef"] == 0
    assert optimizer(load("phases.2.optimizer.kl_coef=0"), 2)["kl_coef"] == 0
    assert load("phases.ppo.reward.0.weight=0.5").recipe.phases[2].reward[0].weight == 0.5


def test_set_takes_any_yaml_and_makes_what_is_missing(load):
    recipe = load("model={new: {num_layers: 2}}", "report.data.limit=7", "plugins=[a, b]", "seed=3").recipe
    assert (recipe.model.path, recipe.model.new.num_layers) == (None, 2)
    assert recipe.report.data == {"limit": 7}
    assert (recipe.plugins, recipe.seed) == (["a", "b"], 3)
    assert load("model.new.num_layers=2", "model.path=null").recipe.model.new.num_layers == 2


def test_set_changes_one_place_of_what_an_anchor_lets_stand_in_two(load):
    text = """
output: runs/x
model: {path: m}
phases:
  - {name: rm1, seed: 1, data: {source: rows}, optimizer: &rm {method: reward_model, steps: 5}}
  - {name: rm2, seed: 2, data: {source: rows}, optimizer: *rm}
"""
    recipe = load("phases.rm1.optimizer.steps=7", text=text).recipe
    assert [phase.optimizer["steps"] for phase in recipe.phases] == [7, 5]


def test_a_later_set_wins(load):
    assert load("seed=1", "seed=2").recipe.seed == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sed=1", "there is no setting 'sed'\n  where: --set sed=1\n  to do: did you mean 'seed'?"),
        ("modle.path=x", "there is no setting 'modle'\n  where: --set modle.path=x\n  to do: did you mean 'model'?"),
        (
            "phases.pop.optimizer.x=1",
            "phases has no item 'pop'\n  where: --set phases.pop.optimizer.x=1\n  to do: did you mean 'ppo'?",
        ),
        ("phases.7.name=x", "phases has no item '7'\n  where: --set phases.7.name=x\n  to do: known: ppo, rm, sft"),
        ("output.x=1", "output is 'runs/x', which has no key 'x'\n  where: --set output.x=1"),
        ("seed", "--set wants KEY=VALUE, came 'seed'\n  to do: for example --set seed=1"),
        ("model..path=1", "--set wants KEY=VALUE, came 'model..path=1'\n  to do: for example --set seed=1"),
        ("seed=[1", "the value is not YAML: '[1'\n  where: --set seed=[1\n  to do: put it into quotes"),
    ],
)
def test_a_set_that_fits_nowhere_is_named(error, override, said):
    assert error(override) == said


def test_a_set_inside_a_bigger_one_names_the_key(load):
    loaded = load("data={source: rows, pth: x}")
    with pytest.raises(RecipeError) as raised:
        loaded.validate(Own, {"pth": "x"}, ("phases", 0, "data"))
    assert "where: --set data={source: rows, pth: x}" in str(raised.value)


# Phases that refer to phases


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("phases.rm.from=stf", "there is no phase 'stf' before this\n  where: --set phases.rm.from=stf\n  to do: did"),
        ("phases.rm.from=ppo", "there is no phase 'ppo' before this"),
        ("phases.sft.from=sft", "there is no phase 'sft' before this"),
        ("phases.ppo.reward.0.from=rn", "there is no phase 'rn' before this"),
        ("report.baseline=stf", "there is no phase 'stf' before this"),
        ("report.phases=[sft, ppp]", "there is no phase 'ppp' before this"),
        ("report.reward=[{use: reward_model, from: mr}]", "there is no phase 'mr' before this"),
        ("phases.rm.name=cache", "a phase cannot be called 'cache'"),
    ],
)
def test_a_reference_to_no_earlier_phase_is_an_error(error, override, said):
    assert said in error(override)


def test_two_phases_of_one_name_and_what_follows_are_reported_together(error):
    text = error("phases.rm.name=sft")
    assert "- two phases are called 'sft'\n  where: --set phases.rm.name=sft" in text
    assert "- there is no phase 'rm' before this\n  where: r.yaml, line 15: phases[2].reward[0].from" in text


# Data


def test_a_phases_data_is_laid_over_the_recipes(load):
    recipe = load().recipe
    assert phase_data(recipe, 0) == [({"source": "hh", "path": "data.jsonl", "eval": 0.2}, ("phases", 0, "data"))]
    assert phase_data(recipe, 1)[0][0] == {"source": "hh", "path": "pairs.jsonl", "eval": 0.2}
    assert [data for data, _ in phase_data(recipe, 2)] == [
        {"source": "prompts", "path": "data.jsonl", "eval": 0.2},
        {"source": "hh", "path": "data.jsonl", "eval": 0.2, "weight": 2},
    ]
    assert report_data(recipe)[0][0] == {"source": "hh", "path": "data.jsonl", "eval": 0.2}


@pytest.mark.parametrize(
    ("phase", "item", "key", "where"),
    [
        (0, 0, "eval", "r.yaml, line 3: data.eval"),
        (1, 0, "eval", "r.yaml, line 3: data.eval"),
        (1, 0, "path", "r.yaml, line 10: phases[1].data.path"),
        (2, 0, "source", "r.yaml, line 14: phases[2].data[0].source"),
        (2, 1, "source", "r.yaml, line 3: data.source"),
        (2, 1, "weight", "r.yaml, line 14: phases[2].data[1].weight"),
    ],
)
def test_a_wrong_value_in_a_phases_data_names_the_line_that_it_comes_from(load, phase, item, key, where):
    loaded = load()
    values, at = phase_data(loaded.recipe, phase)[item]
    with pytest.raises(RecipeError) as raised:
        loaded.validate(Own, {key: values[key]}, at)
    assert raised.value.where == where


def test_a_wrong_value_in_the_reports_data_names_the_recipes_line(load):
    loaded = load("data.eval=abc")
    (values, at) = report_data(loaded.recipe)[0]
    with pytest.raises(RecipeError) as raised:
        loaded.validate(DataSettings, values, at)
    assert str(raised.value) == "'eval' wants a number, came 'abc'\n  where: --set data.eval=abc"


# The resolved recipe


@pytest.mark.parametrize("path", ["recipes/hh.yaml", "recipes/reward_models.yaml", "alignlab/recipes/demo.yaml"])
def test_the_recipes_of_the_repository_load_and_survive_a_dump(path, tmp_path):
    recipe = load_recipe(ROOT / path).recipe
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "recipe.yaml").recipe == recipe


@pytest.mark.parametrize("text", ["1e-5", "no", "0o17", "010", "2024-01-01", "null", "1:30", "ü\n#x", ".inf"])
def test_text_that_looks_like_something_else_survives_a_dump(load, text):
    recipe = load(f"model.path={yaml.safe_dump(text, default_style=chr(34))}").recipe
    assert recipe.model.path == text
    assert load(text=dump_recipe(recipe)).recipe == recipe


def test_a_dump_holds_the_defaults_by_their_names_in_recipes(load):
    dumped = yaml.safe_load(dump_recipe(load().recipe))
    assert dumped["phases"][1]["from"] == "sft"
    assert dumped["phases"][2]["reward"] == [
        {"use": "reward_model", "name": None, "weight": 1.0, "timeout": None, "concurrency": 1, "from": "rm"}
    ]
    assert dumped["model"]["dtype"] == "float32"

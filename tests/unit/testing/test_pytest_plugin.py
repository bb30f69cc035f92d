"""The pytest plugin: found by its entry point, light at start, and its fixtures work in somebody else's project."""

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

MODULE = "alignlab.testing.pytest_plugin"
RECIPE = """
model: {path: %s, device: cpu}
phases:
  - name: sft
    data: {path: %s, eval: 0.25}
    optimizer: {method: sft, steps: 2, batch_size: 4}
"""


def test_pytest_finds_the_plugin_by_its_entry_point():
    assert MODULE in {point.value for point in entry_points(group="pytest11") if point.name == "alignlab"}


def test_the_start_of_a_pytest_that_has_nothing_to_do_with_alignlab_imports_no_torch(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_other(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('alignlab')\n"
        "    assert not {'torch', 'transformers', 'pydantic', 'datasets', 'numpy'} & set(sys.modules)\n"
    )
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "alignlab", "--rootdir", str(tmp_path), "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tiny_model_loads_with_plain_transformers(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert model.num_parameters() < 50_000
    assert len(AutoTokenizer.from_pretrained(tiny_model)) == model.config.vocab_size


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ("prompt", {"prompt"}),
        ("completion", {"prompt", "completion"}),
        ("preference", {"prompt", "chosen", "rejected"}),
        ("label", {"prompt", "completion", "label"}),
        ("ranked", {"prompt", "completions", "ranks"}),
        ("steps", {"prompt", "completions", "labels"}),
    ],
)
def test_tiny_data_is_a_file_of_rows_in_the_format(tiny_data, rows, columns):
    found = [json.loads(line) for line in tiny_data(rows).read_text().splitlines()]
    assert len(found) == 64
    assert all(set(row) == columns for row in found)


def test_tiny_data_of_an_unknown_format_names_the_nearest(tiny_data):
    with pytest.raises(ValueError, match="there is no row format 'preferences'; did you mean 'preference'"):
        tiny_data("preferences")


def test_run_recipe_runs_the_command_and_returns_the_run_directory(run_recipe, tiny_model, tiny_data, tmp_path):
    output = run_recipe(RECIPE % (tiny_model, tiny_data("completion")), "seed=3", "phases.sft.optimizer.steps=1")
    assert output == tmp_path / "run"
    assert json.loads((output / "manifest.json").read_text())["seed"] == 3
    assert len((output / "sft" / "metrics.jsonl").read_text().splitlines()) == 1
    moved = run_recipe({"model": {"path": str(tiny_model)}, "phases": [
        {"name": "sft", "data": {"path": str(tiny_data("completion"))}, "optimizer": {"method": "sft", "steps": 1}}
    ]}, f"output={tmp_path / 'there'}")  # fmt: skip
    assert moved == tmp_path / "there"
    assert (moved / "sft" / "model").is_dir()


def test_a_recipe_that_fails_shows_what_the_command_said(run_recipe, tiny_model, tiny_data):
    with pytest.raises(AssertionError, match=r"(?s)alignlab run exits with 2.*there is no method 'sftt'"):
        run_recipe(RECIPE.replace("sft,", "sftt,") % (tiny_model, tiny_data("completion")))

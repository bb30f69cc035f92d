import json

import pytest
import yaml
from toy import base_model

from alignlab.cli import main

PROMPTS = {"source": "world", "kind": "prompts", "num_prompts": 60, "num_rows": 60, "eval": 0.2}


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return base_model(tmp_path_factory.mktemp("feedback") / "base")


@pytest.fixture
def run(tmp_path, base):
    """Run a recipe of one phase on rows that are made, and return its exit code."""

    def go(data, method="dpo", command=("run",), reward=None, **optimizer):
        phase = {
            "name": "made",
            "data": data,
            "optimizer": {"method": method, "steps": 1, "batch_size": 4, "lr": 1e-4, **optimizer},
        }
        if reward is not None:
            phase["reward"] = reward
        recipe = {"output": str(tmp_path / "run"), "model": {"path": str(base), "device": "cpu"}, "phases": [phase]}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return main([command[0], str(path), *command[1:]])

    return go


@pytest.fixture
def made(tmp_path):
    """Read a file that stands beside the rows of the last run, and the rows themselves."""

    def read(name):
        (path,) = sorted((tmp_path / "run" / "data").glob(f"*/{name}"))
        text = path.read_text()
        return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]

    return read

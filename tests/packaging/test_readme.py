"""What README shows runs as it stands there."""

import re
from pathlib import Path

import pytest
import yaml

from alignlab.cli.main import main
from alignlab.config import load_recipe

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert len(found) == 1
    return found[0]


def test_the_recipe_is_a_valid_one(tmp_path):
    (tmp_path / "recipe.yaml").write_text(block("yaml"))
    recipe = load_recipe(tmp_path / "recipe.yaml").recipe
    assert [phase.name for phase in recipe.phases] == ["sft", "rm", "ppo"]


@pytest.fixture
def rloo(tmp_path, monkeypatch):
    """The plugin as it would stand in site-packages."""
    site = tmp_path / "site-packages"
    about = site / "my_rloo-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "rloo.py").write_text(block("python"))
    entry_points = block("toml").split("[project.entry-points.alignlab]\n")[1].split("\n\n")[0]
    (about / "entry_points.txt").write_text("[alignlab]\n" + entry_points.replace('"', "") + "\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rloo\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)


def test_the_plugin_runs_in_a_recipe_and_is_listed(rloo, tmp_path, capsys):
    recipe = {
        "output": str(tmp_path / "run"),
        "model": {
            "new": {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 320, "context_length": 128}
        },
        "data": {"source": "world", "kind": "prompts", "num_rows": 32, "eval": 4},
        "phases": [
            {
                "name": "rloo",
                "reward": [{"use": "alignlab.data.world:true_reward_function"}],
                "optimizer": {"method": "rloo", "max_new_tokens": 4, "steps": 2, "batch_size": 4},
            }
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(tmp_path / "recipe.yaml")]) == 0
    assert (tmp_path / "run" / "rloo" / "model" / "config.json").is_file()
    assert main(["plugins", "list"]) == 0
    assert "my-rloo" in capsys.readouterr().out

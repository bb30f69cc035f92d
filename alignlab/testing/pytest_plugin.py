"""Fixtures for whoever tests a plugin of alignlab: pytest finds them by the entry point `pytest11`.

It is imported whenever pytest starts, in every project of an environment that alignlab is installed in: nothing here
imports torch before a fixture is asked for.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a Hugging Face directory with a language model of about 40,000 random weights, and its tokenizer."""
    from alignlab.testing.world import LONG_CONTEXT
    from alignlab.testing.world import tiny_model as write

    return write(tmp_path_factory.mktemp("tiny") / "model", context_length=LONG_CONTEXT)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function: row format (`preference`, say) -> a JSONL file with 64 such rows of the small world."""
    from alignlab.testing.world import write_rows

    written: dict[str, Path] = {}

    def write(rows: str) -> Path:
        if rows not in written:
            written[rows] = write_rows(tmp_path_factory.mktemp("tiny") / f"{rows}.jsonl", rows)
        return written[rows]

    return write


@pytest.fixture
def run_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Return a function: recipe (a mapping, or YAML) and overrides (`"seed=1"`) -> the run directory.

    It runs `alignlab run RECIPE --set ...`. A recipe without `output` writes below tmp_path. A run that fails is an
    AssertionError with what the command said.
    """
    from alignlab.cli.main import main

    def run(recipe: Mapping[str, Any] | str, *overrides: str) -> Path:
        import yaml

        values = dict(yaml.safe_load(recipe) if isinstance(recipe, str) else recipe)
        values.setdefault("output", str(tmp_path / "run"))
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        code = main(["run", str(path), *(word for override in overrides for word in ("--set", override))])
        said = capsys.readouterr()
        assert code == 0, f"alignlab run exits with {code}\n{said.err}"
        given = [text.removeprefix("output=") for text in overrides if text.startswith("output=")]
        return Path(given[-1] if given else values["output"])

    return run

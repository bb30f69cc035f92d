from pathlib import Path

import model_directories
import pytest
import torch
from transformers import PreTrainedModel

from alignlab.models import load_model


@pytest.fixture(scope="session", params=sorted(model_directories.STYLES))
def style(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def directory(style: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory of each style, written once."""
    return model_directories.STYLES[style](tmp_path_factory.mktemp(style) / "model")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A directory that a test may damage."""
    return Path(model_directories.llama(tmp_path / "llama"))


def load(path: str | Path, head: str = "lm") -> PreTrainedModel:
    return load_model(str(path), head, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(name="load")
def load_fixture():
    return load

import pytest
import toy


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A tiny model of the small world."""
    return toy.base_model(tmp_path_factory.mktemp("base") / "model")

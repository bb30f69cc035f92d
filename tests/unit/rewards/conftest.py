import pytest
import toy


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A tiny model of the small world."""
    return toy.base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="session")
def rollout(base):
    """A run, and three sampled answers."""
    chosen = toy.method("ppo")
    run = toy.run_for(base, chosen)
    return run, chosen.data(run, toy.split_for(base, "prompt").train[:3])

"""Loss and gradient norm of every form of DPO on one batch of the toy, against numbers in the repository."""

import json
import sys
import tempfile
from pathlib import Path

import pytest
import toy

FILE = Path(__file__).parent / "dpo.json"
NAMES = [name for name, (method, _) in toy.VARIANTS.items() if method == "dpo"]


def measure(base, name):
    chosen = toy.method(name)
    run = toy.run_for(base, chosen)
    batch = toy.collect(run, chosen, toy.split_for(base, chosen.rows).train[:8])
    loss = chosen.optimize(run, batch).total / 8
    loss.backward()
    squares = sum(float(p.grad.square().sum()) for p in run.models["policy"].parameters())
    return [loss.item(), squares**0.5]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return toy.base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_the_golden_ones(base, name):
    assert measure(base, name) == pytest.approx(json.loads(FILE.read_text())[name], rel=1e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        found = toy.base_model(Path(scratch) / "model")
        FILE.write_text(json.dumps({name: measure(found, name) for name in NAMES}, indent=1) + "\n")
    sys.stdout.write(f"wrote {FILE}\n")

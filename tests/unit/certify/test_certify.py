"""Methods trained in a small world (12 answers to 2 prompts), by the engine, and held to what they promise."""

import pytest

from alignlab.certify.bench import Bench
from alignlab.certify.certify import BARS, certify
from alignlab.certify.request import parse
from alignlab.certify.world import WorldSize

PPO = "ppo:steps=45,num_samples=128"
DPO = "dpo:steps=60,batch_size=128"
FAULTS = ("mask_shifted", "kl_sign", "temperature_forgotten", "stale_reference", "value_after")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("certify")


def bench(directory, seed=0, hooks=()):
    size = WorldSize(seed=seed, num_letters=3, max_letters=2, num_prompts=2)
    return Bench(size, 32, directory / f"seed-{seed}", hooks)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("text", [PPO, DPO])
def test_a_method_reaches_the_optimum_that_it_promises(directory, text, seed):
    found = certify(bench(directory, seed), parse(text), 1.0)
    assert found.promise == "kl_regularized"
    assert found.reached["share"] >= BARS["share"], found.curve
    assert found.passed
    assert found.curve[0]["share"] == 0
    assert found.reached["objective"] == pytest.approx(
        found.reached["best_objective"] - found.beta * found.reached["kl_to_optimum"]
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_does_not_reach_it(directory, distribution, fault):
    distribution("alignlab-faults", entry_points={name: f"certify_faults.{name}" for name in FAULTS})
    text = f"{PPO},temperature=0.5" if fault == "temperature_forgotten" else PPO
    found = certify(bench(directory, hooks=(fault,)), parse(text), 1.0)
    assert found.reached["share"] < BARS["share"], found.curve
    assert found.passed is False

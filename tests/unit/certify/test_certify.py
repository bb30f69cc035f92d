"""Methods trained in a small world (12 answers to 2 prompts), by the engine, and held to what they promise."""

import pytest

from alignlab.certify.bench import Bench
from alignlab.certify.certify import BARS, certify
from alignlab.certify.request import parse
from alignlab.certify.world import WorldSize

PPO = "ppo:steps=80,warmup_steps=15"
HELD = {
    PPO: "kl_regularized",
    f"{PPO},kl_in=loss": "kl_regularized",
    f"{PPO},temperature=0.5": "kl_regularized",
    "dpo:steps=100,batch_size=128": "kl_regularized",
    "dpo:loss_type=robust,steps=100,batch_size=128": "kl_regularized",
    "dpo:loss_type=ipo,beta=0.1,steps=100,batch_size=128": "ipo",
    "dpo:loss_type=exo_pair,label_smoothing=0.001,steps=100,batch_size=128": "kl_regularized",
    "rlaif:steps=100,batch_size=128": "kl_regularized",
    "reward_model:steps=200,batch_size=128": "preference_probabilities",
    "sft:steps=150": "likelihood",
}
FAULTS = ("mask_shifted", "kl_sign", "temperature_forgotten", "stale_reference", "value_after")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("certify")


def bench(directory, seed=0, hooks=()):
    size = WorldSize(seed=seed, num_letters=3, max_letters=2, num_prompts=2)
    made = Bench(size, 32, directory / f"seed-{seed}", hooks)
    made.prepare()
    return made


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("text", HELD)
def test_a_method_keeps_what_it_promises(directory, text, seed):
    found = certify(bench(directory, seed), parse(text), 1.0)
    assert found.promise == HELD[text]
    assert found.passed, found.curve
    if "share" in found.reached:
        assert found.reached["share"] >= BARS["share"]
        assert found.curve[0]["share"] == 0
    if found.promise == "kl_regularized":
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


def test_a_training_leaves_the_reference_alone_which_another_process_may_be_reading(directory):
    made = bench(directory)
    recipe = made.directory / "reference.yaml"
    recipe.unlink()  # whatever runs the reference writes it
    certify(made, parse("dpo:steps=1,batch_size=8"), 1.0)
    assert not recipe.exists()
    made.prepare()
    assert recipe.exists()

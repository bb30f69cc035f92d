"""LoRA through every method (PPO.md row 26): no second copy, small checkpoints, plain exports, exact resume."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import toy
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignlab.config import load_recipe
from alignlab.config.recipe import ModelSettings
from alignlab.engine.display import Display
from alignlab.engine.memory import estimate, model_size
from alignlab.engine.optim import trained_parameters
from alignlab.engine.pipeline import Pipeline
from alignlab.engine.roles import load_roles

RECIPE = """
output: {output}
model:
  new: {{hidden_size: 32, num_layers: 1, num_heads: 2, vocab_size: 320, context_length: 128}}
  device: cpu
  lora: {{rank: 4, alpha: 8}}
data: {{source: world, eval: 0.25, num_rows: 64}}
phases:
  - {{name: sft, data: {{kind: demonstrations}}, optimizer: {{method: sft, lr: 1.0e-2, steps: 3, batch_size: 8}}}}
  - name: rm
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: reward_model, lr: 1.0e-2, steps: 3, batch_size: 8}}
  - name: ppo
    from: sft
    data: {{kind: prompts}}
    reward: [{{use: reward_model, from: rm}}]
    optimizer: {{method: ppo, lr: 1.0e-2, steps: 3, batch_size: 8, save_every: 1, passes: 2, max_new_tokens: 8}}
  - name: dpo
    from: sft
    data: {{kind: preferences}}
    optimizer: {{method: dpo, lr: 1.0e-2, steps: 3, batch_size: 8}}
"""
TOKENS = torch.tensor([[5, 6, 7, 8]])


class Silent(Display):
    def say(self, text):
        pass


def run(path: Path) -> Path:
    return Pipeline(load_recipe(path), Silent()).run()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lora")
    path = directory / "recipe.yaml"
    path.write_text(RECIPE.format(output=directory / "run"))
    return path


@pytest.fixture(scope="module")
def finished(recipe):
    return run(recipe)


def exported(directory: Path, head: str = "lm") -> torch.Tensor:
    auto = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    with torch.no_grad():
        return auto.from_pretrained(directory)(input_ids=TOKENS).logits


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers by an old name
@pytest.mark.parametrize(
    ("phase", "base", "head"), [("sft", "base-model", "lm"), ("rm", "sft/model", "scalar"), ("ppo", "sft/model", "lm")]
)
def test_a_phase_exports_the_adapter_for_peft_and_a_plain_model_with_it_merged_in(finished, phase, base, head):
    from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification

    directory = finished / phase
    about = json.loads((directory / "adapter" / "adapter_config.json").read_text())
    assert (about["r"], about["lora_alpha"]) == (4, 8)
    assert about["base_model_name_or_path"] == str(finished / base)
    assert not any("lora" in name for name in load_file(directory / "model" / "model.safetensors"))
    auto = AutoPeftModelForCausalLM if head == "lm" else AutoPeftModelForSequenceClassification
    with torch.no_grad():
        adapted = auto.from_pretrained(directory / "adapter", **({"num_labels": 1} if head == "scalar" else {}))
        found = adapted(input_ids=TOKENS).logits
    torch.testing.assert_close(found, exported(directory / "model", head), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("phase", ["sft", "ppo", "dpo"])
def test_every_method_trains_its_adapter(finished, phase):
    before = exported(finished / ("base-model" if phase == "sft" else "sft/model"))
    assert float((exported(finished / phase / "model") - before).abs().max()) > 1e-3


def test_checkpoints_hold_adapters_and_heads_only(finished):
    checkpoint = max((finished / "ppo" / "checkpoints").glob("step-*"))
    policy, critic = (load_file(checkpoint / f"{role}.safetensors") for role in ("policy", "critic"))
    assert all("lora_" in name for name in policy)
    assert [name for name in critic if "lora_" not in name] == ["score.modules_to_save.default.weight"]
    assert not (checkpoint / "ref.safetensors").exists()


def test_a_run_that_goes_on_from_a_checkpoint_has_the_unbroken_run_s_bits(recipe, finished):
    directory = finished / "ppo"
    whole = load_file(directory / "model" / "model.safetensors")
    metrics = (directory / "metrics.jsonl").read_text().splitlines()
    shutil.rmtree(directory / "checkpoints" / "step-000003")
    shutil.rmtree(directory / "model")
    (directory / "phase.json").unlink()
    run(recipe)
    again = load_file(directory / "model" / "model.safetensors")
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    losses = [[json.loads(line)["loss"] for line in lines] for lines in (metrics, _lines(directory))]
    assert losses[0] == losses[1]


def _lines(directory: Path) -> list[str]:
    return (directory / "metrics.jsonl").read_text().splitlines()


@pytest.fixture
def roles(tmp_path):
    base = toy.base_model(tmp_path / "model")
    settings = ModelSettings(path=str(base), device="cpu", lora={"rank": 2}, gradient_checkpointing=True)
    return base, lambda method: load_roles(method, base, settings, None)


def test_row_26_all_roles_stand_on_one_copy_of_the_base(roles):
    base, load = roles
    models = load(toy.method("ppo"))
    distinct = {p.data_ptr(): p.numel() for model in models.values() for p in model.parameters()}
    trained = sum(p.numel() for p in trained_parameters(models.values()))
    frozen_head = 32  # beside the critic's head, which is trained, PEFT keeps the one that it started from
    assert sum(distinct.values()) == model_size(str(base)).num_parameters + trained + frozen_head


def test_row_26_the_reference_is_the_policy_without_its_adapter(roles):
    _, load = roles
    models = load(toy.method("dpo"))
    with torch.no_grad():
        start = models["policy"](input_ids=TOKENS).logits
        for parameter in trained_parameters(models.values()):
            parameter += 0.1
        assert torch.equal(models["ref"](input_ids=TOKENS).logits, start)
        assert not torch.allclose(models["policy"](input_ids=TOKENS).logits, start)


def test_only_adapters_and_heads_are_trained(roles):
    _, load = roles
    for name in toy.registered():
        method = toy.method(name)
        for role, model in load(method).items():
            trained = [key for key, p in model.named_parameters() if p.requires_grad]
            assert all("lora_" in key or key.startswith("score.") for key in trained)
            assert bool(trained) == method.roles[role].train


def test_gradient_checkpointing_changes_no_gradient_of_an_adapter(roles):
    base, load = roles
    method = toy.method("sft")
    run = toy.run_for(base, method)
    batch = toy.collect(run, method, toy.split_for(base, "completion").train[:4])

    def gradient(models):
        run.models = models
        method.optimize(run, batch).total.backward()
        return torch.cat([p.grad.flatten() for p in trained_parameters(models.values())])

    whole = ModelSettings(path=str(base), device="cpu", lora={"rank": 2})
    expected = gradient(load_roles(method, base, whole, None))
    assert expected.any()
    torch.testing.assert_close(gradient(load(method)), expected)


def test_a_shared_critic_stands_on_the_adapted_policy(roles):
    _, load = roles
    models = load(toy.method("ppo", critic="shared"))
    assert models["critic"].base_model is models["policy"].base_model
    assert [name for name, p in models["critic"].score.named_parameters() if p.requires_grad] == ["weight"]


def test_the_memory_estimate_counts_one_base_and_the_adapters(tmp_path):
    base = toy.base_model(tmp_path / "model")
    size, roles = model_size(str(base)), toy.method("dpo").roles
    whole = estimate(size, roles, ModelSettings(path=str(base)), 0)
    lora = estimate(size, roles, ModelSettings(path=str(base), lora={"rank": 2}), 0)
    assert whole == 5 * 4 * size.num_parameters
    assert lora == 4 * size.num_parameters + 4 * 4 * 14 * 2 * size.num_layers * size.hidden_size

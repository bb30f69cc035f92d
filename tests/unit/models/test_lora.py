"""Adapters: what is trained, what is shared, what is written; on every architecture that is built in."""

import sys

import pytest
import torch
import toy

from alignlab.config.recipe import LoRASettings
from alignlab.errors import ModelError
from alignlab.models import add_adapter, has_adapter, load_model, merge_adapter, require_peft, share

TOKENS = torch.tensor([[5, 6, 7, 8]])
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["llama", "qwen3", "gemma", "gpt2"])
def directory(request, tmp_path_factory):
    return toy.base_model(tmp_path_factory.mktemp("base") / "model", request.param)


def load(directory, head="lm"):
    return load_model(str(directory), head, dtype=torch.float32, device=CPU)


def stirred(model):
    """Move what is trained, so that an adapter says something."""
    rng = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
    return model


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


def test_an_adapter_starts_as_nothing_and_is_all_that_is_trained(directory):
    model = load(directory)
    before = logits(model)
    add_adapter(model, LoRASettings(rank=4), seed=0)
    assert torch.equal(logits(model), before)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert has_adapter(model)


def test_a_scalar_head_is_trained_whole_beside_the_adapter(directory):
    model = load(directory, "scalar")
    add_adapter(model, LoRASettings(rank=4), seed=0)
    whole = [name for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name]
    assert whole == ["score.modules_to_save.default.weight"]


def test_a_model_that_shares_tensors_does_not_see_the_adapter_and_has_no_second_copy(directory):
    model = load(directory)
    before = logits(model)
    other = share(model)
    add_adapter(model, LoRASettings(rank=4), seed=0)
    stirred(model)
    assert torch.equal(logits(other), before)
    assert not torch.allclose(logits(model), before)
    assert {id(p) for p in other.parameters()} < {id(p) for p in model.parameters()}
    assert {x.data_ptr() for x in other.buffers()} <= {x.data_ptr() for x in model.buffers()}


@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_the_merged_model_is_a_plain_one_with_the_same_output(directory, head, tmp_path):
    model = load(directory, head)
    names = {name for name, _ in model.named_parameters()}
    add_adapter(model, LoRASettings(rank=4, alpha=16), seed=0)
    expected = logits(stirred(model))
    merge_adapter(model)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-4)
    assert {name for name, _ in model.named_parameters()} == names
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(load(tmp_path, head)), logits(model))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers by an old name
@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_peft_loads_the_adapter_that_is_saved(directory, head, tmp_path):
    from peft import PeftModel

    model = load(directory, head)
    add_adapter(model, LoRASettings(rank=4), seed=0)
    expected = logits(stirred(model))
    model.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_config.json").is_file()
    assert not (tmp_path / "model.safetensors").exists()
    torch.testing.assert_close(logits(PeftModel.from_pretrained(load(directory, head), tmp_path)), expected)


def test_an_adapter_is_in_fp32_on_a_base_in_bf16(directory):
    model = load_model(str(directory), "scalar", dtype=torch.bfloat16, device=CPU)
    add_adapter(model, LoRASettings(rank=4), seed=0)
    stirred(model).base_model(input_ids=TOKENS).last_hidden_state.sum().backward()
    adapters = [p for name, p in model.named_parameters() if "lora_" in name]
    assert {p.dtype for p in adapters} == {torch.float32}
    assert any(p.grad.any() for p in adapters)
    merge_adapter(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_the_same_seed_gives_the_same_adapter(directory):
    def weights(seed):
        model = load(directory)
        torch.rand(seed + 1)  # the process's generator is somewhere else each time
        add_adapter(model, LoRASettings(rank=4), seed=seed)
        return torch.cat([p.flatten() for p in model.parameters() if p.requires_grad])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_layers_that_the_model_does_not_have_are_an_error_that_names_those_it_has(directory):
    with pytest.raises(ModelError, match="qproj") as raised:
        add_adapter(load(directory), LoRASettings(target_modules=["qproj"]), seed=0)
    assert "all-linear" in str(raised.value)
    assert "_proj" in str(raised.value)


def test_without_peft_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"pip install 'alignlab\[lora\]'"):
        require_peft()

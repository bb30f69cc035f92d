"""Models load without dropout and without a word, or say what is wrong with the directory."""

import json
import shutil

import model_directories
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertForMaskedLM, ViTConfig, ViTModel

from alignlab.batch import Sample, collate
from alignlab.errors import ModelError
from alignlab.models import hidden_states, is_checkpointing, load_model, load_tokenizer, resolve_device, save_model


def edit_config(directory, **values):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_weights(directory, change):
    path = directory / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_scalar_head_on_a_language_model_starts_at_zero_and_keeps_the_trunk(directory, load):
    language, scored = load(directory), load(directory, "scalar")
    assert scored.score.weight.shape == (1, 32)
    assert not scored.score.weight.any()
    for name, weight in language.base_model.state_dict().items():
        assert torch.equal(weight, scored.base_model.state_dict()[name]), name


def test_dropout_is_off_in_config_and_modules(tmp_path, load):
    model = load(model_directories.gpt2(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["resid_pdrop"] == config["embd_pdrop"] == config["attn_pdrop"] == 0.1
    assert model.config.resid_pdrop == model.config.embd_pdrop == model.config.attn_pdrop == 0.0
    dropouts = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert dropouts and not any(dropouts)
    tokens = torch.arange(20)[None]
    assert torch.equal(model.train()(tokens).logits, model.eval()(tokens).logits)


def test_attention_dropout_of_a_llama_is_off_too(tmp_path, load):
    model = load(model_directories.llama(tmp_path, attention_dropout=0.5)).train()
    tokens = torch.arange(20)[None]
    assert torch.equal(model(tokens).logits, model(tokens).logits)


def test_the_embedding_of_pad_is_trained(tmp_path, load):
    """PPO.md row 9: with EOS as pad, torch's `padding_idx` would keep EOS from learning."""
    model = load(model_directories.llama(tmp_path, pad_token_id=4))
    batch = collate([Sample((9, 4, 30), (True,) * 3)], unit=[0])
    hidden_states(model, batch).square().sum().backward()
    assert model.get_input_embeddings().weight.grad[4].any()


def test_gradient_checkpointing_changes_no_gradient(directory, load):
    checkpointed = load_model(
        directory, "lm", dtype=torch.float32, device=torch.device("cpu"), gradient_checkpointing=True
    )
    batch = collate([Sample((9, 4, 30, 5), (True,) * 4)], unit=[0])
    gradients = []
    for model in (load(directory), checkpointed.train()):
        hidden_states(model, batch).cos().sum().backward()
        gradients.append(model.get_input_embeddings().weight.grad)
    assert is_checkpointing(checkpointed)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_weights_come_in_the_asked_type(directory):
    model = load_model(directory, "scalar", dtype=torch.bfloat16, device=torch.device("cpu"))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_loading_and_saving_print_nothing(directory, tmp_path, load, capfd):
    load_tokenizer(directory)  # what it says once, it has said
    capfd.readouterr()
    for head in ("lm", "scalar"):
        save_model(load(directory, head), load_tokenizer(directory), tmp_path / head)
        load(tmp_path / head, head)
    assert capfd.readouterr() == ("", "")


def test_auto_is_a_device_that_there_is(directory):
    assert resolve_device("cpu") == torch.device("cpu")
    device = resolve_device("auto")
    torch.ones(1, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(ModelError, match="no cuda device") as caught:
        resolve_device("cuda")
    assert "model.device" in caught.value.do


def test_a_reward_model_asked_for_as_a_language_model_is_an_error(llama, tmp_path, load):
    save_model(load(llama, "scalar"), load_tokenizer(str(llama)), tmp_path / "rm")
    with pytest.raises(ModelError, match="holds a LlamaForSequenceClassification; a causal language model is wanted"):
        load(tmp_path / "rm")


def test_a_classifier_with_several_labels_is_no_reward_model(llama, tmp_path, load):
    save_model(load(llama, "scalar"), load_tokenizer(str(llama)), tmp_path / "rm")
    edit_config(tmp_path / "rm", id2label={"0": "bad", "1": "good"}, label2id={"bad": 0, "good": 1})
    with pytest.raises(ModelError, match="the classifier has 2 labels"):
        load(tmp_path / "rm", "scalar")


def test_a_reward_model_without_its_head_is_damaged_and_gets_no_new_one(llama, tmp_path, load):
    save_model(load(llama, "scalar"), load_tokenizer(str(llama)), tmp_path / "rm")
    edit_weights(tmp_path / "rm", lambda weights: weights.pop("score.weight"))
    with pytest.raises(ModelError, match=r"misses 1 weights \(score.weight\)"):
        load(tmp_path / "rm", "scalar")


@pytest.mark.parametrize("head", ["lm", "scalar"])
def test_a_missing_weight_is_named(llama, load, head):
    edit_weights(llama, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ModelError, match=r"misses 1 weights \(model.layers.1.mlp.up_proj.weight\)") as caught:
        load(llama, head)
    assert caught.value.where == str(llama)


def test_weights_of_another_shape_are_named_with_both_shapes(llama, load):
    edit_config(llama, intermediate_size=48)
    with pytest.raises(
        ModelError, match=r"6 weights .*mlp.down_proj.weight is \(32, 64\), and \(32, 48\) by the config"
    ):
        load(llama)


def test_weights_that_are_left_over_are_said_once(llama, load, caplog):
    edit_config(llama, num_hidden_layers=1)
    load(llama)
    load(llama)
    assert len(caplog.messages) == 1
    assert "9 weights (model.layers.1." in caplog.messages[0]
    assert "does not use" in caplog.messages[0]


@pytest.mark.parametrize("size", [0, 4, 100, 20_000])
def test_truncated_weights_are_an_error(llama, load, size):
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="the model cannot be loaded: ") as caught:
        load(llama)
    assert "truncated" in caught.value.do


def test_a_directory_without_weights_is_an_error(llama, load):
    (llama / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the model cannot be loaded: .*no file named model.safetensors"):
        load(llama)


def test_a_directory_without_config_is_an_error(llama, load):
    (llama / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(llama)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"model_type": "none-such"}', '{"model_type": "llama", "hidden_size": "x"}']
)
def test_a_broken_config_is_an_error(llama, load, text):
    (llama / "config.json").write_text(text)
    with pytest.raises(ModelError, match="config cannot be used: ") as caught:
        load(llama)
    assert caught.value.where == f"{llama}/config.json"


def test_a_masked_language_model_is_not_causal(tmp_path, load):
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=99)
    BertForMaskedLM(config).save_pretrained(tmp_path)
    for head in ("lm", "scalar"):
        with pytest.raises(ModelError, match="holds a BertForMaskedLM; a causal language model is wanted"):
            load(tmp_path, head)


def test_a_vision_model_is_no_language_model(tmp_path, load):
    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32)
    ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded: Unrecognized configuration class"):
        load(tmp_path)


def test_a_directory_that_moved_names_its_neighbour(llama, load):
    moved = llama.with_name("lama-2")
    shutil.move(llama, moved)
    with pytest.raises(ModelError, match="no such model directory") as caught:
        load(moved.with_name("llama-2"))
    assert caught.value.do == f"did you mean {str(moved)!r}?"

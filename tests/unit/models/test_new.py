import subprocess
import sys
from itertools import pairwise

import model_directories
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlab.config.recipe import NewModelSettings
from alignlab.errors import ModelError
from alignlab.models import head_is_separable, new_model

SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 300, "context_length": 64}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Paris?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Thanks"},
]
ARCHITECTURES = ["llama", "qwen3", "gemma", "gpt2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("new") / "model"
    new_model(NewModelSettings(**SMALL), model_directories.TEXTS * 3, directory, seed=3)
    return directory


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_loads_what_is_made(architecture, tmp_path):
    new_model(NewModelSettings(architecture=architecture, **SMALL), model_directories.TEXTS, tmp_path / "m", seed=0)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "m"),
        AutoTokenizer.from_pretrained(tmp_path / "m"),
    )
    assert architecture in model.config.model_type
    assert model.config.vocab_size == len(tokenizer) == 300
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|end|>")
    assert model.config.max_position_embeddings == tokenizer.model_max_length == 64
    assert head_is_separable(model)
    logits = model(torch.tensor([tokenizer("How do I boil an egg?")["input_ids"]])).logits
    assert logits.isfinite().all()


def test_the_same_seed_and_texts_give_the_same_bytes_in_another_process(made, tmp_path):
    code = (
        "import sys, pathlib; sys.path.insert(0, 'tests')\n"
        "import model_directories\nfrom alignlab.models import new_model\n"
        "from alignlab.config.recipe import NewModelSettings\n"
        f"new_model(NewModelSettings(**{SMALL}), model_directories.TEXTS * 3, pathlib.Path({str(tmp_path / 'm')!r}), 3)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert contents(tmp_path / "m") == contents(made)


def test_another_seed_gives_other_weights_and_the_same_tokenizer(made, tmp_path):
    new_model(NewModelSettings(**SMALL), model_directories.TEXTS * 3, tmp_path / "m", seed=4)
    ours, theirs = contents(made), contents(tmp_path / "m")
    assert {name for name in ours if ours[name] != theirs[name]} == {"model.safetensors"}


def test_the_random_state_of_torch_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    new_model(NewModelSettings(**SMALL), model_directories.TEXTS, tmp_path / "m", seed=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_any_text_comes_back_and_special_tokens_are_one_token(made):
    tokenizer = AutoTokenizer.from_pretrained(made)
    text = "How do I  boil\n日本 é \x00?"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for token in ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"):
        assert len(tokenizer(token)["input_ids"]) == 1
    assert len(tokenizer(" boil")["input_ids"]) < 5  # it has learned from the texts


def test_a_prefix_of_a_chat_renders_as_a_prefix(made):
    tokenizer = AutoTokenizer.from_pretrained(made)
    whole = [tokenizer.apply_chat_template(CHAT[:i], tokenize=False) for i in range(1, 5)]
    for shorter, longer in pairwise(whole):
        assert longer.startswith(shorter)
    asked = tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    assert asked == "<|system|>Be brief.<|end|><|user|>Paris?<|end|><|assistant|>"
    assert asked + "Yes." + tokenizer.eos_token == whole[2]


def test_a_role_that_the_template_does_not_know_is_an_error(made):
    tokenizer = AutoTokenizer.from_pretrained(made)
    with pytest.raises(Exception, match="the role robot is none of system, user, assistant"):
        tokenizer.apply_chat_template([{"role": "robot", "content": "hi"}], tokenize=False)


def test_a_chat_template_of_one_s_own_is_kept(tmp_path):
    new_model(NewModelSettings(**SMALL), model_directories.TEXTS, tmp_path / "m", 0, chat_template="{{ messages[0] }}")
    assert AutoTokenizer.from_pretrained(tmp_path / "m").chat_template == "{{ messages[0] }}"


def test_a_vocabulary_that_cannot_hold_the_bytes_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="a vocabulary of 200 cannot hold 256 bytes and 5 special tokens") as caught:
        new_model(NewModelSettings(**{**SMALL, "vocab_size": 200}), model_directories.TEXTS, tmp_path / "m", 0)
    assert caught.value.do == "set it to 261 or more"


@pytest.mark.parametrize(("hidden", "heads"), [(32, 3), (12, 4)])
def test_heads_that_do_not_fit_are_an_error(tmp_path, hidden, heads):
    settings = NewModelSettings(**{**SMALL, "hidden_size": hidden, "num_heads": heads})
    with pytest.raises(ModelError, match=f"hidden size of {hidden} cannot be cut into {heads} heads") as caught:
        new_model(settings, model_directories.TEXTS, tmp_path / "m", 0)
    assert caught.value.do == f"set hidden_size to a multiple of {2 * heads}"

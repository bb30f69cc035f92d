import json
import shutil

import pytest

from alignlab.errors import ModelError
from alignlab.models import load_tokenizer
from alignlab.models.source import say_once


def edit_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_each_style_keeps_its_special_tokens(style, directory):
    tokenizer = load_tokenizer(directory)
    tokens = {
        "llama": ("<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
        "qwen3": (None, "<|im_end|>", "<|endoftext|>"),
        "gemma": ("<bos>", "<eos>", "<pad>"),
        "gpt2": ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
    }
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == tokens[style]
    text = "Hello, é 日 <unseen>"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_filling_with_eos_is_said_once(llama, caplog):
    say_once.cache_clear()
    for _ in range(2):
        assert load_tokenizer(str(llama)).pad_token_id == 4
    assert caplog.messages == [f"{llama}: the tokenizer has no pad token; EOS fills instead (masks come from lengths)"]


def test_a_directory_without_tokenizer_says_how_to_save_one(llama):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (llama / name).unlink()
    with pytest.raises(ModelError, match="the model directory has no tokenizer") as caught:
        load_tokenizer(str(llama))
    assert "save_pretrained" in caught.value.do
    assert caught.value.where == str(llama)


def test_a_tokenizer_without_eos_says_how_to_name_one(llama):
    edit_json(llama / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ModelError, match="has no EOS token") as caught:
        load_tokenizer(str(llama))
    assert "tokenizer_config.json" in caught.value.do


def test_a_damaged_tokenizer_is_an_error(llama):
    path = llama / "tokenizer.json"
    path.write_text(path.read_text()[:1000])
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        load_tokenizer(str(llama))


def test_a_tokenizer_with_more_tokens_than_the_model_is_an_error(llama):
    edit_json(llama / "config.json", vocab_size=300)
    with pytest.raises(ModelError, match="token ids up to 319, the model embeddings for 300"):
        load_tokenizer(str(llama))


def test_a_directory_with_a_tokenizer_alone_will_do(llama, tmp_path):
    (tmp_path / "alone").mkdir()
    for path in llama.glob("tokenizer*"):
        shutil.copy(path, tmp_path / "alone")
    assert len(load_tokenizer(str(tmp_path / "alone"))) == 320

"""What is saved is a plain Hugging Face directory, which transformers reads as alignlab does."""

import model_directories
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from alignlab.batch import Sample, collate
from alignlab.models import load_tokenizer, save_model, sequence_scores

ROWS = ["How do I boil an egg?", "Paris", "Could you help me, please? Of course."]


def scored(directory, load):
    model = load(directory, "scalar")
    torch.nn.init.normal_(model.score.weight, generator=torch.Generator().manual_seed(0))
    return model


def rows_ending_in_eos(tokenizer):
    return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in ROWS]


def ours(model, rows):
    return sequence_scores(
        model, collate([Sample(tuple(row), (True,) * len(row)) for row in rows], unit=range(len(rows)))
    )


@torch.no_grad()
def test_a_language_model_comes_back_as_it_was(directory, tmp_path, load):
    model, tokenizer = load(directory), load_tokenizer(directory)
    save_model(model, tokenizer, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.tensor([tokenizer(ROWS[0])["input_ids"]])
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert again.generation_config.eos_token_id == model.generation_config.eos_token_id
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == tokenizer.chat_template


@torch.no_grad()
def test_transformers_scores_a_single_row_as_we_do(directory, tmp_path, load):
    model, tokenizer = scored(directory, load), load_tokenizer(directory)
    save_model(model, tokenizer, tmp_path / "rm")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    assert theirs.config.num_labels == 1
    for row in rows_ending_in_eos(tokenizer):
        expected = ours(model, [row])
        torch.testing.assert_close(theirs(torch.tensor([row])).logits[0], expected, rtol=0, atol=1e-5)
        assert (ours(model, [row[:-1]]) - expected).abs() > 1e-3  # EOS does count


@torch.no_grad()
def test_transformers_scores_a_padded_batch_as_we_do_or_refuses_it(style, directory, tmp_path, load):
    model, tokenizer = scored(directory, load), load_tokenizer(directory)
    save_model(model, tokenizer, tmp_path / "rm")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    rows = rows_ending_in_eos(tokenizer)
    tokenizer.padding_side = "right"
    batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
    if style in ("llama", "gpt2"):  # EOS fills: transformers could not tell a row's own EOS from padding
        with pytest.raises(ValueError, match="no padding token"):
            theirs(**batch)
    else:
        torch.testing.assert_close(theirs(**batch).logits[:, 0], ours(model, rows), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("style", "pad"), [("llama", 4), ("gpt2", 0), ("qwen3", 2), ("qwen3", None)])
def test_the_pad_token_of_the_checkpoint_s_config_does_not_decide_where_scores_are(style, pad, tmp_path, load):
    directory = model_directories.STYLES[style](tmp_path / "base", pad_token_id=pad)  # EOS itself, or none
    model, tokenizer = scored(directory, load), load_tokenizer(directory)
    save_model(model, tokenizer, tmp_path / "rm")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    assert theirs.config.pad_token_id == (0 if style == "qwen3" else None)
    row = rows_ending_in_eos(tokenizer)[0]
    torch.testing.assert_close(theirs(torch.tensor([row])).logits[0], ours(model, [row]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_reward_model_loads_with_its_head(directory, tmp_path, load):
    model = scored(directory, load)
    save_model(model, load_tokenizer(directory), tmp_path / "rm")
    assert torch.equal(load(tmp_path / "rm", "scalar").score.weight, model.score.weight)


def test_saving_replaces_what_was_there_and_leaves_nothing_beside(directory, tmp_path, load):
    out = tmp_path / "out"
    out.mkdir()
    (out / "stale.txt").touch()
    save_model(load(directory), load_tokenizer(directory), out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (out / "stale.txt").exists()
    assert (out / "model.safetensors").is_file()


def test_a_save_that_fails_leaves_what_was_there(directory, tmp_path, load):
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept.txt").touch()
    tokenizer = load_tokenizer(directory)
    tokenizer.init_kwargs["broken"] = object()  # cannot be written as JSON
    with pytest.raises(TypeError):
        save_model(load(directory), tokenizer, out)
    assert [path.name for path in out.iterdir()] == ["kept.txt"]

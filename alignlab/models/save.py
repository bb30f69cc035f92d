"""Save models as plain Hugging Face directories."""

import os
import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab.models.source import quiet


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a model and its tokenizer beside `directory`, then rename: a reader never sees half of it."""
    if model.get_output_embeddings() is None:
        _set_pad_of_scores(model, tokenizer)
    beside, old = (directory.with_name(f".{directory.name}.{word}") for word in ("new", "old"))
    for path in (beside, old):
        shutil.rmtree(path, ignore_errors=True)
    with quiet():
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    if directory.exists():
        os.replace(directory, old)
    os.replace(beside, directory)
    shutil.rmtree(old, ignore_errors=True)


def _set_pad_of_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make transformers pool where alignlab does.

    It takes the score at the last token whose id is not `pad_token_id`. Where EOS fills, that would be the token before
    the row's own EOS; without a pad token it takes the last column, and refuses padded batches.
    """
    pad = tokenizer.pad_token_id
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = None if pad == tokenizer.eos_token_id else pad

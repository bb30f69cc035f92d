"""Save models as plain Hugging Face directories."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab.atomic import whole_directory
from alignlab.models.source import quiet


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a model and its tokenizer to `directory`, whole or not at all."""
    if model.get_output_embeddings() is None:
        _set_pad_of_scores(model, tokenizer)
    with whole_directory(directory) as beside, quiet():
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)


def _set_pad_of_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make transformers pool where alignlab does.

    It takes the score at the last token whose id is not `pad_token_id`. Where EOS fills, that would be the token before
    the row's own EOS; without a pad token it takes the last column, and refuses padded batches.
    """
    pad = tokenizer.pad_token_id
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = None if pad == tokenizer.eos_token_id else pad

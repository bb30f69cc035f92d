"""Load tokenizers, and say what is missing in them."""

import json
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from alignlab.errors import ModelError
from alignlab.models.source import find, first_line, say_once

VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "*.tiktoken",
    "tekken.json",
)


def load_tokenizer(path: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a directory or hub id.

    Without a pad token, EOS fills: masks come from lengths, so that costs nothing (PPO.md row 9); it is said once.
    Raises ModelError if there is none, if it has no EOS token, or more tokens than the model beside it.
    """
    path = find(path)
    directory = Path(path)
    # Without its files, some versions of transformers build an empty tokenizer from config.json.
    if directory.is_dir() and not trust_remote_code and not any(any(directory.glob(name)) for name in VOCABULARIES):
        raise ModelError(
            "the model directory has no tokenizer",
            where=path,
            do=f"save one there: AutoTokenizer.from_pretrained(...).save_pretrained({path!r})",
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # a broken tokenizer.json raises a bare Exception
        raise ModelError(
            f"the tokenizer cannot be loaded: {first_line(error)}", where=path, do="restore its files, or save it again"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no EOS token, so no answer could ever end",
            where=path,
            do='name one of its tokens in tokenizer_config.json: "eos_token": "..."',
        )
    _check_vocabulary(tokenizer, directory)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
        say_once(f"{path}: the tokenizer has no pad token; EOS fills instead (masks come from lengths)")
    return tokenizer


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Raise if a token has no row in the model's embeddings: training would end in an index error."""
    config = directory / "config.json"
    if not config.is_file():
        return
    try:
        size = json.loads(config.read_text()).get("vocab_size")
    except ValueError:
        return  # whoever loads the model says so
    largest = max(tokenizer.get_vocab().values())
    if size is not None and largest >= size:
        raise ModelError(
            f"the tokenizer has token ids up to {largest}, the model embeddings for {size}",
            where=str(directory),
            do="use the model's own tokenizer, or model.resize_token_embeddings(len(tokenizer)) and save again",
        )

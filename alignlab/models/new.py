"""Small new models: a byte-level BPE tokenizer trained on the run's text, and random weights from a config."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from alignlab.config.recipe import NewModelSettings
from alignlab.errors import ModelError
from alignlab.models.save import save_model

PAD, EOS = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
# Every turn ends with EOS, so a model that learns to end its turn learns to stop; a prefix of the messages renders as a
# prefix of the text.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('the role ' + message['role'] + ' is none of system, user, assistant') }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SLIDING_WINDOW = 512  # Gemma 3's small models


def new_model(
    settings: NewModelSettings, texts: Iterable[str], directory: Path, seed: int, chat_template: str | None = None
) -> None:
    """Write a Hugging Face directory: the same settings, texts and seed give the same bytes.

    Raises ModelError for sizes that do not fit together.
    """
    _check(settings)
    tokenizer = new_tokenizer(texts, settings.vocab_size, settings.context_length, chat_template or CHAT_TEMPLATE)
    config = AutoConfig.for_model(**_config(settings, tokenizer))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    save_model(model, tokenizer, directory)


def new_tokenizer(
    texts: Iterable[str], vocab_size: int, context_length: int, chat_template: str
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with tokens of its own for padding, the end, and the roles of a chat.

    It knows every byte, so any text is encoded; with little text it has fewer tokens than `vocab_size`.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    roles = [f"<|{role}|>" for role in ROLES]
    least = len(alphabet) + len([PAD, EOS, *roles])
    if vocab_size < least:
        raise ModelError(
            f"a vocabulary of {vocab_size} cannot hold 256 bytes and {least - 256} special tokens",
            where="model.new.vocab_size",
            do=f"set it to {least} or more",
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[PAD, EOS, *roles], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=roles,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def _check(settings: NewModelSettings) -> None:
    """Raise if the heads do not divide the hidden size into parts that rotary positions can be applied to."""
    size, rest = divmod(settings.hidden_size, settings.num_heads)
    if rest or (size % 2 and settings.architecture != "gpt2"):
        raise ModelError(
            f"a hidden size of {settings.hidden_size} cannot be cut into {settings.num_heads} heads of an even size",
            where="model.new",
            do=f"set hidden_size to a multiple of {2 * settings.num_heads}",
        )


def _config(settings: NewModelSettings, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return a config's values in the names of the architecture."""
    tokens = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "tie_word_embeddings": True,
        "initializer_range": settings.initializer_range,
    }
    if settings.architecture == "gpt2":
        return {
            "model_type": "gpt2",
            "n_embd": settings.hidden_size,
            "n_layer": settings.num_layers,
            "n_head": settings.num_heads,
            "n_positions": settings.context_length,
            **{name: 0.0 for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout")},
            **tokens,
        }
    head_dim = settings.hidden_size // settings.num_heads
    values = {
        "model_type": settings.architecture,
        "hidden_size": settings.hidden_size,
        "intermediate_size": 4 * settings.hidden_size,
        "num_hidden_layers": settings.num_layers,
        "num_attention_heads": settings.num_heads,
        "num_key_value_heads": settings.num_heads,
        "head_dim": head_dim,
        "max_position_embeddings": settings.context_length,
        **tokens,
    }
    if settings.architecture == "gemma":  # Gemma 3: five sliding layers to a full one, and the last one full
        full = [i % 6 == 5 or i == settings.num_layers - 1 for i in range(settings.num_layers)]
        values |= {
            "model_type": "gemma3_text",
            "query_pre_attn_scalar": head_dim,
            "sliding_window": min(SLIDING_WINDOW, settings.context_length),
            "layer_types": ["full_attention" if it else "sliding_attention" for it in full],
        }
    return values

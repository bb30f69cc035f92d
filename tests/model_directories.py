"""Hugging Face directories as other people publish them: tiny models, each with the tokenizer and template of its kind.

Each function writes config, random weights, tokenizer and generation config into a directory and returns it as a path
for `load_model`. The weights are drawn large, so that what a token says depends on every token before it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

TEXTS = [
    "How do I boil an egg? Put it in boiling water for eight minutes.",
    "What is the capital of France? The capital of France is Paris.",
    "Could you help me, please? Of course. What do you need?",
    "I am sorry, I do not know that.",
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2}
SIZES |= {"max_position_embeddings": 128}

LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def llama(directory: Path, **config: Any) -> str:
    """Llama 3: BOS added by the tokenizer and by the template, two EOS in the generation config, no pad token."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    bpe = _byte_level(special)
    bpe.post_processor = _begin_with("<|begin_of_text|>", 0, processors.ByteLevel(trim_offsets=False))
    tokenizer = _tokenizer(bpe, LLAMA_TEMPLATE, bos_token=special[0], eos_token=special[4])
    config = {"num_key_value_heads": 2, "intermediate_size": 64, "tie_word_embeddings": False, **config}
    return _write(directory, "llama", tokenizer, [1, 4], **config)


def qwen3(directory: Path, **config: Any) -> str:
    """Qwen 3: ChatML, EOS <|im_end|>, pad <|endoftext|>, no BOS."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _tokenizer(_byte_level(special), CHATML_TEMPLATE, eos_token=special[2], pad_token=special[0])
    config = {"num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 16, "tie_word_embeddings": True, **config}
    return _write(directory, "qwen3", tokenizer, [2, 0], **config)


def gemma(directory: Path, **config: Any) -> str:
    """Gemma 3: spaces as ▁ and byte fallback, <bos> first, a window of 8 tokens, two EOS tokens."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    bpe = _spaces_and_bytes(special)
    bpe.post_processor = _begin_with("<bos>", 2)
    tokenizer = _tokenizer(
        bpe, GEMMA_TEMPLATE, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    config = {
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        **config,
    }
    return _write(directory, "gemma3_text", tokenizer, [1, 5], **config)


def gpt2(directory: Path, **config: Any) -> str:
    """GPT-2: <|endoftext|> is BOS and EOS, there is no pad token, no template; dropout is on, positions are learned."""
    end = "<|endoftext|>"
    tokenizer = _tokenizer(_byte_level([end]), None, bos_token=end, eos_token=end, unk_token=end)
    return _write(directory, "gpt2", tokenizer, 0, **config)


STYLES: dict[str, Callable[..., str]] = {"llama": llama, "qwen3": qwen3, "gemma": gemma, "gpt2": gpt2}


def _byte_level(special: list[str], vocab_size: int = 320) -> Tokenizer:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return bpe


def _spaces_and_bytes(special: list[str]) -> Tokenizer:
    """A BPE over characters, as sentencepiece makes them: what it has not seen becomes <0x..> tokens."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=80, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    words = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(learned["vocab"], key=learned["vocab"].get)]
    merges = [tuple(pair) for pair in learned["merges"]]
    bpe = Tokenizer(
        models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges, unk_token="<unk>", byte_fallback=True)
    )
    bpe.add_special_tokens(special)
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return bpe


def _begin_with(token: str, number: int, *before: Any) -> Any:
    template = processors.TemplateProcessing(single=f"{token} $A", pair=None, special_tokens=[(token, number)])
    return processors.Sequence([*before, template])


def _tokenizer(bpe: Tokenizer, template: str | None, **tokens: str) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **tokens)
    tokenizer.chat_template = template
    return tokenizer


def _write(
    directory: Path, model_type: str, tokenizer: PreTrainedTokenizerFast, eos: int | list[int], **config: Any
) -> str:
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    values = {**SIZES, "vocab_size": len(tokenizer), **tokens, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **values))
    model.generation_config = GenerationConfig(**{**tokens, "eos_token_id": eos})
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    finally:
        if bars:
            logging.enable_progress_bar()
    return str(directory)

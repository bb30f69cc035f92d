"""The model that certification starts from: a small Llama whose vocabulary is the world's letters and EOS."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from alignlab.certify.world import World
from alignlab.models import save_model

EOS = "."


def new_base(world: World, hidden_size: int, directory: Path) -> None:
    """Write a model with random weights by the world's seed, and its tokenizer: a token a letter."""
    vocabulary = {letter: place for place, letter in enumerate((*world.letters, EOS))}
    letters = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    letters.decoder = decoders.Fuse()
    length = len(world.prompts[0]) + world.size.max_letters + 1  # prompt, answer, EOS
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=length,
        clean_up_tokenization_spaces=False,
    )
    config = AutoConfig.for_model(
        model_type="llama",
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=hidden_size // 4,
        max_position_embeddings=length,
        bos_token_id=None,
        eos_token_id=vocabulary[EOS],
        pad_token_id=vocabulary[EOS],
        tie_word_embeddings=False,
        initializer_range=0.05,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(world.size.seed)
        model = AutoModelForCausalLM.from_config(config)
    save_model(model, tokenizer, directory)

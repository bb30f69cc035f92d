"""Models and tokenizers: Hugging Face directories in, the engine's view of them, Hugging Face directories out."""

from alignlab.models.decode import EqualRows, decoder
from alignlab.models.forward import (
    head_is_separable,
    hidden_states,
    lm_logits,
    logits_at,
    scalar,
    sequence_scores,
)
from alignlab.models.load import is_checkpointing, load_model, resolve_device
from alignlab.models.lora import add_adapter, has_adapter, merge_adapter, require_peft, share
from alignlab.models.new import new_model
from alignlab.models.save import save_model
from alignlab.models.source import config_context, context_length, find, load_config
from alignlab.models.tokenizer import load_tokenizer

__all__ = [
    "EqualRows",
    "add_adapter",
    "config_context",
    "context_length",
    "decoder",
    "find",
    "has_adapter",
    "head_is_separable",
    "hidden_states",
    "is_checkpointing",
    "lm_logits",
    "load_config",
    "load_model",
    "load_tokenizer",
    "logits_at",
    "merge_adapter",
    "new_model",
    "require_peft",
    "resolve_device",
    "save_model",
    "scalar",
    "sequence_scores",
    "share",
]

"""An estimate of a phase's peak memory, before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM

from alignlab.config.recipe import ModelSettings
from alignlab.method import Role
from alignlab.models import load_config

GIB = 1 << 30


@dataclass(frozen=True)
class ModelSize:
    """The numbers of a model that its memory depends on."""

    num_parameters: int
    num_layers: int
    hidden_size: int
    vocab_size: int


def model_size(path: str, trust_remote_code: bool = False) -> ModelSize:
    """Count a model's parameters from its config, on the meta device: no weight is read."""
    config = load_config(path, trust_remote_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    text = config.get_text_config()
    num_parameters = sum(p.numel() for p in model.parameters())
    return ModelSize(num_parameters, text.num_hidden_layers, text.hidden_size, text.vocab_size)


def estimate(size: ModelSize, roles: Mapping[str, Role], settings: ModelSettings, microbatch_tokens: int) -> int:
    """Return bytes: weights of every role, gradients and Adam's two moments of the trained ones, one microbatch.

    With LoRA, all roles count as one base and an adapter for each that is trained, about 14 * rank numbers a layer and
    hidden unit (seven square matrices); a critic from a reward model is a second base, which is not counted.
    A microbatch keeps about 17 numbers a token, layer and hidden unit for the backward pass (Korthikanti et al., 2022,
    arXiv 2205.05198, without the attention matrix and dropout masks; 1 with checkpointing), and logits and their
    gradient at every position at most.
    """
    width = torch.finfo(getattr(torch, settings.dtype)).bits // 8
    own = [role for role in roles.values() if role.trunk is None]
    if settings.lora is None:
        weights = sum(width * (4 if role.train else 1) for role in own) * size.num_parameters
    else:
        adapter = 14 * settings.lora.rank * size.num_layers * size.hidden_size
        weights = width * size.num_parameters + sum(4 * 4 * adapter for role in own if role.train)
    kept = 1 if settings.gradient_checkpointing else 17
    activations = microbatch_tokens * size.num_layers * size.hidden_size * kept * width
    logits = 2 * 4 * microbatch_tokens * size.vocab_size if any(r.head == "lm" for r in roles.values()) else 0
    return weights + activations + logits

"""Load models: a Hugging Face directory or hub id under a language-model head or a scalar one."""

import re
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from alignlab.errors import ModelError
from alignlab.models.source import find, first_line, load_config, quiet, say_once

Head = Literal["lm", "scalar"]
RANDOM = re.compile("drop|jitter")
OTHER_KINDS = ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering", "ForSequenceClassification")


def resolve_device(name: str) -> torch.device:
    """Return a device by name; "auto" is cuda, else mps, else cpu. Raises ModelError if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    device = torch.device(name)
    if not there.get(device.type, True):
        raise ModelError(f"there is no {device.type} device on this machine", do="set model.device to auto or cpu")
    return device


def load_model(
    path: str,
    head: Head,
    *,
    dtype: torch.dtype,
    device: torch.device,
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a model, without dropout (PPO.md row 23), in eval mode.

    Head "scalar" wants a language model, and gives it a head that starts at zero, or a trained reward model
    (AutoModelForSequenceClassification with one label). Raises ModelError for what is missing, damaged or of another
    kind.
    """
    path = find(path)
    config = load_config(path, trust_remote_code)
    trained = _check_kind(path, config, head)
    _switch_off(config)
    if head == "scalar":
        config.num_labels = 1
    model, info = _read(path, head, config, dtype, trust_remote_code)
    new_head = {name for name in info["missing_keys"] if name.startswith("score.") and not trained and head == "scalar"}
    _check_weights(path, info, new_head, head)
    if head == "scalar":
        _check_score(path, model)
        for name in new_head:
            nn.init.zeros_(model.get_parameter(name))
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    # Otherwise the embedding of pad, which can be EOS, would get no gradient (PPO.md row 9).
    model.get_input_embeddings().padding_idx = None
    if gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise ModelError(
                f"{type(model).__name__} has no gradient checkpointing",
                where=path,
                do="set model.gradient_checkpointing to false",
            )
        # Transformers has renamed it within 5.x, and warns of the old name.
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)({"use_reentrant": False})
    loaded: PreTrainedModel = model.to(device).eval()
    return loaded


def is_checkpointing(model: PreTrainedModel) -> bool:
    """Return whether the model recomputes activations in train mode (transformers' own property warns of its name)."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _check_kind(path: str, config: PreTrainedConfig, head: Head) -> bool:
    """Return whether the checkpoint holds a scalar head; raise if it holds neither that nor a language model."""
    architectures = config.architectures or []
    trained = any("ForSequenceClassification" in name for name in architectures)
    other = next((name for name in architectures for kind in OTHER_KINDS if kind in name), None)
    if other and not (head == "scalar" and trained):
        raise ModelError(
            f"the checkpoint holds a {other}; a causal language model is wanted here",
            where=path,
            do="start from the model that it was made of" if trained else "name a causal language model",
        )
    if trained and config.num_labels != 1:
        raise ModelError(
            f"the classifier has {config.num_labels} labels; a reward model has one",
            where=path,
            do="name a reward model with num_labels = 1, or a language model to train one from",
        )
    return trained


def _switch_off(config: PreTrainedConfig) -> None:
    """Set every dropout and jitter of a config, and of the configs in it, to 0."""
    for name, value in list(vars(config).items()):
        if isinstance(value, PreTrainedConfig):
            _switch_off(value)
        elif RANDOM.search(name) and isinstance(value, (int, float)) and not isinstance(value, bool):
            setattr(config, name, 0.0)


def _read(path: str, head: Head, config: PreTrainedConfig, dtype: torch.dtype, trust: bool) -> tuple[Any, Any]:
    """Return the model, and what transformers found out while loading it."""
    auto: Any = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    try:
        with quiet(path):
            model, info = auto.from_pretrained(
                path,
                config=config,
                dtype=dtype,
                trust_remote_code=trust,
                ignore_mismatched_sizes=True,  # they are named in `info`, and an error below
                output_loading_info=True,
            )
    except Exception as error:  # OSError, SafetensorError, KeyError, ...: a file can be damaged in many ways
        raise ModelError(
            f"the model cannot be loaded: {first_line(error)}",
            where=path,
            do="if files are missing, truncated or damaged, copy or download them again; else name another model",
        ) from error
    return model, info


def _check_weights(path: str, info: dict[str, Any], new_head: set[str], head: Head) -> None:
    """Raise for weights that the checkpoint does not hold, or in another shape; say which are left over."""
    if missing := sorted(set(info["missing_keys"]) - new_head):
        raise ModelError(f"the checkpoint misses {_few(missing)}", where=path, do="copy or download it again")
    if wrong := sorted(info["mismatched_keys"]):
        name, found, wanted = wrong[0]
        raise ModelError(
            f"the checkpoint holds {_few([n for n, *_ in wrong])} in a shape that config.json does not fit:"
            f" {name} is {tuple(found)}, and {tuple(wanted)} by the config",
            where=path,
            do="restore the config.json that belongs to these weights",
        )
    unused = sorted(n for n in info["unexpected_keys"] if not (head == "scalar" and n.startswith("lm_head")))
    if unused:
        say_once(f"{path}: the checkpoint holds {_few(unused)}, which the model does not use")


def _few(names: list[str]) -> str:
    """Return how many weights, and the first three."""
    return f"{len(names)} weights ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _check_score(path: str, model: PreTrainedModel) -> None:
    """Raise if the scalar head is not the linear `score` on every position that decoder-only models have."""
    if not isinstance(getattr(model, "score", None), nn.Module):
        raise ModelError(
            f"{type(model).__name__} has no `score` head on its hidden states",
            where=path,
            do="name a decoder-only language model, or a reward model made from one",
        )

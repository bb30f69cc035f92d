"""LoRA: low-rank adapters on a frozen base, by the `peft` package (Hu et al., 2021, arXiv 2106.09685)."""

import copy
import importlib.util
import itertools

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from alignlab.config.recipe import LoRASettings
from alignlab.errors import ModelError
from alignlab.models.source import first_line


def require_peft() -> None:
    """Raise ModelError if the `peft` package is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            "LoRA wants the peft package, which is not installed", where="model.lora", do="pip install 'alignlab[lora]'"
        )


def share(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same model under modules of its own: every parameter and buffer is the same tensor, none is copied.

    An adapter that one of the two gets does not show in the other: that is how the reference is the policy's base.
    """
    return copy.deepcopy(model, {id(x): x for x in itertools.chain(model.parameters(), model.buffers())})


def add_adapter(model: PreTrainedModel, settings: LoRASettings, seed: int) -> None:
    """Freeze a model and give it an adapter, which starts as nothing; a scalar head is trained whole, in a copy.

    Raises ModelError for `target_modules` that the model does not have.
    """
    require_peft()
    from peft import LoraConfig

    scalar = model.get_output_embeddings() is None
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=settings.target_modules
        if isinstance(settings.target_modules, str)
        else [*settings.target_modules],
        modules_to_save=["score"] if scalar else None,
        task_type="SEQ_CLS" if scalar else "CAUSAL_LM",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's weights are [in, out]
    )
    model.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.add_adapter(config)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
        raise ModelError(
            f"the adapter cannot be made: {first_line(error)}",
            where="model.lora.target_modules",
            do=f"name some of {', '.join(sorted(linear))}, or all-linear",
        ) from error
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()  # bfloat16, which the base may be in, loses small updates


def has_adapter(model: PreTrainedModel) -> bool:
    """Return whether `add_adapter` gave the model an adapter."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def merge_adapter(model: PreTrainedModel) -> None:
    """Add the adapter to the base's weights, in place, and leave a plain model.

    What shares those weights changes too: it is for the end of a phase.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save["default"])
    model._hf_peft_config_loaded = False

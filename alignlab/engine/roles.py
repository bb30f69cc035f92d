"""Load the model of every role of a method, and let them share what they can."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from alignlab.config.recipe import ModelSettings
from alignlab.errors import ModelError
from alignlab.method import Method, Role
from alignlab.models import add_adapter, load_model, resolve_device, share


def exported_role(roles: Mapping[str, Role]) -> str:
    """Return the role whose model a phase exports: the first that is trained."""
    return next(name for name, role in roles.items() if role.train)


def following(roles: Mapping[str, Role]) -> list[str]:
    """Return the roles that are not trained and move all the same."""
    return [name for name, role in roles.items() if role.follow is not None]


@torch.no_grad()
def follow(models: Mapping[str, PreTrainedModel], roles: Mapping[str, Role], step: int) -> None:
    """Move the roles that follow, if `step` (steps done) is one after which they do.

    Source: Gorbatovski et al., 2024 (arXiv 2404.09656): soft updates, and with alpha 1 hard ones.
    """
    for name, role in roles.items():
        if role.follow is not None and step % role.follow.every == 0:
            leader = models[role.follow.role]
            for mine, theirs in zip(models[name].parameters(), leader.parameters(), strict=True):
                mine.lerp_(theirs, role.follow.alpha)


def load_roles(
    method: Method, base: str | Path, settings: ModelSettings, reward_model: str | None, *, seed: int = 0
) -> dict[str, PreTrainedModel]:
    """Load every role from `base`; a critic beside a policy from the phase's reward model, if it has one.

    A critic's head starts at zero whatever its trunk comes from (PPO.md row 14). With LoRA, all roles that start from
    `base` share its tensors, which are frozen, and each trained one has an adapter of its own (row 26).
    """
    device = resolve_device(settings.device)
    models: dict[str, PreTrainedModel] = {}
    on_base: dict[str, PreTrainedModel] = {}  # by head, where tensors can be shared
    for name, role in method.roles.items():
        if role.follow is not None and settings.lora is not None:
            raise ModelError(
                f"{name!r} follows {role.follow.role!r}, and with LoRA the two share their weights",
                where="model.lora",
                do="train without LoRA, or with a reference that stays as it is",
            )
        critic = role.head == "scalar" and name != exported_role(method.roles)
        path = reward_model if critic and role.trunk is None and reward_model is not None else base
        if path == base and role.head in on_base:
            model = share(on_base[role.head])
        else:
            model = load_model(
                str(path),
                role.head,
                dtype=getattr(torch, settings.dtype),
                device=device,
                gradient_checkpointing=settings.gradient_checkpointing and role.train,
                trust_remote_code=settings.trust_remote_code,
            )
            if path == base and on_base:
                _put_on(model, share(next(iter(on_base.values()))))
        if critic:
            for parameter in model.get_submodule("score").parameters():
                nn.init.zeros_(parameter)
        if path == base and settings.lora is not None:
            on_base.setdefault(role.head, model)
        models[name] = model
    _check_vocabularies(models, f"{base} and {reward_model}")
    for name, role in method.roles.items():
        if role.trunk is not None:
            _put_on(models[name], models[role.trunk])
            models[name].get_submodule("score").requires_grad_(role.train)
        elif role.train and settings.lora is not None:
            add_adapter(models[name], settings.lora, seed)
        else:
            models[name].requires_grad_(role.train)
    return models


def _put_on(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Put a model's head on the trunk of another: its own trunk goes."""
    trunk = other.base_model
    if not isinstance(getattr(model, model.base_model_prefix, None), type(trunk)):
        raise ModelError(
            f"{type(model).__name__} cannot stand on the trunk of a {type(other).__name__}",
            do="train a critic with a trunk of its own, and without LoRA",
        )
    setattr(model, model.base_model_prefix, trunk)


def _check_vocabularies(models: Mapping[str, PreTrainedModel], where: str) -> None:
    sizes = {model.config.get_text_config().vocab_size for model in models.values()}
    if len(sizes) > 1:
        raise ModelError(
            f"the reward model and the policy have vocabularies of different sizes: {sorted(sizes)}",
            where=where,
            do="start both from the same model",
        )

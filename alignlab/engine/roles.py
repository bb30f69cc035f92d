"""Load the model of every role of a method."""

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from alignlab.config.recipe import ModelSettings
from alignlab.errors import ModelError
from alignlab.method import Method, Role
from alignlab.models import load_model, resolve_device


def exported_role(roles: Mapping[str, Role]) -> str:
    """Return the role whose model a phase exports: the first that is trained."""
    return next(name for name, role in roles.items() if role.train)


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
    method: Method, base: str | Path, settings: ModelSettings, reward_model: str | None
) -> dict[str, PreTrainedModel]:
    """Load every role from `base`; a critic beside a policy from the phase's reward model, if it has one.

    A critic's head starts at zero whatever its trunk comes from (PPO.md row 14).
    """
    device = resolve_device(settings.device)
    models: dict[str, PreTrainedModel] = {}
    for name, role in method.roles.items():
        critic = role.head == "scalar" and name != exported_role(method.roles)
        path = reward_model if critic and reward_model is not None else base
        model = load_model(
            str(path),
            role.head,
            dtype=getattr(torch, settings.dtype),
            device=device,
            gradient_checkpointing=settings.gradient_checkpointing and role.train,
            trust_remote_code=settings.trust_remote_code,
        )
        if critic:
            for parameter in model.get_submodule("score").parameters():
                torch.nn.init.zeros_(parameter)
        models[name] = model.requires_grad_(role.train)
    sizes = {model.config.get_text_config().vocab_size for model in models.values()}
    if len(sizes) > 1:
        raise ModelError(
            f"the reward model and the policy have vocabularies of different sizes: {sorted(sizes)}",
            where=f"{base} and {reward_model}",
            do="start both from the same model",
        )
    return models

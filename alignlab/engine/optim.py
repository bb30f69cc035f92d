"""The optimizer and its schedule."""

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from alignlab.config.recipe import OptimizerSettings


class OptimizerFactory(Protocol):
    """What `register_optimizers` registers: an algorithm by name."""

    name: str

    def build(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """Return a torch optimizer over parameter groups, which hold their own `weight_decay`."""
        ...


class AdamW:
    """AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101), fused where torch has a fused one for the device."""

    name = "adamw"

    def build(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """Return torch's AdamW."""
        fused = all(p.device.type in ("cuda", "cpu", "mps") for group in groups for p in group["params"])
        return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused)


def trained_parameters(models: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Return every trained parameter once, whichever roles share it."""
    return list(dict.fromkeys(p for model in models for p in model.parameters() if p.requires_grad))


def parameter_groups(models: Iterable[nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters in two groups: matrices decay, vectors (norms, biases) do not."""
    trained = trained_parameters(models)
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def lr_at(settings: OptimizerSettings, step: int, num_steps: int) -> float:
    """Return the learning rate of a step, counted from 0: a linear warm-up, then the schedule down to 0."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / (settings.warmup_steps + 1)
    progress = (step - settings.warmup_steps) / max(num_steps - settings.warmup_steps, 1)
    factor = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return settings.lr * factor[settings.schedule]

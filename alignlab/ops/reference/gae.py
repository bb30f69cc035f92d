"""gae in plain torch: a loop over time, from the end."""

import torch
from torch import Tensor

from alignlab.ops.reference.wide import wide


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """See `alignlab.ops.gae`."""
    rewards, values = wide(rewards), torch.where(mask, wide(values), 0)
    advantages = torch.zeros_like(rewards + values)
    next_advantage = next_value = advantages.new_zeros(len(rewards))
    for t in range(rewards.shape[1] - 1, -1, -1):
        advantage = rewards[:, t] + gamma * next_value - values[:, t] + gamma * lam * next_advantage
        advantages[:, t] = torch.where(mask[:, t], advantage, 0)
        next_advantage = torch.where(mask[:, t], advantage, next_advantage)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
    return advantages, advantages + values

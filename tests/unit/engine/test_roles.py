"""Roles that follow, and which models a phase changes."""

import pytest
import torch
from torch import nn

from alignlab.engine.checkpoint import changed_weights
from alignlab.engine.roles import follow, following
from alignlab.method import Follow, Role


def two_models():
    torch.manual_seed(0)
    return {"policy": nn.Linear(3, 3), "ref": nn.Linear(3, 3).requires_grad_(False)}


def roles(**settings):
    return {"policy": Role(), "ref": Role(train=False, follow=Follow("policy", **settings) if settings else None)}


@pytest.mark.parametrize(("step", "moves"), [(1, False), (3, True), (4, False), (6, True)])
def test_a_follower_moves_after_every_so_many_steps(step, moves):
    models = two_models()
    before = models["ref"].weight.clone()
    expected = 0.6 * models["policy"].weight.detach() + 0.4 * before
    follow(models, roles(alpha=0.6, every=3), step)
    torch.testing.assert_close(models["ref"].weight, expected if moves else before)
    assert not models["ref"].weight.requires_grad


def test_a_hard_update_is_the_leader_to_the_bit():
    models = two_models()
    follow(models, roles(alpha=1.0, every=1), 5)
    assert torch.equal(models["ref"].weight, models["policy"].weight)
    assert torch.equal(models["ref"].bias, models["policy"].bias)


def test_a_frozen_role_stays():
    models = two_models()
    before = models["ref"].weight.clone()
    follow(models, roles(), 1)
    assert torch.equal(models["ref"].weight, before)


def test_a_checkpoint_holds_what_trains_or_follows_and_nothing_frozen():
    models = two_models()
    assert set(changed_weights(models, following(roles()))) == {"policy"}
    assert set(changed_weights(models, following(roles(alpha=0.6, every=3)))) == {"policy", "ref"}

"""Every method of alignlab holds what `alignlab.testing.check_method` asks of everybody's."""

import pytest
import toy

from alignlab.testing import METHOD_CHECKS, check_method

# What a loss by another name can break; the rest is the method's, whichever loss it takes.
OF_A_LOSS = ("settings", "stages", "sums", "microbatches", "padding", "order", "acted", "frozen")


@pytest.mark.parametrize("name", toy.registered())
@pytest.mark.parametrize("check", METHOD_CHECKS)
def test_every_method_keeps_its_promises(check, name):
    method, settings = toy.settings(name)
    check_method(method, settings, checks=[check])


@pytest.mark.parametrize("name", toy.VARIANTS)
@pytest.mark.parametrize("check", OF_A_LOSS)
def test_every_variant_keeps_the_promises_of_a_loss(check, name):
    method, settings = toy.settings(name)
    check_method(method, settings, checks=[check])


@pytest.mark.parametrize(
    "settings",
    [{"critic": "shared"}, {"per": "row"}, {"kl_in": "loss", "kl_estimator": "k2"}, {"num_samples": 2}],
    ids=str,
)
@pytest.mark.parametrize("check", OF_A_LOSS)
def test_every_form_of_ppo_keeps_the_promises_of_a_loss(check, settings):
    check_method("ppo", {**toy.METHODS["ppo"], **settings}, checks=[check])

"""Our DPO losses and gradients are those of TRL 1.16's own code (make_trl_dpo.py), type by type, to 1e-5."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from alignlab.engine.roles import follow
from alignlab.losses import DPOLoss, dpo
from alignlab.method import Follow, Role

TRL = json.loads((Path(__file__).parent / "trl_dpo.json").read_text())
# TRL's averages log-probs over an answer's tokens for these; for ipo ours does so only where it is given lengths.
BY_LENGTH = ("ipo", "sigmoid_norm", "simpo")


def ours(case):
    """The mean loss of a case, and its gradient for the answers' log-probs, chosen answers first."""
    logp, ref_logp, lengths = (torch.tensor(TRL["inputs"][n]).double() for n in ("logp", "ref_logp", "lengths"))
    logp.requires_grad_()
    halves = lengths.chunk(2)
    total = torch.zeros((), dtype=torch.float64)
    for name, weight in zip(case["loss_type"], case.get("loss_weights", [1.0] * 3), strict=False):
        if name == "sft":
            # TRL averages over the tokens of all chosen answers; the paper, and our `sft_coef`, over each answer first.
            total = total - weight * logp.chunk(2)[0].sum() / halves[0].sum()
            continue
        total = (
            total
            + weight
            * dpo(
                *logp.chunk(2),
                *ref_logp.chunk(2),
                beta=case["beta"],
                loss_type=name,
                label_smoothing=case.get("label_smoothing", 0.0),
                lengths=halves if name in BY_LENGTH else None,
                gamma=case.get("simpo_gamma", 0.5),
                shift=0.0,  # TRL 1.16's bco_pair has lost the shift of its paper
            ).mean()
        )
    (gradient,) = torch.autograd.grad(total, logp)
    return total.item(), gradient.tolist()


@pytest.mark.parametrize("case", TRL["cases"], ids=lambda case: "+".join(case["loss_type"]))
def test_loss_and_gradient_are_trl_s(case):
    loss, gradient = ours(case)
    assert loss == pytest.approx(case["loss"], rel=1e-5)
    assert gradient == pytest.approx(case["gradient"], rel=1e-5, abs=1e-9)


def test_every_type_stands_beside_trl_s():
    assert {name for case in TRL["cases"] for name in case["loss_type"]} == {*get_args(DPOLoss), "sft"}
    assert TRL["versions"]["trl"].startswith("1.16.")


def test_a_reference_that_follows_moves_as_trl_s_does():
    sync = TRL["sync"]
    models = {name: torch.nn.Linear(3, 2, bias=False) for name in ("policy", "ref")}
    models["policy"].weight.data = torch.tensor(sync["policy"])
    models["ref"].weight.data = torch.tensor(sync["before"])
    follow(models, {"policy": Role(), "ref": Role(train=False, follow=Follow("policy", sync["alpha"], 4))}, step=8)
    torch.testing.assert_close(models["ref"].weight.detach(), torch.tensor(sync["after"]))

"""Our pairwise loss and its gradients are those of TRL 1.16's RewardTrainer (make_trl_reward.py), from tokens on."""

import json
from pathlib import Path

import pytest
import torch
import toy
from transformers import LlamaConfig, LlamaForSequenceClassification

from alignlab.batch import Sample, collate
from alignlab.engine.run import EngineRun
from alignlab.engine.update import accumulate
from alignlab.models import load_model
from alignlab_rlhf.reward_model import Ranked

TRL = json.loads((Path(__file__).parent / "trl_reward.json").read_text())


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The model as TRL had it."""
    home = tmp_path_factory.mktemp("trl") / "model"
    model = LlamaForSequenceClassification(LlamaConfig(**TRL["config"]))
    for name, parameter in model.named_parameters():
        parameter.data = torch.tensor(TRL["weights"][name]).reshape(parameter.shape)
    model.save_pretrained(home)
    return str(home)


@pytest.mark.parametrize("max_tokens", [1, 1000])
@pytest.mark.parametrize(
    "case", TRL["cases"], ids=lambda c: f"margin={c['margin'] is not None},center={c['center_coef']}"
)
def test_loss_and_gradient_are_trl_s(directory, case, max_tokens):
    chosen = toy.method("reward_model", center_coef=case["center_coef"] or 0.0)
    model = load_model(directory, "scalar", dtype=torch.float32, device=torch.device("cpu"))
    run = EngineRun({"reward": model}, None, seed=0)
    samples = [Sample(tuple(row), (True,) * len(row)) for pair in TRL["tokens"] for row in pair]
    units = [i // 2 for i in range(len(samples))]
    margin = torch.tensor(case["margin"] or [0.0] * 4).repeat_interleave(2)
    batch = Ranked(
        **vars(collate(samples, units)), rank=torch.tensor([1.0, 2.0] * 4), margin=margin, probability=torch.ones(8)
    )
    sums = accumulate(chosen, lambda part: chosen.optimize(run, part), batch, max_tokens, backward=True)
    assert sums.means()["loss"] == pytest.approx(case["loss"], rel=1e-5)
    for name, parameter in model.named_parameters():
        if name in case["gradients"]:
            expected = torch.tensor(case["gradients"][name]).reshape(parameter.shape)
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_trl_is_the_version_that_is_named():
    assert TRL["versions"]["trl"].startswith("1.16.")

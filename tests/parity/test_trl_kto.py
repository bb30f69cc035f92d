"""alignlab-kto's loss, gradient and reference point are those of TRL 1.16's own code (make_trl_kto.py)."""

import json
from pathlib import Path

import pytest
import torch

from alignlab import Record, Sample, collate
from alignlab_kto import KTO

TRL = json.loads((Path(__file__).parent / "trl_kto.json").read_text())
INPUTS = {name: torch.tensor(value) for name, value in TRL["inputs"].items()}


class Recorded:
    """What a method asks a run for, of answers of one token: TRL's seeded log-probs."""

    def __init__(self, drift):
        inputs = {name: value.double() for name, value in INPUTS.items()}
        mismatched = inputs["ref_mismatched"] + inputs["noise"] + drift
        self.logp_of = {
            ("policy", "answers"): inputs["logp"].requires_grad_(),
            ("ref", "answers"): inputs["ref_logp"],
            ("policy", "mismatched"): mismatched,
            ("ref", "mismatched"): inputs["ref_mismatched"],
        }

    def logp(self, role, batch):
        which = "answers" if batch.records else "mismatched"
        return self.logp_of[role, which].unsqueeze(1) * batch.acted

    def log(self, **metrics):
        self.logged = metrics


@pytest.mark.parametrize("case", TRL["cases"], ids=lambda case: f"beta {case['beta']}, drift {case['drift']}")
def test_loss_gradient_and_reference_point_are_trl_s(case):
    method = KTO(**{name: case[name] for name in ("beta", "desirable_weight", "undesirable_weight")})
    labels = TRL["inputs"]["labels"]
    records = [Record({"label": label}, {}) for label in labels]
    samples = [Sample((0, 0), (False, True))] * len(labels)
    run = Recorded(case["drift"])
    batch = method.reward(run, collate(samples, unit=range(len(labels)), records=records))
    assert run.logged["z0"] == pytest.approx(case["z0"], rel=1e-5)
    loss = method.optimize(run, batch).total / len(labels)
    (gradient,) = torch.autograd.grad(loss, run.logp_of["policy", "answers"])
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    assert gradient.tolist() == pytest.approx(case["gradient"], rel=1e-5)


def test_the_cases_have_both_labels_and_a_reference_point_at_0():
    assert TRL["trl"].startswith("1.16.")
    assert set(TRL["inputs"]["labels"]) == {True, False}
    assert [case["z0"] > 0 for case in TRL["cases"]] == [True, True, False]

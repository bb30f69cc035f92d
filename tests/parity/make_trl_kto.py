"""Write trl_kto.json: what TRL's own code gives for KTO, on seeded log-probs.

Run in an environment of TRL's own, which alignlab does not need:

    python -m venv trl && trl/bin/pip install "trl==1.16.*" torch==2.13.0
    trl/bin/python tests/parity/make_trl_kto.py

`KTOTrainer._compute_loss` is called as it stands, on a model whose log-probs are the seeded ones: a trainer's settings
stand in for the trainer, so that no data or optimizer comes in between.
"""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl import KTOTrainer

FILE = Path(__file__).parent / "trl_kto.json"
CASES = [
    {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0, "drift": 2.0},
    {"beta": 0.5, "desirable_weight": 1.5, "undesirable_weight": 0.7, "drift": 2.0},
    {"beta": 0.5, "desirable_weight": 1.0, "undesirable_weight": 1.0, "drift": -2.0},  # a reference point below 0 is 0
]


class Accelerator:
    device = torch.device("cpu")

    def gather(self, x):
        return x

    gather_for_metrics = gather


def trl_loss(case, logp, ref_logp, mismatched, ref_mismatched, labels):
    """Return KTOTrainer's loss of a batch of answers of one token, whose log-probs are `logp` [N]."""
    num = len(labels)
    trainer = SimpleNamespace(
        accelerator=Accelerator(),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        calculate_KL=True,
        loss_type="kto",
        precompute_ref_logps=True,
        beta=case["beta"],
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
        _compute_kl_logps=lambda model, batch: mismatched,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.zeros(num, 2, dtype=torch.long),
        "attention_mask": torch.ones(num, 2, dtype=torch.long),
        "completion_mask": torch.tensor([[0, 1]]).expand(num, 2),
        "label": labels,
        "ref_logps": ref_logp,
        "ref_KL_logps": ref_mismatched,
    }
    blank = torch.zeros(num, 1)
    outputs = SimpleNamespace(log_probs=logp.unsqueeze(1), entropy=blank, mean_logits=blank)
    loss = KTOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)
    return loss, trainer._metrics["train"]["kl"][0]


def main():
    rng = torch.Generator().manual_seed(0)
    num = 9
    labels = torch.rand(num, generator=rng) < 0.6
    ref_logp, ref_mismatched = (-20 * torch.rand(num, generator=rng, dtype=torch.float64) for _ in range(2))
    logp = ref_logp + 3 * torch.randn(num, generator=rng, dtype=torch.float64)
    noise = torch.randn(num, generator=rng, dtype=torch.float64)
    cases = []
    for case in CASES:
        leaf = logp.clone().requires_grad_()
        mismatched = ref_mismatched + noise + case["drift"]
        loss, z0 = trl_loss(case, leaf, ref_logp, mismatched, ref_mismatched, labels)
        (gradient,) = torch.autograd.grad(loss, leaf)
        cases.append({**case, "z0": z0, "loss": loss.item(), "gradient": gradient.tolist()})
    inputs = {"logp": logp, "ref_logp": ref_logp, "ref_mismatched": ref_mismatched, "noise": noise, "labels": labels}
    about = {name: value.tolist() for name, value in inputs.items()}
    FILE.write_text(json.dumps({"trl": trl.__version__, "inputs": about, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()

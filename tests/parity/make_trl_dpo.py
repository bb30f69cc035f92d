"""Write trl_dpo.json: what TRL's own code gives for each of its DPO losses, on seeded log-probs.

Run in an environment of TRL's own, which alignlab does not need:

    python -m venv trl && trl/bin/pip install "trl==1.16.*" torch==2.13.0
    trl/bin/python tests/parity/make_trl_dpo.py

`DPOTrainer._compute_loss` and `CPOTrainer.cpo_loss` (for simpo) are called as they stand, on a model whose log-probs
are the seeded ones: a trainer's settings stand in for the trainer, so that no data or optimizer comes in between.
"""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers
import trl
from trl import DPOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.trainer.callbacks import SyncRefModelCallback

FILE = Path(__file__).parent / "trl_dpo.json"
CASES = [
    {"loss_type": ["sigmoid"], "beta": 0.1},
    {"loss_type": ["hinge"], "beta": 0.3},
    {"loss_type": ["ipo"], "beta": 0.5},
    {"loss_type": ["robust"], "beta": 0.1, "label_smoothing": 0.1},
    {"loss_type": ["exo_pair"], "beta": 0.1, "label_smoothing": 1e-3},
    {"loss_type": ["exo_pair"], "beta": 0.3, "label_smoothing": 0.1},
    {"loss_type": ["nca_pair"], "beta": 0.1},
    {"loss_type": ["bco_pair"], "beta": 0.1},
    {"loss_type": ["sppo_hard"], "beta": 0.1},
    {"loss_type": ["aot"], "beta": 0.1},
    {"loss_type": ["aot"], "beta": 0.3, "label_smoothing": 0.1},
    {"loss_type": ["aot_unpaired"], "beta": 0.1},
    {"loss_type": ["aot_unpaired"], "beta": 0.3, "label_smoothing": 0.1},
    {"loss_type": ["apo_zero"], "beta": 0.1},
    {"loss_type": ["apo_down"], "beta": 0.1},
    {"loss_type": ["discopop"], "beta": 0.1},
    {"loss_type": ["sigmoid_norm"], "beta": 2.0},
    {"loss_type": ["sft"], "beta": 0.1},
    {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0], "beta": 0.1},
]


class Accelerator:
    device = torch.device("cpu")

    def gather(self, x):
        return x

    gather_for_metrics = gather


def trl_loss(case, logp, ref_logp, lengths):
    """Return DPOTrainer's loss of a batch; logp [2N, T] is what the model says, chosen answers first."""
    num_rows, width = logp.shape
    trainer = SimpleNamespace(
        accelerator=Accelerator(),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        beta=case["beta"],
        loss_types=case["loss_type"],
        loss_weights=case.get("loss_weights", [1.0] * len(case["loss_type"])),
        label_smoothing=case.get("label_smoothing", 0.0),
        args=SimpleNamespace(discopop_tau=0.05),
        use_weighting=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        model=SimpleNamespace(training=True),
    )
    columns = torch.arange(width + 1)
    completion_mask = ((columns > 0) & (columns <= lengths.unsqueeze(1))).long()  # one token of prompt
    ref_chosen, ref_rejected = ref_logp.chunk(2)
    inputs = {
        "input_ids": torch.zeros(num_rows, width + 1, dtype=torch.long),
        "attention_mask": torch.ones(num_rows, width + 1, dtype=torch.long),
        "completion_mask": completion_mask,
        "ref_chosen_logps": ref_chosen,
        "ref_rejected_logps": ref_rejected,
    }
    blank = torch.zeros(num_rows, width)
    outputs = SimpleNamespace(log_probs=logp, entropy=blank, mean_logits=blank, is_top1=blank.bool())
    return DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, return_outputs=False)


def simpo_loss(logp, lengths):
    trainer = SimpleNamespace(
        accelerator=Accelerator(), alpha=0.0, beta=2.0, loss_type="simpo", simpo_gamma=0.5, label_smoothing=0.0
    )
    return CPOTrainer.cpo_loss(trainer, *(logp.sum(1) / lengths).chunk(2))[0].mean()


def main():
    rng = torch.Generator().manual_seed(0)
    num_pairs, width = 7, 12
    lengths = torch.randint(3, width + 1, (2 * num_pairs,), generator=rng)
    acted = torch.arange(width) < lengths.unsqueeze(1)
    tokens = (-3 * torch.rand(2 * num_pairs, width, generator=rng, dtype=torch.float64)).where(acted, 0.0)
    noise = (2 * torch.randn(2 * num_pairs, width, generator=rng, dtype=torch.float64)).where(acted, 0.0)
    logp, ref_logp = tokens.requires_grad_(), (tokens + noise).sum(1).detach()

    def result(settings, loss):
        (gradient,) = torch.autograd.grad(loss, logp)
        # Every token of an answer has the same gradient, so the first has that of the answer's log-prob.
        return {**settings, "loss": loss.item(), "gradient": gradient[:, 0].tolist()}

    cases = [result(case, trl_loss(case, logp, ref_logp, lengths)) for case in CASES]
    simpo = {"loss_type": ["simpo"], "beta": 2.0, "simpo_gamma": 0.5}
    cases.append(result(simpo, simpo_loss(logp, lengths)))

    policy, reference = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    sync = {"policy": policy.weight.tolist(), "before": reference.weight.tolist(), "alpha": 0.6}
    SyncRefModelCallback._sync_target_model(policy, reference, 0.6)
    sync["after"] = reference.weight.tolist()
    about = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    inputs = {"logp": logp.sum(1).tolist(), "ref_logp": ref_logp.tolist(), "lengths": lengths.tolist()}
    FILE.write_text(json.dumps({"versions": about, "inputs": inputs, "cases": cases, "sync": sync}, indent=1) + "\n")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

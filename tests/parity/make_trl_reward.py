"""Write trl_reward.json: the loss and gradient of TRL's RewardTrainer on a tiny Llama, with margins and centering.

Run in an environment of TRL's own, which alignlab does not need:

    python -m venv trl && trl/bin/pip install "trl==1.16.*" torch==2.13.0
    trl/bin/python tests/parity/make_trl_reward.py

The weights and the tokens go into the file, so that alignlab's whole road is compared: its batch, forward and loss.
"""

import json
import tempfile
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

FILE = Path(__file__).parent / "trl_reward.json"
CONFIG = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "num_labels": 1,
}
CASES = [
    {"margin": margin, "center_coef": center}
    for margin in (None, [0.5, -1.0, 0.0, 2.0])
    for center in (None, 0.01, 0.5)
]


def pairs(rng):
    """Four pairs of answers of 3 to 12 tokens, without the padding token."""
    lengths = torch.randint(3, 13, (4, 2), generator=rng).tolist()
    return [[torch.randint(1, 16, (num,), generator=rng).tolist() for num in pair] for pair in lengths]


def trainer_for(model, rows, case, directory):
    words = {"<pad>": 0, **{f"w{i}": i for i in range(1, 16)}}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words)), pad_token="<pad>", eos_token="w1"
    )
    args = RewardConfig(
        output_dir=directory,
        center_rewards_coefficient=case["center_coef"],
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
    )
    data = Dataset.from_list(rows)
    return RewardTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)


def main():
    rng = torch.Generator().manual_seed(0)
    model = LlamaForSequenceClassification(LlamaConfig(**CONFIG))
    for parameter in model.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=rng)
    tokens = pairs(rng)
    found = []
    for case in CASES:
        rows = [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in tokens]
        if case["margin"] is not None:
            rows = [{**row, "margin": margin} for row, margin in zip(rows, case["margin"], strict=True)]
        with tempfile.TemporaryDirectory() as scratch:
            trainer = trainer_for(model, rows, case, scratch)
            model.zero_grad()
            loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
        loss.backward()
        gradients = {name: p.grad.flatten().tolist() for name, p in model.named_parameters() if "proj" not in name}
        found.append({**case, "loss": loss.item(), "gradients": gradients})
    weights = {name: p.flatten().tolist() for name, p in model.named_parameters()}
    versions = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    FILE.write_text(
        json.dumps({"versions": versions, "config": CONFIG, "weights": weights, "tokens": tokens, "cases": found})
        + "\n"
    )


if __name__ == "__main__":
    main()

"""Record what TRL's GRPOTrainer and RLOOTrainer compute in one batch: trl_groups.json.

In an environment of its own, with trl==1.16.* and torch==2.13.0:
    python tests/parity/make_trl_groups.py

The trainers themselves run, on tiny random models; their log-probs are read where they compute them, and the loss and
its gradient where they return it.
"""

import json
import tempfile
from pathlib import Path

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

FILE = Path(__file__).parent / "trl_groups.json"
NUM_ROWS, GROUP, PROMPT, ANSWER, VOCAB = 8, 4, 3, 6, 12
PAD, EOS = 0, 1
KL = {"use_bias_correction_kl": False}  # the paper's k3; on by default, it weights k3 with the ratio
CASES = {
    "grpo, as in the paper": (
        GRPOTrainer,
        GRPOConfig,
        {"loss_type": "grpo", "beta": 0.2, "scale_rewards": "group", **KL},
    ),
    "grpo, clip-higher by token": (
        GRPOTrainer,
        GRPOConfig,
        {"loss_type": "bnpo", "beta": 0.0, "scale_rewards": "group", "epsilon_high": 0.28},
    ),
    "grpo, without std": (GRPOTrainer, GRPOConfig, {"loss_type": "bnpo", "beta": 0.1, "scale_rewards": "none", **KL}),
    "rloo": (RLOOTrainer, RLOOConfig, {"beta": 0.3}),
    "rloo, without a penalty": (RLOOTrainer, RLOOConfig, {"beta": 0.0}),
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<eos>": EOS, "<unk>": 2, **{f"w{i}": i for i in range(3, VOCAB)}}
    whole = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=whole, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=0.3,
            pad_token_id=PAD,
            eos_token_id=EOS,
        )
    )


def numbers(x: torch.Tensor) -> list:
    """As nested lists, each to the nine digits that tell fp32 numbers apart."""
    rounded = torch.tensor([float(f"{v:.9g}") for v in x.detach().double().flatten()], dtype=torch.float64)
    return rounded.view(x.shape).tolist()


def record(trainer_class: type, config: type, settings: dict) -> dict:
    rewards = torch.randn(NUM_ROWS, generator=torch.Generator().manual_seed(7)).tolist()
    logps: list[torch.Tensor] = []
    steps: list[dict] = []

    class Watched(trainer_class):
        def _generate_and_score_completions(self, inputs: list) -> dict:
            found = super()._generate_and_score_completions(inputs)
            return {**found, "row": torch.arange(NUM_ROWS)}  # the trainer shuffles the rows before the loss

        def _get_per_token_logps_and_entropies(self, *args: object, **kwargs: object) -> tuple:
            found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            logps.append(found[0])
            return found

        def _compute_loss(self, model: torch.nn.Module, inputs: dict) -> torch.Tensor:
            before, row = len(logps), inputs["row"]
            loss = super()._compute_loss(model, inputs)
            (logp,) = logps[before:]
            (gradient,) = torch.autograd.grad(loss, logp, retain_graph=True)
            names = ("advantages", "completion_mask", "old_per_token_logps", "ref_per_token_logps", "old_logps")
            found = {name: inputs[name] for name in names if inputs.get(name) is not None}
            if "old_logps" in found and settings["beta"]:  # RLOO keeps the reference's log-probs in the reward alone
                found["ref_per_token_logps"] = logps[1][row]
            found |= {"logp": logp, "gradient": gradient}
            in_order = {name: numbers(value[row.argsort()]) for name, value in found.items()}
            steps.append({**in_order, "loss": numbers(loss)})
            return loss

    with tempfile.TemporaryDirectory() as scratch:
        base, reference = Path(scratch) / "policy", Path(scratch) / "reference"
        for directory, seed in ((base, 0), (reference, 1)):
            model(seed).save_pretrained(directory)
            tokenizer().save_pretrained(directory)
        args = config(
            output_dir=scratch,
            per_device_train_batch_size=NUM_ROWS,
            gradient_accumulation_steps=1,
            num_generations=GROUP,
            num_iterations=3,
            max_steps=3,
            max_completion_length=ANSWER,
            learning_rate=2e-2,
            lr_scheduler_type="constant",
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            shuffle_dataset=False,
            seed=3,
            **settings,
        )
        words = [" ".join(f"w{3 + (3 * i + j) % (VOCAB - 3)}" for j in range(PROMPT)) for i in range(NUM_ROWS // GROUP)]
        trainer = Watched(
            str(base),
            reward_funcs=lambda completions, **_: rewards[: len(completions)],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": words}),
            processing_class=tokenizer(),
        )
        if settings["beta"]:  # one that differs from the policy, as it does after some steps
            trainer.ref_model.load_state_dict(LlamaForCausalLM.from_pretrained(reference).state_dict())
        trainer.train()
    kept = {"beta": args.beta, "epsilon": trainer.epsilon_low, "epsilon_high": trainer.epsilon_high}
    kept |= {name: settings[name] for name in ("loss_type", "scale_rewards") if name in settings}
    return {"settings": kept, "rewards": rewards, "steps": steps}


if __name__ == "__main__":
    cases = {name: record(*case) for name, case in CASES.items()}
    FILE.write_text(json.dumps({"trl": trl.__version__, "group": GROUP, "cases": cases}) + "\n")

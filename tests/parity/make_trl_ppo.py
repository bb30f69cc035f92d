"""Record what TRL's PPOTrainer (experimental, 1.12, the last there was) computes in one batch: trl_ppo.json.

In an environment of its own, with trl==1.12.* and torch==2.13.0:
    python tests/parity/make_trl_ppo.py

The trainer itself runs, on tiny random models; what it computed is read from its frame at every backward().
"""

import inspect
import json
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl.experimental.ppo import PPOConfig, PPOTrainer

FILE = Path(__file__).parent / "trl_ppo.json"
NUM_ROWS, PROMPT, ANSWER, VOCAB = 8, 4, 6, 40
PAD, EOS = 0, 1
CASES = {
    "k1": {"kl_estimator": "k1"},
    "k3, rewards whitened": {"kl_estimator": "k3", "whiten_rewards": True, "gamma": 0.9},
    "answers that end": {"kl_estimator": "k1", "stop_token": "eos", "missing_eos_penalty": 1.0},
}
BATCH = ("logprobs", "ref_logprobs", "values", "scores", "rewards", "advantages", "returns")
STEP = ("new_logprobs", "vpred", "pg_loss", "vf_loss", "loss")


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<pad>": PAD, "<eos>": EOS, "<unk>": 2, **{f"w{i}": i for i in range(3, VOCAB)}}
    whole = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=whole, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def model(cls: type, seed: int, ends: bool) -> torch.nn.Module:
    torch.manual_seed(seed)
    found = cls(
        LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=0.3,
            pad_token_id=PAD,
            eos_token_id=EOS,
            num_labels=1,
        )
    )
    if cls is LlamaForCausalLM:  # no pad; and EOS often or never
        bias = torch.zeros(VOCAB)
        bias[PAD], bias[EOS] = -100.0, 2.0 if ends else -100.0
        found.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    return found


def record(settings: dict) -> dict:
    ends = "stop_token" in settings
    steps: list[dict] = []
    with tempfile.TemporaryDirectory() as scratch:
        args = PPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=NUM_ROWS,
            gradient_accumulation_steps=1,
            num_ppo_epochs=2,
            total_episodes=NUM_ROWS,
            response_length=ANSWER,
            temperature=1.0,
            kl_coef=0.1,
            learning_rate=2e-2,
            num_sample_generations=0,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            seed=3,
            **settings,
        )
        prompts = torch.randint(3, VOCAB, (NUM_ROWS, PROMPT), generator=torch.Generator().manual_seed(0))
        trainer = PPOTrainer(
            args,
            tokenizer(),
            model(LlamaForCausalLM, 0, ends),
            model(LlamaForCausalLM, 1, ends),
            model(LlamaForSequenceClassification, 2, ends),
            Dataset.from_dict({"input_ids": prompts.tolist()}),
            model(LlamaForSequenceClassification, 3, ends),
        )
        backward = trainer.accelerator.backward

        def watched(loss: torch.Tensor) -> None:
            frame = inspect.currentframe().f_back.f_locals
            order = torch.tensor(frame["micro_batch_inds"])
            step = {name: numbers(frame[name]) for name in STEP}
            if not steps:
                names = {name: numbers(frame[name]) for name in BATCH}
                masks = {
                    name: frame[name].tolist() for name in ("padding_mask", "padding_mask_p1", "contain_eos_token")
                }
                steps.append({**names, **masks})
            steps.append({"order": order.tolist(), **step})
            backward(loss)

        trainer.accelerator.backward = watched
        trainer.train()
    names = ("kl_coef", "kl_estimator", "whiten_rewards", "gamma", "lam", "cliprange", "cliprange_value", "vf_coef")
    return {"settings": {name: getattr(args, name) for name in names}, "batch": steps[0], "steps": steps[1:]}


def numbers(x: torch.Tensor) -> list | float:
    """As nested lists, each to the nine digits that tell fp32 numbers apart."""
    rounded = torch.tensor([float(f"{v:.9g}") for v in x.detach().double().flatten()], dtype=torch.float64)
    return rounded.view(x.shape).tolist()


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: record(settings) for name, settings in CASES.items()}) + "\n")

"""TRL 1.16 and transformers' generate, at the settings that their documentation gives for speed on a CPU.

No gradient checkpointing, no log before the end, no saving, no workers, fused AdamW (the default); padding-free batches
want flash attention, and Liger's kernels want Triton, so neither runs here. Run in an environment of its own:

    python trl_116.py dpo|dpo_precomputed|sft|reward|generate... INPUTS
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import tasks
import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

FP32 = {"dtype": torch.float32}


class Timer(TrainerCallback):
    """Passes the end of every step to the clock."""

    def __init__(self, clock: tasks.Clock) -> None:
        self.clock = clock

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.clock.step()


def settings(task: str, batch_size: int, scratch: str) -> dict[str, Any]:
    return {
        "output_dir": scratch,
        "per_device_train_batch_size": batch_size,
        "max_steps": tasks.STEPS[task],
        "learning_rate": tasks.LR,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",  # the rows come in the order that the other side takes them in
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "logging_steps": 1000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "max_length": None,
    }


def losses_of(trainer: Any, clock: tasks.Clock) -> None:
    """Note every step's loss as the trainer computes it; a log each step would cost it time."""
    compute = trainer.compute_loss

    def noting(*args: Any, **kwargs: Any) -> Any:
        found = compute(*args, **kwargs)
        loss = found[0] if isinstance(found, tuple) else found
        clock.losses.append(float(loss.detach()))
        return found

    trainer.compute_loss = noting


def train(task: str, inputs: Path, *, precompute: bool = False) -> dict[str, Any]:
    """Train some steps; return seconds a step, losses and memory."""
    name, size = {
        "dpo": ("pairs.jsonl", tasks.DPO_PAIRS),
        "sft": ("answers.jsonl", tasks.SFT_ROWS),
        "reward": ("pairs.jsonl", tasks.REWARD_PAIRS),
    }[task]
    every = tasks.rows(inputs / name)
    data = Dataset.from_list([every[i] for i in json.loads((inputs / "order.json").read_text())])
    tokenizer = AutoTokenizer.from_pretrained(inputs / "model")
    clock = tasks.Clock()
    with tempfile.TemporaryDirectory() as scratch:
        common = settings(task, size, scratch)
        given: dict[str, Any] = {"train_dataset": data, "processing_class": tokenizer, "callbacks": [Timer(clock)]}
        if task == "reward":
            model = AutoModelForSequenceClassification.from_pretrained(inputs / "reward", num_labels=1, **FP32)
            trainer = RewardTrainer(model, args=RewardConfig(**common), **given)
        else:
            model = AutoModelForCausalLM.from_pretrained(inputs / "model", **FP32)
            if task == "sft":
                trainer = SFTTrainer(model, args=SFTConfig(**common), **given)
            else:
                ref = AutoModelForCausalLM.from_pretrained(inputs / "model", **FP32)
                more = {"beta": tasks.BETA, "precompute_ref_log_probs": precompute}
                seconds, trainer = tasks.timed(
                    lambda: DPOTrainer(model, ref_model=ref, args=DPOConfig(**common, **more), **given)
                )
        losses_of(trainer, clock)
        trainer.train()
    return clock.report(**({"start_seconds": seconds} if task == "dpo" else {}))


def generate(case: str, batch_size: int, inputs: Path) -> dict[str, Any]:
    """Answer the prompts, `batch_size` at a time; return seconds and the answers' lengths."""
    ends = case == "ends"
    directory = inputs / ("talker/sft/model" if ends else "model")
    model = AutoModelForCausalLM.from_pretrained(directory, **FP32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    if not ends:
        model.generation_config.eos_token_id = None
    prompts = [row["prompt"] for row in tasks.rows(inputs / "pairs.jsonl")][: tasks.NUM_PROMPTS]
    torch.manual_seed(0)
    lengths: list[int] = []

    def answer(texts: list[str]) -> None:
        batch = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        found = model.generate(
            **batch, do_sample=True, top_k=0, max_new_tokens=tasks.NEW_TOKENS, pad_token_id=tokenizer.pad_token_id
        )
        said = found[:, batch["input_ids"].shape[1] :]
        lengths.extend(int((row != tokenizer.pad_token_id).sum()) for row in said)

    answer(prompts[:batch_size])  # warm-up
    lengths.clear()
    # Prompts of about one length together: the best order for a batch that pads.
    order = sorted(prompts, key=lambda prompt: len(tokenizer(prompt)["input_ids"]))

    def every() -> None:
        for first in range(0, len(order), batch_size):
            answer(order[first : first + batch_size])

    seconds, _ = tasks.timed(every)
    return {"seconds": [seconds / sum(lengths)], "lengths": lengths, "peak_rss": tasks.peak_rss()}


def main() -> None:
    task, inputs = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(2)
    disable_progress_bars()
    if task.startswith("generate"):
        _, case, batch_size = task.split("_")
        found = generate(case, int(batch_size), inputs)
    else:
        found = train(task.removesuffix("_precomputed"), inputs, precompute=task.endswith("_precomputed"))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

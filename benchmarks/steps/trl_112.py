"""TRL 1.12's experimental PPOTrainer, the last there was, with all four models in fp32 on a CPU.

Run in an environment of its own: python trl_112.py ppo INPUTS
"""

import copy
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import tasks
import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Timer(TrainerCallback):
    """Passes the end of every step to the clock."""

    def __init__(self, clock: tasks.Clock) -> None:
        self.clock = clock

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.clock.step()


def main() -> None:
    inputs = Path(sys.argv[2])
    torch.set_num_threads(2)
    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(inputs / "model", padding_side="left")
    prompts = [{"input_ids": tokenizer(row["prompt"])["input_ids"]} for row in tasks.rows(inputs / "prompts.jsonl")]
    policy = AutoModelForCausalLM.from_pretrained(inputs / "model", dtype=torch.float32)
    reward = AutoModelForSequenceClassification.from_pretrained(inputs / "reward", num_labels=1, dtype=torch.float32)
    critic = copy.deepcopy(reward)
    torch.nn.init.zeros_(critic.score.weight)
    clock = tasks.Clock()
    with tempfile.TemporaryDirectory() as scratch:
        args = PPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=tasks.PPO_PROMPTS,
            local_rollout_forward_batch_size=tasks.PPO_PROMPTS,
            total_episodes=tasks.PPO_PROMPTS * tasks.STEPS["ppo"],
            num_mini_batches=1,
            num_ppo_epochs=tasks.PPO_PASSES,
            response_length=tasks.PPO_NEW_TOKENS,
            temperature=1.0,
            learning_rate=tasks.LR,
            lr_scheduler_type="constant",
            num_sample_generations=0,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            logging_steps=1000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = PPOTrainer(
            args,
            tokenizer,
            model=policy,
            ref_model=copy.deepcopy(policy),
            reward_model=reward,
            value_model=critic,
            train_dataset=Dataset.from_list(prompts),
            eval_dataset=Dataset.from_list(prompts[:16]),  # its constructor wants one; nothing is evaluated
            callbacks=[Timer(clock)],
        )
        trainer.log = lambda *args, **kwargs: None  # it prints every step
        trainer.train()
    print(json.dumps(clock.report()))


if __name__ == "__main__":
    main()

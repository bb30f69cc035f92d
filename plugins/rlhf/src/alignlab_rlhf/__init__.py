"""RLHF for alignlab: supervised fine-tuning, the reward model and PPO, a module each."""

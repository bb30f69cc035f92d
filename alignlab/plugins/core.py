"""What alignlab registers itself, by name. A test holds it to alignlab/builtin.py, which is not read without torch."""

NAMES: dict[str, frozenset[str]] = {
    "reward": frozenset({"reward_model", "reward_ensemble", "process_reward", "length", "regex", "format", "tabular"}),
    "judge": frozenset({"local", "openai", "reward_model", "tabular"}),
    "data": frozenset({"rows", "prompts", "hh", "alpaca", "sharegpt", "world", "tabular"}),
    "optimizer": frozenset({"adamw"}),
    "generator": frozenset({"torch"}),
    "kernel": frozenset({"auto", "reference", "native"}),
    "tracker": frozenset({"tensorboard", "wandb"}),
}


def is_core(kind: str, name: str) -> bool:
    """Return whether alignlab itself has something of that kind and name."""
    return name in NAMES.get(kind, ())

"""Rewards: what scores an answer, and how several of them become one number a row.

A reward is called as `reward(run, batch) -> float [B]`; NaN abstains. A plain function in the signature people have,
`f(prompts, completions, completion_ids, **columns) -> list[float | None]`, is one too.
"""

from alignlab.rewards.base import Reward, RewardContext, RewardRule
from alignlab.rewards.compose import Rewards, Weighted
from alignlab.rewards.ensemble import RewardEnsembleRule
from alignlab.rewards.function import FunctionReward, import_function
from alignlab.rewards.model import RewardModelRule, score_scale
from alignlab.rewards.process import ProcessRewardRule
from alignlab.rewards.reader import same_vocabulary
from alignlab.rewards.rules import FormatRule, LengthRule, RegexRule
from alignlab.rewards.text import answer_texts, texts

RULES: tuple[type[RewardRule], ...] = (
    RewardModelRule,
    RewardEnsembleRule,
    ProcessRewardRule,
    LengthRule,
    RegexRule,
    FormatRule,
)
"""What alignlab itself brings."""

__all__ = [
    "RULES",
    "FormatRule",
    "FunctionReward",
    "LengthRule",
    "ProcessRewardRule",
    "RegexRule",
    "Reward",
    "RewardContext",
    "RewardEnsembleRule",
    "RewardModelRule",
    "RewardRule",
    "Rewards",
    "Weighted",
    "answer_texts",
    "import_function",
    "same_vocabulary",
    "score_scale",
    "texts",
]

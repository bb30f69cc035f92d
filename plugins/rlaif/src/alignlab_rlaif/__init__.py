"""RLAIF for alignlab (Lee et al., 2023, arXiv 2309.00267): preferences from a judge, and a judge as the reward."""

from collections.abc import Iterable

from alignlab import MadeSource, RewardRule, hookimpl
from alignlab_rlaif.feedback import Feedback
from alignlab_rlaif.reward import JudgeReward


@hookimpl
def register_data() -> Iterable[MadeSource]:
    """Register `ai_feedback`."""
    return [Feedback()]


@hookimpl
def register_rewards() -> Iterable[type[RewardRule]]:
    """Register `judge`."""
    return [JudgeReward]

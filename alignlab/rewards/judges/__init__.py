"""Judges: which of two answers is better, or how good one is; asked in both orders, kept by content."""

from alignlab.rewards.judges.asking import Asked
from alignlab.rewards.judges.base import AsyncJudge, Judge, JudgeContext, JudgeRule, JudgeSettings, Question, Verdict
from alignlab.rewards.judges.client import ChatClient, ServerSettings
from alignlab.rewards.judges.constitution import Constitution, Principle, load_constitution
from alignlab.rewards.judges.local import LocalJudgeRule
from alignlab.rewards.judges.others import FunctionJudge, RewardModelJudgeRule, import_judge
from alignlab.rewards.judges.panel import Judgement, Pair, Panel, Tally
from alignlab.rewards.judges.server import ServerJudgeRule
from alignlab.rewards.judges.settings import ConstitutionSettings, PanelSettings
from alignlab.rewards.judges.store import Store
from alignlab.rewards.judges.writer import Writer, WriterSettings

JUDGES: tuple[type[JudgeRule], ...] = (LocalJudgeRule, ServerJudgeRule, RewardModelJudgeRule)
"""What alignlab itself brings."""

__all__ = [
    "JUDGES",
    "Asked",
    "AsyncJudge",
    "ChatClient",
    "Constitution",
    "ConstitutionSettings",
    "FunctionJudge",
    "Judge",
    "JudgeContext",
    "JudgeRule",
    "JudgeSettings",
    "Judgement",
    "LocalJudgeRule",
    "Pair",
    "Panel",
    "PanelSettings",
    "Principle",
    "Question",
    "RewardModelJudgeRule",
    "ServerJudgeRule",
    "ServerSettings",
    "Store",
    "Tally",
    "Verdict",
    "Writer",
    "WriterSettings",
    "import_judge",
    "load_constitution",
]

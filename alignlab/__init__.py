"""alignlab: alignment of language models as three stages, data, reward and optimizer.

The names below are what a plugin needs. They are looked up when they are first used, so that `import alignlab` (and
with it `alignlab --help` and `alignlab plugins`) imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignlab.batch import Batch as Batch
    from alignlab.batch import Record as Record
    from alignlab.batch import Sample as Sample
    from alignlab.batch import collate as collate
    from alignlab.batch import pad as pad
    from alignlab.config.recipe import DataSettings as DataSettings
    from alignlab.config.settings import Settings as Settings
    from alignlab.data import DataContext as DataContext
    from alignlab.data import DataSource as DataSource
    from alignlab.data import MadeSource as MadeSource
    from alignlab.engine.optim import OptimizerFactory as OptimizerFactory
    from alignlab.engine.trackers import Tracker as Tracker
    from alignlab.errors import AlignlabError as AlignlabError
    from alignlab.errors import CheckpointError as CheckpointError
    from alignlab.errors import DataError as DataError
    from alignlab.errors import ModelError as ModelError
    from alignlab.errors import PluginError as PluginError
    from alignlab.errors import RecipeError as RecipeError
    from alignlab.errors import RewardError as RewardError
    from alignlab.errors import TrainingError as TrainingError
    from alignlab.generate import Answer as Answer
    from alignlab.generate import Generator as Generator
    from alignlab.generate import Sampling as Sampling
    from alignlab.generate import TorchGenerator as TorchGenerator
    from alignlab.hooks import hookimpl as hookimpl
    from alignlab.hooks import hookspec as hookspec
    from alignlab.method import Follow as Follow
    from alignlab.method import Loss as Loss
    from alignlab.method import Method as Method
    from alignlab.method import MethodSettings as MethodSettings
    from alignlab.method import Optimum as Optimum
    from alignlab.method import Role as Role
    from alignlab.method import Rollout as Rollout
    from alignlab.method import Run as Run
    from alignlab.method import Tabular as Tabular
    from alignlab.rewards import Reward as Reward
    from alignlab.rewards import RewardContext as RewardContext
    from alignlab.rewards import RewardRule as RewardRule
    from alignlab.rewards import answer_texts as answer_texts
    from alignlab.rewards import texts as texts
    from alignlab.rewards.judges import AsyncJudge as AsyncJudge
    from alignlab.rewards.judges import Constitution as Constitution
    from alignlab.rewards.judges import ConstitutionSettings as ConstitutionSettings
    from alignlab.rewards.judges import Judge as Judge
    from alignlab.rewards.judges import JudgeContext as JudgeContext
    from alignlab.rewards.judges import Judgement as Judgement
    from alignlab.rewards.judges import JudgeRule as JudgeRule
    from alignlab.rewards.judges import Pair as Pair
    from alignlab.rewards.judges import Panel as Panel
    from alignlab.rewards.judges import PanelSettings as PanelSettings
    from alignlab.rewards.judges import Principle as Principle
    from alignlab.rewards.judges import Question as Question
    from alignlab.rewards.judges import Verdict as Verdict
    from alignlab.rewards.judges import Writer as Writer
    from alignlab.rewards.judges import WriterSettings as WriterSettings

__version__ = "0.1.0"

_MODULES = {
    "alignlab.batch": ["Batch", "Record", "Sample", "collate", "pad"],
    "alignlab.config.recipe": ["DataSettings"],
    "alignlab.config.settings": ["Settings"],
    "alignlab.data": ["DataContext", "DataSource", "MadeSource"],
    "alignlab.engine.optim": ["OptimizerFactory"],
    "alignlab.engine.trackers": ["Tracker"],
    "alignlab.errors": [
        "AlignlabError",
        "CheckpointError",
        "DataError",
        "ModelError",
        "PluginError",
        "RecipeError",
        "RewardError",
        "TrainingError",
    ],
    "alignlab.generate": ["Answer", "Generator", "Sampling", "TorchGenerator"],
    "alignlab.hooks": ["hookimpl", "hookspec"],
    "alignlab.method": ["Follow", "Loss", "Method", "MethodSettings", "Optimum", "Role", "Rollout", "Run", "Tabular"],
    "alignlab.rewards": ["Reward", "RewardContext", "RewardRule", "answer_texts", "texts"],
    "alignlab.rewards.judges": [
        "AsyncJudge",
        "Constitution",
        "ConstitutionSettings",
        "Judge",
        "JudgeContext",
        "JudgeRule",
        "Judgement",
        "Pair",
        "Panel",
        "PanelSettings",
        "Principle",
        "Question",
        "Verdict",
        "Writer",
        "WriterSettings",
    ],
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'alignlab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *_HOMES])

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
    from alignlab.config.settings import Settings as Settings
    from alignlab.data import DataSource as DataSource
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
    from alignlab.method import Role as Role
    from alignlab.method import Rollout as Rollout
    from alignlab.method import Run as Run
    from alignlab.rewards import Reward as Reward
    from alignlab.rewards import RewardContext as RewardContext
    from alignlab.rewards import RewardRule as RewardRule

__version__ = "0.1.0"

_MODULES = {
    "alignlab.batch": ["Batch", "Record", "Sample", "collate", "pad"],
    "alignlab.config.settings": ["Settings"],
    "alignlab.data": ["DataSource"],
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
    "alignlab.method": ["Follow", "Loss", "Method", "MethodSettings", "Role", "Rollout", "Run"],
    "alignlab.rewards": ["Reward", "RewardContext", "RewardRule"],
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

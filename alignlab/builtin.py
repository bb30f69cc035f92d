"""What the core itself registers: data sources, rewards, the optimizer, the sampler, trackers. Always on."""

from collections.abc import Iterable

from alignlab.certify.plugin import TabularJudge, TabularReward, TabularRows
from alignlab.data import SOURCES, DataSource
from alignlab.engine.optim import AdamW, OptimizerFactory
from alignlab.engine.trackers import TensorBoard, Tracker, WandB
from alignlab.generate import Generator, TorchGenerator
from alignlab.hooks import hookimpl
from alignlab.rewards import RULES, RewardRule
from alignlab.rewards.judges import JUDGES, JudgeRule


@hookimpl
def register_data() -> Iterable[DataSource]:
    """Register files and hub data in the known row formats, adapters, and the small world."""
    return [*SOURCES, TabularRows()]


@hookimpl
def register_rewards() -> Iterable[type[RewardRule]]:
    """Register trained reward models, alone and as ensembles, and rules of length, pattern and form."""
    return [*RULES, TabularReward]


@hookimpl
def register_judges() -> Iterable[type[JudgeRule]]:
    """Register language models, here and behind a server, and trained reward models."""
    return [*JUDGES, TabularJudge]


@hookimpl
def register_optimizers() -> Iterable[OptimizerFactory]:
    """Register AdamW."""
    return [AdamW()]


@hookimpl
def register_generators() -> Iterable[Generator]:
    """Register the KV-cache sampler."""
    return [TorchGenerator()]


@hookimpl
def register_trackers() -> Iterable[Tracker]:
    """Register TensorBoard, and wandb, which wants its package when it is used."""
    return [TensorBoard(), WandB()]

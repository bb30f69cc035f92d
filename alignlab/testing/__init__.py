"""Checks that a third party runs on what it adds to alignlab: `check_method`, `check_reward` and so on.

The names below are looked up when they are first used: the pytest plugin (alignlab.testing.pytest_plugin) is imported
whenever pytest starts, and must not bring torch along. May import all of alignlab, and is imported by none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignlab.testing.data import DATA_CHECKS as DATA_CHECKS
    from alignlab.testing.data import check_data as check_data
    from alignlab.testing.judges import JUDGE_CHECKS as JUDGE_CHECKS
    from alignlab.testing.judges import check_judge as check_judge
    from alignlab.testing.methods import METHOD_CHECKS as METHOD_CHECKS
    from alignlab.testing.methods import check_method as check_method
    from alignlab.testing.ops import check_op as check_op
    from alignlab.testing.ops import compare_op as compare_op
    from alignlab.testing.promise import BrokenPromise as BrokenPromise
    from alignlab.testing.rewards import REWARD_CHECKS as REWARD_CHECKS
    from alignlab.testing.rewards import check_reward as check_reward

_HOMES = {
    "BrokenPromise": "promise",
    "DATA_CHECKS": "data",
    "JUDGE_CHECKS": "judges",
    "METHOD_CHECKS": "methods",
    "REWARD_CHECKS": "rewards",
    "check_data": "data",
    "check_judge": "judges",
    "check_method": "methods",
    "check_op": "ops",
    "check_reward": "rewards",
    "compare_op": "ops",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a name from the module that it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'alignlab.testing' has no attribute {name!r}")
    return getattr(import_module(f"alignlab.testing.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *_HOMES])

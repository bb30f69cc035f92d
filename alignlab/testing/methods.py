"""check_method: what every method has to hold, alignlab's own and a third party's alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alignlab.method import MethodSettings
from alignlab.testing import gradients, runs, stages
from alignlab.testing.promise import run_checks
from alignlab.testing.subject import Subject, name_of

_CHECKS: dict[str, Callable[[Subject], None]] = {
    "settings": stages.check_settings,
    "stages": stages.check_stages,
    "sums": gradients.check_sums,
    "microbatches": gradients.check_microbatches,
    "padding": gradients.check_padding,
    "order": gradients.check_order,
    "acted": gradients.check_acted,
    "frozen": gradients.check_frozen,
    "determinism": stages.check_determinism,
    "bf16": runs.check_bf16,
    "learns": runs.check_learns,
    "resume": runs.check_resume,
    "ranks": runs.check_ranks,
}
METHOD_CHECKS = tuple(_CHECKS)
"""The checks of a method, in the order in which they run. The last four are whole runs of the engine."""


def check_method(
    method: str | type[MethodSettings], settings: Mapping[str, Any] = {}, *, checks: Sequence[str] | None = None
) -> None:
    """Check that a method holds what the engine builds on, on a tiny model and rows of the format that it wants.

    `method` is a name that an installed plugin registers, or a class. Where it samples, its `max_new_tokens` is 8
    unless `settings` say otherwise. `checks` chooses among METHOD_CHECKS: of a method that has another aim than what
    its rows show, leave out "learns". Raises BrokenPromise, which says which promise is broken, and the likely cause.
    """
    who = f"method {method!r}" if isinstance(method, str) else f"method {name_of(method)}"
    run_checks(_CHECKS, checks, who, lambda: Subject.find(method, settings))

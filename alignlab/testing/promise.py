"""Promises: what a plugin has to hold, and the error of one that does not."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from alignlab.config.settings import Settings
from alignlab.errors import AlignlabError, did_you_mean

S = TypeVar("S")


class BrokenPromise(AssertionError):  # noqa: N818 - it says what is broken
    """A plugin does not hold what all of its kind promise: which promise, what was `found`, and the likely `cause`."""

    def __init__(self, promise: str, found: str, cause: str) -> None:
        """Keep the parts; `run_checks` adds which plugin and which check it was."""
        self.promise, self.found, self.cause = promise, found, cause
        self.who, self.check = "", ""
        super().__init__(promise, found, cause)

    def __str__(self) -> str:
        """Return the parts, a line each."""
        return (
            f"{self.who} breaks a promise (check {self.check!r}): {self.promise}\n"
            f"  found: {self.found}\n"
            f"  likely cause: {self.cause}"
        )


class NotCheckable(ValueError):  # noqa: N818 - what cannot be checked is no promise that is broken
    """What was handed over cannot be checked in this way."""


def run_checks(
    checks: Mapping[str, Callable[[S], None]], chosen: Sequence[str] | None, who: str, subject: Callable[[], S]
) -> None:
    """Make the subject, and run the chosen checks on it, in order; all of them if none is chosen.

    Raises BrokenPromise, whatever a check raises, and ValueError for a check that there is not.
    """
    names = [*checks] if chosen is None else list(chosen)
    for name in names:
        if name not in checks:
            raise ValueError(f"there is no check {name!r}; {did_you_mean(name, checks)}")
    made: S | None = None
    for name in names:
        try:
            made = made or subject()
            checks[name](made)
        except BrokenPromise as error:
            error.who, error.check = error.who or who, error.check or name
            raise
        except NotCheckable:
            raise
        except Exception as error:
            found = str(error) if isinstance(error, AlignlabError) else f"it raised {type(error).__name__}: {error}"
            cause = "the error says it" if isinstance(error, AlignlabError) else "see the traceback above"
            broken = BrokenPromise("it works on a small, plain example", found.replace("\n", "\n  "), cause)
            broken.who, broken.check = who, name
            raise broken from error


def check_round_trip(settings: Settings) -> None:
    """Check that settings come back from JSON as they were: a run's recipe.yaml and fingerprint hang on it."""
    dumped = json.loads(settings.model_dump_json(by_alias=True))
    again = type(settings).model_validate(dumped)
    if again != settings:
        differ = [name for name in type(settings).model_fields if getattr(again, name) != getattr(settings, name)]
        raise BrokenPromise(
            "its settings survive a round trip through a recipe",
            ", ".join(f"`{n}` was {getattr(settings, n)!r:.80} and is {getattr(again, n)!r:.80}" for n in differ)
            or f"{dumped} makes other settings",
            "a validator that changes a value that it has changed before, or a type that JSON does not know",
        )


def same_values(found: Sequence[Any], wanted: Sequence[Any], tolerance: float = 1e-5) -> bool:
    """Return whether two lists of numbers are the same, to rounding; None and NaN equal themselves."""

    def same(a: Any, b: Any) -> bool:
        if a is None or b is None or a != a or b != b:
            return (a is None or a != a) and (b is None or b != b)
        return bool(abs(a - b) <= tolerance * max(1.0, abs(a), abs(b)))

    return len(found) == len(wanted) and all(map(same, found, wanted))


def called(kind: str, thing: Any) -> str:
    """Return what errors call a plugin that is given by its name, or as a class or a function."""
    name = thing if isinstance(thing, str) else getattr(thing, "name", getattr(thing, "__name__", repr(thing)))
    return f"{kind} {name!r}"

"""Find the plugin that an exception came from."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, TypeVar

Owner = TypeVar("Owner")


def culprit(error: BaseException, owners: Mapping[Callable[..., Any], Owner]) -> Owner | None:
    """Return who owns the innermost of the given functions that the exception came through, or None."""
    codes = {code: owner for function, owner in owners.items() if (code := _code(function)) is not None}
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    for code in reversed(frames):
        if code in codes:
            return codes[code]
    # A wrapper that yields twice, or not at all, has ended when pluggy notices: it is named in the message.
    for code, owner in codes.items():
        if f"{code.co_name!r} {code.co_filename}:{code.co_firstlineno}" in str(error):
            return owner
    return None


def _code(function: Callable[..., Any]) -> CodeType | None:
    return getattr(inspect.unwrap(function), "__code__", None)

"""Calls of rewards: in the caller, on a thread that may be left behind, or on one event loop for all async ones.

A coroutine that takes too long is cancelled. A thread cannot be stopped from outside: a plain function that hangs is
left on its daemon thread, which ends with the process, and the run stops with the reward's name all the same. Only
code that holds the interpreter's lock for good (a C extension, a regex that backtracks without end) keeps even that
from happening.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from alignlab.errors import RewardError


@dataclass(frozen=True)
class Call:
    """A call that has begun, and when."""

    future: "Future[Any]"
    began: float

    def result(self, timeout: float | None) -> Any:
        """Wait for what it returns. Raises RewardError `timeout` seconds after it began, or what it raises."""
        left = None if timeout is None else max(self.began + timeout - time.monotonic(), 0)
        if not wait([self.future], left).done:
            self.future.cancel()
            raise RewardError(
                f"it did not return within its timeout of {timeout:g} s", do="mend it, or raise its `timeout`"
            )
        return self.future.result()


def begin(function: Callable[[], Any], *, thread: bool) -> Call:
    """Call a function: on the event loop if it returns what is to be awaited, on a thread of its own if asked for.

    Otherwise it has returned when this does.
    """
    began = time.monotonic()
    future: Future[Any] = Future()

    @torch.no_grad()  # which is a thread's own
    def call() -> None:
        future.set_running_or_notify_cancel()  # from here on it cannot be cancelled, only left behind
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    if thread:
        threading.Thread(target=call, daemon=True).start()
        return Call(future, began)
    found = function()
    if inspect.isawaitable(found):
        return Call(asyncio.run_coroutine_threadsafe(_awaited(found), event_loop()), began)
    future.set_result(found)
    return Call(future, began)


async def _awaited(found: Any) -> Any:
    with torch.no_grad():
        return await found


@cache
def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of all async rewards: one for the process, so that clients and connections outlive a batch."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="async rewards").start()
    return loop

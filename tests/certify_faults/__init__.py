"""Faults that people have planted by mistake, each as a plugin that wraps a stage: certification has to find them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(run: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Put what `wrap` makes of one of the run's own functions into its place."""
    setattr(run, name, wrap(getattr(run, name)))
    try:
        yield
    finally:
        delattr(run, name)  # the class's own is there again

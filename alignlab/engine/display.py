"""What the terminal shows of a running phase: a bar with the numbers that matter; plain lines without a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SHOWN = ("loss", "accuracy", "score", "kl", "finished")


class Bar(Protocol):
    """A running phase."""

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show that `step` steps are done."""
        ...


class Display:
    """The console that the engine speaks to."""

    def __init__(self, console: Console | None = None) -> None:
        """Speak to a console: standard output if none is given."""
        self.console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    @contextmanager
    def bar(self, name: str, start: int, total: int) -> Iterator[Bar]:
        """Show a phase's progress from step `start` to `total`."""
        if not self.console.is_terminal:
            yield self._lines(name, start, total)
            return
        columns = (TextColumn("{task.description:14}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
        text = TextColumn("{task.fields[numbers]}")
        with Progress(*columns, TimeRemainingColumn(), text, console=self.console) as bar:
            task = bar.add_task(name, total=total, completed=start, numbers="")
            yield lambda step, metrics: bar.update(task, completed=step, numbers=numbers(metrics))

    def _lines(self, name: str, start: int, total: int) -> Bar:
        """Return a bar that prints a line for every quarter of the steps."""
        marks = {start + max((total - start) * quarter // 4, 1) for quarter in (1, 2, 3, 4)}

        def show(step: int, metrics: Mapping[str, float]) -> None:
            if step in marks:
                self.say(f"{name}: step {step} of {total}  {numbers(metrics)}")

        return show


def numbers(metrics: Mapping[str, float], names: Sequence[str] = SHOWN) -> str:
    """Return the named metrics that there are, as text."""
    return "  ".join(f"{name} {metrics[name]:.3g}" for name in names if name in metrics)

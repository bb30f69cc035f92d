"""What a data source is: rows, each with the place that it comes from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from alignlab.config.recipe import DataSettings
from alignlab.config.settings import Settings

ProblemKind = Literal["broken", "useless", "no_prompt", "overlong"]


class RowProblem(Exception):  # noqa: N818 - it is not always an error: the recipe may say that such rows are dropped
    """Why one row cannot be used.

    `broken` rows (a null, a wrong type) always stop the run; `useless` ones (nothing can be learned from them) may be
    dropped by `bad_rows`, `no_prompt` be allowed by `allow`, and `overlong` be cut or dropped by `overlong`.
    """

    prompt_key: str | None = None
    """The row's prompt, if it has one: a row that is dropped still counts when rows are held out by prompt."""

    def __init__(self, reason: str, kind: ProblemKind = "broken") -> None:
        """Keep the reason in words, and its kind."""
        self.reason, self.kind = reason, kind
        super().__init__(reason, kind)

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason


@dataclass(frozen=True)
class Changed:
    """A row in which the source changed more than names: `what` is counted and said."""

    row: Mapping[str, Any]
    what: str


SourceRow = Mapping[str, Any] | Changed | RowProblem


class DataSource(Protocol):
    """Gives rows in a row format of DESIGN.md 6, whatever it reads."""

    @property
    def name(self) -> str:
        """What recipes call it."""
        ...

    @property
    def settings(self) -> type[Any]:
        """A Settings class: the source's own recipe keys, checked strictly."""
        ...

    def load(self, settings: Any) -> Iterable[tuple[str, SourceRow]]:
        """Yield where each row stands ("data.jsonl, row 17"), and the row, or why it is none.

        Raises DataError if nothing can be read at all.
        """
        ...


class DataContext(Protocol):
    """What a source that makes its rows may ask of the engine: the models of finished phases, judges, prompts."""

    directory: Path  # of what the source makes, for whatever it keeps beside its rows
    seed: int

    def prompts(self, settings: DataSettings) -> Sequence[tuple[str, Any]]:
        """Return another source's prompts, each with the place that it comes from: those that are not held out."""
        ...

    def respond(self, phase: str | None, prompts: Sequence[Any], **sampling: Any) -> Sequence[Sequence[str]]:
        """Return a phase's answers to each prompt; without a phase, those of the model that this one starts from.

        `sampling` are the settings of `alignlab.Sampling`.
        """
        ...

    def panel(self, settings: Any) -> Any:
        """Return the judges of some `alignlab.PanelSettings`: an `alignlab.Panel`."""
        ...

    def writer(self, settings: Any) -> Any:
        """Return what continues conversations, by some `alignlab.WriterSettings`: an `alignlab.Writer`."""
        ...

    def say(self, text: str) -> None:
        """Print a line."""
        ...

    def log(self, **numbers: float) -> None:
        """Keep numbers beside the rows, for the report."""
        ...


class MadeSource(Protocol):
    """A source that makes its rows with the models of finished phases. They are made once, and kept in the run."""

    @property
    def name(self) -> str:
        """What recipes call it."""
        ...

    @property
    def settings(self) -> type[Any]:
        """A Settings class: the source's own recipe keys, checked strictly."""
        ...

    def make(self, settings: Any, context: DataContext) -> Iterable[Mapping[str, Any]]:
        """Yield rows in a row format of DESIGN.md 6."""
        ...


@dataclass(frozen=True)
class Mixed:
    """One source of a mixture: the source, its own settings, and those that every source has."""

    source: DataSource  # or a MadeSource, until its rows are made
    settings: Settings
    data: DataSettings
    nested: tuple["Mixed", ...] = ()
    """The sources that this one's settings name, of which it takes prompts."""
    made_of: Any = None
    """What the rows of a `MadeSource` depend on beside the settings: templates, principles, code."""

    @property
    def label(self) -> str:
        """What errors and the summary call it: its path, or its name if it reads none."""
        return str(getattr(self.settings, "path", self.source.name))

"""Errors: what was wrong, where, and what to do about it."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class AlignlabError(Exception):
    """An error that the user can mend: `what` was wrong, `where` (file, line, row, plugin), what to `do`."""

    def __init__(self, what: str, *, where: str | None = None, do: str | None = None) -> None:
        """Keep the three parts, and join those that are given on lines of their own."""
        self.what, self.where, self.do = what, where, do
        super().__init__(what, where, do)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the three parts: an error of rank 0 is raised on the other ranks too."""
        return _again, (type(self), self.what, self.where, self.do)

    def __str__(self) -> str:
        """Return the parts that are given, a line each."""
        where = f"\n  where: {self.where}" if self.where else ""
        do = f"\n  to do: {self.do}" if self.do else ""
        return f"{self.what}{where}{do}"


def _again(cls: type[AlignlabError], what: str, where: str | None, do: str | None) -> AlignlabError:
    return cls(what, where=where, do=do)


class RecipeError(AlignlabError):
    """A recipe, or a `--set`, says something that alignlab does not understand."""


class DataError(AlignlabError):
    """Rows that cannot be read, or that do not hold what the method needs."""


class ModelError(AlignlabError):
    """A model directory, hub id or tokenizer that cannot be used."""


class PluginError(AlignlabError):
    """A plugin that is missing, broken, doubled, or that raised in a hook."""


class RewardError(AlignlabError):
    """A reward that raised, or returned something that is not a list of finite numbers."""


class CheckpointError(AlignlabError):
    """A checkpoint or a run directory that is corrupt, in use, or of another run."""


class TrainingError(AlignlabError):
    """A step that cannot go on: a loss or a gradient that is not finite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest known name, else the list of the known ones."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is known"

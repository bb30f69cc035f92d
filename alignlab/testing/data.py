"""check_data: what every data source has to hold, one that reads rows and one that makes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from alignlab import builtin
from alignlab.config import load_recipe
from alignlab.config.recipe import DataSettings
from alignlab.data import Changed, Mixed, RowProblem, check_rows
from alignlab.data.columns import find_layout
from alignlab.engine.display import Display
from alignlab.engine.pipeline import Pipeline
from alignlab.errors import DataError
from alignlab.method import RowFormat
from alignlab.models import load_tokenizer
from alignlab.plugins import Plugins
from alignlab.testing.promise import BrokenPromise, called, check_round_trip, run_checks
from alignlab.testing.world import CONTEXT, LONG_CONTEXT, scratch, shared_model, shared_rows

FORMATS: tuple[RowFormat, ...] = (
    "preference",
    "ranked",
    "steps",
    "label",
    "completion",
    "prompt",
)  # what says most first


@dataclass(frozen=True)
class _Subject:
    """A data source under test."""

    source: Any  # a DataSource, or a MadeSource
    given: Mapping[str, Any]
    plugins: Plugins
    directory: Path

    @cached_property
    def settings(self) -> Any:
        """The source's own settings."""
        return self.source.settings.model_validate(dict(self.given))

    @cached_property
    def mixed(self) -> Mixed:
        """The source as a phase has it; rows that are made are made now."""
        if not hasattr(self.source, "make"):
            return Mixed(self.source, self.settings, DataSettings(source=self.source.name))
        return self.made("made")

    def made(self, name: str) -> Mixed:
        """Make the rows in a run of their own, as the engine does, for a phase on the tiny model."""
        data = {"source": self.source.name, **self.given}
        phase = {"name": "checked", "data": data, "optimizer": {"method": "sft", "steps": 1}}
        recipe = {
            "output": str(self.directory / name),
            "model": {"path": str(shared_model(LONG_CONTEXT)), "device": "cpu"},
        }
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**recipe, "phases": [phase]}))
        pipeline = Pipeline(load_recipe(path), Display(Console(quiet=True)), self.plugins)
        (planned,) = pipeline.phases
        base, base_print = pipeline._base(planned)
        return pipeline._made(planned, planned.sources[0], base, base_print)

    def rows(self, mixed: Mixed | None = None) -> list[tuple[str, Any]]:
        """Return what the source gives."""
        mixed = mixed or self.mixed
        return [*mixed.source.load(mixed.settings)]


def _check_settings(subject: _Subject) -> None:
    check_round_trip(subject.settings)


def _check_rows(subject: _Subject) -> None:
    """Check that every row is one, and says where it stands."""
    found = subject.rows()
    if not found:
        raise BrokenPromise("a source has rows", "there are none", "a filter that keeps nothing, or a wrong path")
    seen: dict[str, int] = {}
    for i, pair in enumerate(found):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            cause = 'load() yields pairs: yield "file.jsonl, row 17", row'
            raise BrokenPromise("every row says where it stands", f"{pair!r:.120}", cause)
        where, row = pair
        if where in seen:
            cause = "number the rows: errors, and the order of bad rows, go by where they stand"
            raise BrokenPromise(
                "no two rows stand in one place", f"rows {seen[where]} and {i} stand at {where!r}", cause
            )
        seen[where] = i
        if not isinstance(row, Mapping | Changed | RowProblem):
            raise BrokenPromise(
                "a row is a mapping of columns, a Changed, or a RowProblem",
                f"{where}: {row!r:.120}",
                "yield what cannot be used as RowProblem(reason): it is counted and said, not dropped in silence",
            )
        _check_columns(where, row.row if isinstance(row, Changed) else row)


def _check_columns(where: str, row: Any) -> None:
    """Check that a row can be kept as JSON: a run's digest, a cache and bad batches hang on it."""
    if isinstance(row, RowProblem):
        return
    try:
        json.dumps(row)
    except (TypeError, ValueError) as error:
        cause = "a column that is no text, number, list or mapping: turn arrays into lists, and dates into text"
        raise BrokenPromise("the columns of a row are JSON", f"{where}: {error}", cause) from error


def _check_determinism(subject: _Subject) -> None:
    one = [(where, str(row)) for where, row in subject.rows()]
    mixed = subject.made("made-again") if hasattr(subject.source, "make") else None
    two = [(where, str(row)) for where, row in subject.rows(mixed)]
    if mixed is not None:
        one, two = ([(str(i), row) for i, (_, row) in enumerate(rows)] for rows in (one, two))
    if one != two:
        place = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        raise BrokenPromise(
            "the same settings give the same rows in the same order",
            f"{len(one)} rows and then {len(two)}; they differ from row {place + 1} on",
            "random numbers without a seed, the order of a set or of a directory, or a file handle that is used up",
        )


def _check_formats(subject: _Subject) -> None:
    """Check that the rows are of a known format, and that every one of them can be tokenized for it."""
    columns = {column for _, row in subject.rows() if isinstance(row, Mapping) for column in row}
    columns |= {column for _, row in subject.rows() if isinstance(row, Changed) for column in row.row}
    said = ""
    for rows in FORMATS:
        try:
            find_layout(columns, rows, subject.source.name)
            break
        except DataError as error:
            said = said or str(error)
    else:
        raise BrokenPromise(
            f"the rows are of a row format: {', '.join(FORMATS)}",
            f"columns {sorted(columns)}",
            said.replace("\n", "\n  "),
        )
    data = subject.mixed.data.model_copy(update={"overlong": "truncate_left"})
    mixed = Mixed(subject.mixed.source, subject.mixed.settings, data)
    (checked,) = check_rows([mixed], rows, load_tokenizer(str(shared_model())), context_length=CONTEXT)
    if checked.error is not None:
        raise BrokenPromise(
            f"every row can be used as `{rows}`, but for those that the source itself says cannot",
            str(checked.error).replace("\n", "\n  "),
            "nulls, empty answers, or values of another type: check rows in load(), and yield RowProblem(reason, kind) "
            "for those that a recipe's `bad_rows` may drop",
        )


_CHECKS: dict[str, Callable[[_Subject], None]] = {
    "settings": _check_settings,
    "rows": _check_rows,
    "determinism": _check_determinism,
    "formats": _check_formats,
}
DATA_CHECKS = tuple(_CHECKS)
"""The checks of a data source, in the order in which they run."""


def check_data(
    source: str | type[Any],
    settings: Mapping[str, Any] = {},
    *,
    path: Path | None = None,
    checks: Sequence[str] | None = None,
) -> None:
    """Check that a data source holds what the engine builds on.

    `source` is a name that an installed plugin registers, or a class of sources. One that reads a `path` gets the given
    one, or else a file of preferences. One that makes its rows (`make`) makes them on a tiny model. `checks` chooses
    among DATA_CHECKS. Raises BrokenPromise.
    """

    def find(directory: Path) -> _Subject:
        plugins = Plugins(builtin)
        if isinstance(source, str):
            found = plugins.get("data", source)
        else:
            found = source()
            plugins.offer("data", found)
        given = dict(settings)
        if "path" in found.settings.model_fields and "path" not in given:
            given["path"] = str(path or shared_rows("preference"))
        return _Subject(found, given, plugins, directory)

    with scratch() as directory:
        run_checks(_CHECKS, checks, called("data source", source), lambda: find(directory))

"""The sources `rows` and `prompts`: files, saved datasets and hub ids in the row formats of DESIGN.md 6."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alignlab.config.settings import Settings
from alignlab.data.columns import ANSWER_COLUMNS, wrong_columns
from alignlab.data.files import read_file
from alignlab.data.saved import read_dataset
from alignlab.data.sources import RowProblem
from alignlab.errors import DataError


class FileSettings(Settings):
    """Where rows are."""

    path: str
    """A json, jsonl, csv or parquet file (also .gz), a directory that `datasets` saved, or a hub id."""
    split: str | None = None
    """Of a directory or hub id; "train" if it is not given."""
    name: str | None = None
    """The hub dataset's configuration."""


class RowsSettings(FileSettings):
    """Where rows are, and what their columns are called there."""

    columns: dict[str, str] = {}
    """Wanted name: the name that the column has."""


def read(settings: FileSettings) -> Iterator[tuple[str, dict[str, Any] | RowProblem]]:
    """Yield where each row stands, and the row. Raises DataError if nothing can be read."""
    path = Path(settings.path).expanduser()
    if not path.is_file():
        yield from read_dataset(settings.path, settings.split, settings.name)
        return
    for key in ("split", "name"):
        if getattr(settings, key) is not None:
            what = f"`{key}` is for a directory or hub id of `datasets`; this is a file"
            raise DataError(what, where=settings.path, do=f"take `{key}` out")
    yield from read_file(path)


class Rows:
    """The data source `rows`: rows as they are, with columns renamed."""

    name = "rows"
    settings = RowsSettings

    def load(self, settings: RowsSettings) -> Iterator[tuple[str, dict[str, Any] | RowProblem]]:
        """Yield where each row stands, and the row. Raises DataError if a column to rename is in no row."""
        if not settings.columns:
            yield from read(settings)
            return
        rows = list(read(settings))
        known = {column for _, row in rows if isinstance(row, dict) for column in row}
        if missing := [found for found in settings.columns.values() if found not in known]:
            raise wrong_columns(known, missing, settings.path, "`columns` names what is not there")
        for where, row in rows:
            yield where, row if isinstance(row, RowProblem) else _rename(row, settings.columns)


class Prompts:
    """The data source `prompts`: rows without their answers; columns that are of no row format stay."""

    name = "prompts"
    settings = RowsSettings

    def load(self, settings: RowsSettings) -> Iterator[tuple[str, dict[str, Any] | RowProblem]]:
        """Yield where each row stands, and the row; an implicit prompt stays in the answers that hold it."""
        for where, row in Rows().load(settings):
            if isinstance(row, dict) and "prompt" in row:
                row = {column: value for column, value in row.items() if column not in ANSWER_COLUMNS}
            yield where, row


def _rename(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    taken = set(columns.values()) | set(columns)
    kept = {column: value for column, value in row.items() if column not in taken}
    return kept | {wanted: row[found] for wanted, found in columns.items() if found in row}

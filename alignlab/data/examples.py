"""Read a source's rows, and check each: the part of the data stage that needs no tokenizer."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from alignlab.data.columns import COLUMNS, LAYOUTS, OPTIONAL, Layout, find_layout
from alignlab.data.example import Example, make_example
from alignlab.data.sources import Changed, Mixed, RowProblem
from alignlab.data.split import held_out_prompts
from alignlab.data.summary import Note
from alignlab.errors import DataError
from alignlab.method import RowFormat


@dataclass(frozen=True)
class SourceRows:
    """What a source gave: rows, bad rows, and what it said of them."""

    rows: list[tuple[str, Mapping[str, Any]]]
    problems: list[tuple[str, RowProblem]]
    notes: dict[str, list[str]]
    order: dict[str, int]  # of all of them, by where they stand

    @property
    def columns(self) -> list[str]:
        """The columns of all rows."""
        return list(dict.fromkeys(column for _, row in self.rows for column in row))


@dataclass(frozen=True)
class Examples:
    """Rows that were checked."""

    layout: Layout
    good: list[Example]
    bad: list[tuple[str, RowProblem]]
    notes: list[Note]


def read_rows(mixed: Mixed) -> SourceRows:
    """Read a source. Raises DataError if it cannot be read, or has no rows."""
    found = SourceRows([], [], {}, {})
    for where, row in islice(mixed.source.load(mixed.settings), mixed.data.limit):
        found.order[where] = len(found.order)
        if isinstance(row, RowProblem):
            found.problems.append((where, row))
            continue
        if isinstance(row, Changed):
            found.notes.setdefault(row.what, []).append(where)
            row = row.row
        found.rows.append((where, row))
    if not found.rows and not found.problems:
        raise DataError("there are no rows", where=mixed.label)
    return found


def make_examples(source: SourceRows, want: RowFormat, label: str, allow: Collection[str]) -> Examples:
    """Check every row. Raises DataError if the columns are not those that `want` needs."""
    if not source.rows:
        return Examples("prompt", [], source.problems, [])
    columns = source.columns
    layout = find_layout(columns, want, label, allow)
    needed = [column for column in ("prompt", *COLUMNS[layout], *OPTIONAL.get(want, ())) if column in columns]
    good: list[Example] = []
    bad = list(source.problems)
    notes = {what: list(where) for what, where in source.notes.items()}
    for where, row in source.rows:
        try:
            if missing := [column for column in needed if column not in row]:
                raise RowProblem(f"no field `{missing[0]}`")
            example = make_example(where, row, layout, want, allow)
        except RowProblem as problem:
            bad.append((where, problem))
            continue
        good.append(example)
        for note in example.notes:
            notes.setdefault(note, []).append(where)
    return Examples(layout, good, bad, [Note(what, tuple(where)) for what, where in notes.items()])


def held_out(mixed: Mixed, keys: Sequence[str], bad: Sequence[tuple[str, RowProblem]]) -> list[bool]:
    """Return which rows are held out, by their prompt keys. Bad rows count too: what is dropped moves no other row."""
    dropped = [problem.prompt_key for _, problem in bad if problem.prompt_key is not None]
    prompts = held_out_prompts([*keys, *dropped], mixed.data.eval, mixed.data.split_seed)
    return [key in prompts for key in keys]


def corpus(sources: Sequence[Mixed]) -> Iterator[str]:
    """Yield the text of the rows that are trained on: what a new tokenizer is trained from.

    Bad rows give none, and a source whose columns are of no row format neither: `load_split` says what is wrong there.
    Raises DataError if a source cannot be read.
    """
    for mixed in sources:
        source = read_rows(mixed)
        found = _as_any_format(source, mixed)
        if found is None:
            continue
        out = held_out(mixed, [example.prompt_key for example in found.good], found.bad)
        for example, is_out in zip(found.good, out, strict=True):
            if not is_out:
                yield from example.texts


def _as_any_format(source: SourceRows, mixed: Mixed) -> Examples | None:
    """Return the rows in the format that shows most of their text."""
    for want in sorted(LAYOUTS, key=["preference", "ranked", "steps", "label", "completion", "prompt"].index):
        try:
            return make_examples(source, want, mixed.label, mixed.data.allow)
        except DataError:
            continue
    return None

"""Read rows from json, jsonl, csv and parquet files, each also gzipped.

The standard library reads the text formats: it keeps every cell as it stands (`datasets` makes a null of "NA" in a
csv, and casts a column by its first rows) and knows the line of an error.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from alignlab.data.sources import RowProblem
from alignlab.data.turns import type_name
from alignlab.errors import DataError, did_you_mean

Located = Iterator[tuple[str, dict[str, Any] | RowProblem]]


def read_file(path: Path) -> Located:
    """Yield ("FILE, row N", row). N counts lines of a jsonl file, and rows of the others, from 1.

    Raises DataError if the file is missing, of an unknown kind, empty, cut off or not readable.
    """
    if not path.is_file():
        raise missing_file(path)
    kind = path.suffixes[-2:-1] if path.suffix == ".gz" else [path.suffix]
    reader = READERS.get(kind[0].lower() if kind else "")
    if reader is None:
        known = f"known: {', '.join(READERS)}, each also with .gz; or a directory that `datasets` saved"
        raise DataError("the file's name does not say how to read it", where=str(path), do=known)
    if path.stat().st_size == 0:
        raise DataError("the file is empty", where=str(path))
    with _explained(path), _open(path) as stream:
        yield from reader(path, stream)


def missing_file(path: Path) -> DataError:
    """Return the error for a file that is not there, with the nearest name beside it."""
    if not path.parent.is_dir():
        return DataError("there is no such directory", where=str(path.parent))
    return DataError(
        "there is no such file",
        where=str(path),
        do=did_you_mean(path.name, (p.name for p in path.parent.iterdir())),
    )


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say what a reader's low-level error means."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        again = "copy or download it again"
        raise DataError(f"the file is cut off or damaged: {error}", where=str(path), do=again) from error
    except UnicodeDecodeError as error:
        raise DataError(f"the file is not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from error
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror or error}", where=str(path)) from error


def _read_jsonl(path: Path, stream: IO[bytes]) -> Located:
    with TextIOWrapper(stream, "utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, row {number}"
            try:
                yield where, _row(json.loads(line.rstrip("\n")))
            except json.JSONDecodeError as error:
                yield where, RowProblem(f"not JSON: {error.msg} (line {number}, column {error.colno})")


def _read_json(path: Path, stream: IO[bytes]) -> Located:
    text = stream.read().decode("utf-8-sig")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):  # a row a line, whatever the name says
            yield from _read_jsonl(path, BytesIO(text.encode()))
            return
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise DataError(f"the file is not JSON: {error.msg}", where=where) from error
    if not isinstance(rows, list):
        kind, do = type_name(rows), "if every line is a row, name it .jsonl"
        raise DataError(f"a .json file wants a list of rows; this one holds {kind}", where=str(path), do=do)
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", _row(row)


def _row(value: Any) -> dict[str, Any] | RowProblem:
    return value if isinstance(value, dict) else RowProblem(f"the row is {type_name(value)}, wanted an object")


def _read_csv(path: Path, stream: IO[bytes]) -> Located:
    csv.field_size_limit(2**31 - 1)  # the default refuses long answers
    with TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            for number, row in enumerate(reader, 1):
                yield f"{path}, row {number}", _csv_row(row, reader)
        except csv.Error as error:
            raise DataError(f"the file is not CSV: {error}", where=f"{path}, line {reader.line_num}") from error


def _csv_row(row: dict[Any, Any], reader: "csv.DictReader[str]") -> dict[str, Any] | RowProblem:
    """Refuse a row of another width than the header; csv keeps what is over as a list under None."""
    num_cells = sum(cell is not None for name, cell in row.items() if name is not None) + len(row.get(None, ()))
    wanted = len(reader.fieldnames or ())
    if num_cells == wanted:
        return row
    return RowProblem(f"the row has {num_cells} cells, the header {wanted} (line {reader.line_num})")


def _read_parquet(path: Path, stream: IO[bytes]) -> Located:
    import pyarrow  # type: ignore[import-untyped]  # slow to import; `datasets` brings it
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(BytesIO(stream.read()) if path.suffix == ".gz" else stream)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:  # a cut-off column is an OSError of Arrow's
        raise DataError(f"the file is not readable as parquet: {error}", where=str(path)) from error


READERS: dict[str, Callable[[Path, IO[bytes]], Located]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}

"""Files of a run directory: read and written, appended line by line, locked against a second run."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alignlab.atomic import write_text, writing
from alignlab.errors import CheckpointError


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, or say that it is damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"a file of the run is damaged: {error}", where=str(path), do="restore it, or remove its directory"
        ) from error


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line."""
    with writing(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def keep_until(path: Path, step: int) -> None:
    """Cut a jsonl after the lines of `step`: a resumed run writes what follows again. Half a line goes too.

    The file is cut in place: that takes no room, and has been done or has not.
    """
    if not path.is_file():
        return
    end = 0
    with path.open("rb") as file:
        for line in file:  # as bytes: U+2028 may stand in an answer
            try:
                later = not line.endswith(b"\n") or json.loads(line)["step"] > step
            except (ValueError, KeyError, TypeError):
                later = True
            if later:
                break
            end += len(line)
    os.truncate(path, end)


def move_aside(directory: Path) -> Path:
    """Rename a directory to the first free `NAME.1`, `NAME.2` ...; return that."""
    number = 1
    while (aside := directory.with_name(f"{directory.name}.{number}")).exists():
        number += 1
    os.replace(directory, aside)
    return aside


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Hold a run directory for this process."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / ".lock").open("a+")
    except OSError as error:
        raise CheckpointError(
            f"the output directory cannot be written: {error.strerror}",
            where=str(output),
            do="set `output` to a directory that you may write to and that has room",
        ) from error
    with file:
        try:
            # Not flock: processes that a reward has forked would inherit it, and hold it when this one is killed.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise CheckpointError(
                f"the output directory is in use by process {file.read().strip() or '?'}",
                where=str(output),
                do="wait for that run, or set `output` to another directory",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def content(directory: Path) -> list[tuple[str, str]]:
    """Return name and hash of every file of a model directory; nothing for a hub id."""
    if not directory.is_dir():
        return []
    found = []
    for file in sorted(path for path in directory.iterdir() if path.is_file()):
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
        found.append((file.name, digest.hexdigest()))
    return found

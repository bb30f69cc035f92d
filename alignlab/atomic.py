"""Files and directories that are written whole or not at all, whatever stops it: a kill, a full disk, no power.

What is written stands beside its place first, as `.NAME.new`; it is flushed to the disk and then renamed, so a name
that is there holds all that belongs to it. What a killed process leaves beside is what `clean` removes.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEW, OLD = "new", "old"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let every error of the disk be an OSError that names the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:  # of a write, as opposed to an open
            error.filename = str(path)
        raise
    except Exception as error:
        # safetensors and tokenizers write in Rust, and raise types of their own with the number in the text.
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; when the block ends, the file takes the place of `path`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{NEW}")  # two processes may share a cache
    try:
        with writing(path):
            yield beside
            sync(beside)
            os.replace(beside, path)
            sync(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory to write to; when the block ends, it takes the place of `path`.

    Where the block raises, what was written is removed: on a full disk, half a checkpoint would keep what it has taken.
    """
    beside, old = (path.with_name(f".{path.name}.{word}") for word in (NEW, OLD))
    for left in (beside, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with writing(path):
            beside.mkdir(parents=True)
            yield beside
            for file in beside.rglob("*"):
                sync(file)
            sync(beside)
            if path.exists():
                os.replace(path, old)
            os.replace(beside, path)
            sync(path.parent)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def remove_directory(path: Path) -> None:
    """Remove a directory: a kill leaves no half of it under its name."""
    doomed = path.with_name(f".{path.name}.{OLD}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def clean(directory: Path) -> None:
    """Remove what killed processes have left in a directory that nobody else writes to now."""
    for left in [*directory.glob(f".*.{NEW}"), *directory.glob(f".*.{OLD}")]:
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a directory, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

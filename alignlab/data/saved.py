"""Read rows through the `datasets` library: a directory or a hub id."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alignlab.data.files import missing_file
from alignlab.errors import DataError, did_you_mean


def is_hub_id(path: str) -> bool:
    """Return whether a path that is not on this disk can be a hub id: `name` or `owner/name`."""
    known = (".json", ".jsonl", ".csv", ".parquet", ".gz")
    return path.count("/") <= 1 and not path.startswith((".", "/", "~")) and not path.endswith(known)


def read_dataset(path: str, split: str | None, name: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("PATH, row N", row) of a saved directory or a hub id; `split` is "train" if it is not given.

    Raises DataError if it cannot be loaded, or has no such split.
    """
    directory = Path(path).expanduser()
    if not directory.is_dir() and not is_hub_id(path):
        raise missing_file(directory)
    import datasets  # type: ignore[import-untyped]  # a slow import, for those who need it

    saved = any((directory / file).is_file() for file in ("dataset_dict.json", "state.json"))
    try:
        found = datasets.load_from_disk(str(directory)) if saved else datasets.load_dataset(path, name)
    except Exception as error:  # the library lets through whatever its file, network and builder layers raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        what = f"`datasets` cannot load this: {reason}"
        do = None
        if not directory.is_dir():
            do = f"there is no file or directory {path!r} here, so it was taken for a hub id"
        raise DataError(what, where=path, do=do) from error
    if isinstance(found, Mapping):
        wanted = split or "train"
        if wanted not in found:
            raise DataError(f"there is no split {wanted!r}", where=path, do=did_you_mean(wanted, found))
        found = found[wanted]
    elif split is not None and split != str(found.split):
        raise DataError(f"there is no split {split!r}: one dataset was saved, not several", where=path)
    for number, row in enumerate(found, 1):
        yield f"{path}, row {number}", row

"""What was paid for is kept: replies by content, in SQLite, each committed as it comes."""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from alignlab.errors import CheckpointError


class Store:
    """A table from a hash of what was asked to what came back (JSON).

    Several runs may share one file; without a file it lasts as long as the object.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the file, or make it."""
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()  # rewards may ask from their own threads
        try:
            self._db = sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False, isolation_level=None)
            if path is not None:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")  # a process may die at any time and nothing is lost
            self._db.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT) WITHOUT ROWID")
        except sqlite3.DatabaseError as error:
            raise CheckpointError(
                f"the cache of replies cannot be read: {error}",
                where=str(path),
                do="restore the file; or remove it, and everything is asked again",
            ) from error

    def get(self, key: str) -> Any:
        """Return what is kept under a key, or None."""
        with self._lock:
            row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, replies: Sequence[tuple[str, Any]]) -> None:
        """Keep replies, in one transaction."""
        rows = [(key, json.dumps(reply)) for key, reply in replies]
        with self._lock:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?)", rows)
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def content_key(*parts: Any) -> str:
    """Return a hash of JSON-like values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "backslashreplace")).hexdigest()

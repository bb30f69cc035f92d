"""A run's numbers in a SQLite file, OUTPUT/metrics.sqlite: `trackers: [sqlite]` in a recipe."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alignlab import Tracker, hookimpl

TABLES = """
CREATE TABLE IF NOT EXISTS starts (time TEXT DEFAULT CURRENT_TIMESTAMP, manifest TEXT);
CREATE TABLE IF NOT EXISTS metrics (phase TEXT, step INTEGER, name TEXT, value REAL, PRIMARY KEY (phase, step, name));
"""


class SQLite:
    """Two tables: `metrics` has a row for each number of each step, `starts` the manifest of each start of the run."""

    name = "sqlite"

    def start(self, output: Path, manifest: Mapping[str, Any]) -> None:
        """Open the file, which is there already when a run goes on."""
        self._connection = sqlite3.connect(output / "metrics.sqlite")
        self._connection.executescript(TABLES)
        with self._connection:
            self._connection.execute("INSERT INTO starts (manifest) VALUES (?)", [json.dumps(manifest)])
        self._phases: set[str] = set()

    def log(self, phase: str, step: int, metrics: Mapping[str, float]) -> None:
        """Write one step, in one transaction. The steps that a kill made the run do again are written again."""
        with self._connection:
            if phase not in self._phases:
                self._phases.add(phase)
                self._connection.execute("DELETE FROM metrics WHERE phase = ? AND step >= ?", [phase, step])
            rows = [(phase, step, name, value) for name, value in metrics.items()]
            self._connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", rows)

    def finish(self) -> None:
        """Close the file."""
        self._connection.close()


@hookimpl
def register_trackers() -> Iterable[Tracker]:
    """Register `sqlite`."""
    return [SQLite()]

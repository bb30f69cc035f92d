"""Log-probs of fixed rows under frozen models, computed once and kept by the rows' content."""

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from alignlab.batch import Batch
from alignlab.errors import CheckpointError


class ReferenceCache:
    """The log-probs of rows under `roles`, in a SQLite file: 4 bytes an acted token on disk, little in memory.

    A forward pass rounds by what is in its batch, so a row keeps the value that it got first, in this process and after
    a restart. The rows of one call are written in one transaction, which a killed process leaves whole or undone; if
    undone, the same rows meet in the same batch again. So a resumed run has the bits of an unbroken one. A file belongs
    to one phase and its inputs, and is made when the first row is asked for.
    """

    def __init__(self, path: Path, roles: Collection[str]) -> None:
        """Keep the rows of some frozen roles in `path`."""
        self.path, self.roles = path, frozenset(roles)
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def remove(self) -> None:
        """Delete the file: a finished phase asks for nothing more."""
        for ending in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    def logp(self, role: str, batch: Batch, compute: Callable[[Batch], Tensor]) -> Tensor:
        """Return float [B, T], what `compute` gives for the rows; it is called for those never seen before only."""
        keys = row_keys(role, batch)
        rows = {key: i for i, key in reversed([*enumerate(keys)])}  # a row that is there twice is computed once
        try:
            found = self._read(rows)
            missing = [key for key in sorted(rows, key=rows.__getitem__) if key not in found]
            if missing:
                part = batch.select(torch.tensor([rows[key] for key in missing], device=batch.tokens.device))
                values = compute(part)
                new = [values[i][part.acted[i]].float().cpu().numpy() for i in range(len(part))]
                self._write(missing, new)
                found |= zip(missing, new, strict=True)
        except sqlite3.DatabaseError as error:
            raise CheckpointError(
                f"the reference's log-probs cannot be kept: {error}",
                where=str(self.path),
                do="make room on the disk, then run again to go on from the last checkpoint",
            ) from error
        out = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
        out[batch.acted] = torch.from_numpy(np.concatenate([found[key] for key in keys])).to(out.device)
        return out

    def _read(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        select = "SELECT logp FROM rows WHERE key = ?"
        found = {key: self._open().execute(select, (key,)).fetchone() for key in keys}
        return {key: np.frombuffer(row[0], np.float32) for key, row in found.items() if row is not None}

    def _write(self, keys: Sequence[bytes], values: Sequence[Any]) -> None:
        with self._open() as transaction:
            transaction.executemany(
                "INSERT INTO rows VALUES (?, ?)", [(k, v.tobytes()) for k, v in zip(keys, values, strict=True)]
            )

    def _open(self) -> sqlite3.Connection:
        """Return the connection; a file that is no database any more is made again, and that is logged."""
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = _connect(self.path)
            except sqlite3.OperationalError:  # the disk, not the file
                raise
            except sqlite3.DatabaseError as error:
                what = "%s is damaged and is made again (log-probs of the reference may round otherwise now): %s"
                logging.getLogger("alignlab").warning(what, self.path, error)
                self.remove()
                self._connection = _connect(self.path)
        return self._connection


def row_keys(role: str, batch: Batch) -> list[bytes]:
    """Return a hash of each row's tokens and of which are acted; padding is no part of it."""
    tokens, valid, acted = (x.cpu().numpy() for x in (batch.tokens, batch.valid, batch.acted))
    return [
        hashlib.blake2b(
            role.encode() + b"\0" + tokens[i][valid[i]].tobytes() + acted[i][valid[i]].tobytes(), digest_size=16
        ).digest()
        for i in range(len(batch))
    ]


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    try:
        # The run directory is one process's. WAL: whole after a kill, without waiting for the disk at every step.
        for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, logp BLOB) WITHOUT ROWID")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection

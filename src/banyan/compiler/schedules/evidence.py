"""What tuning found, with its evidence, in one SQLite file.

A row says which block won for one shape on one device, how long each candidate took, and when.
Rows of another device, or of other micro-kernels than those installed, are never read.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from banyan.compiler.tiling.options import LinearBlock, LinearShape
from banyan.foundation.errors import StorageFull

FILE_NAME = "tuner.sqlite"
_TABLE = """
CREATE TABLE IF NOT EXISTS blocks (
  device TEXT NOT NULL, kernels TEXT NOT NULL,
  depth INTEGER NOT NULL, columns INTEGER NOT NULL, weight TEXT NOT NULL,
  rows INTEGER NOT NULL, panels INTEGER NOT NULL,
  measured_on TEXT NOT NULL, evidence TEXT NOT NULL,
  PRIMARY KEY (device, kernels, depth, columns, weight))
"""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one block took: `seconds` pairs rows of activations with seconds of a launch."""

    block: LinearBlock
    seconds: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """The winner for one shape, and every candidate that was timed."""

    shape: LinearShape
    block: LinearBlock
    timings: tuple[Timing, ...]
    measured_on: str


class Evidence:
    """The findings of one device with one set of micro-kernels."""

    def __init__(self, cache_directory: Path, *, device: str, kernels: str) -> None:
        """Name the file and the rows; `device` and `kernels` are fingerprints."""
        self.path = cache_directory / FILE_NAME
        self._key = (device, kernels)

    def blocks(self) -> tuple[tuple[LinearShape, LinearBlock], ...]:
        """The winners, by shape; none when nothing was tuned or the file cannot be read."""
        if not self.path.exists():
            return ()
        query = (
            "SELECT depth, columns, weight, rows, panels FROM blocks"
            " WHERE device = ? AND kernels = ? ORDER BY weight, depth, columns"
        )
        try:
            with self._open() as database:
                found = database.execute(query, self._key).fetchall()
        except sqlite3.Error:
            return ()
        return tuple((LinearShape(k, n, w), LinearBlock(r, p)) for k, n, w, r, p in found)

    def keep(self, findings: Sequence[Finding]) -> None:
        """Write findings over older ones of the same shapes.

        Raises:
            StorageFull: the file cannot be written.
        """
        rows = [
            (
                *self._key,
                finding.shape.depth,
                finding.shape.columns,
                finding.shape.weight,
                finding.block.rows,
                finding.block.panels,
                finding.measured_on,
                json.dumps([[t.block.rows, t.block.panels, t.seconds] for t in finding.timings]),
            )
            for finding in findings
        ]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as database:
                database.execute(_TABLE)
                database.executemany(f"REPLACE INTO blocks VALUES ({'?,' * 8}?)", rows)
                database.commit()
        except (OSError, sqlite3.Error) as error:
            raise StorageFull(
                f"cannot keep what tuning found in {self.path}: {error}; free some space, or delete"
                " the file if it is damaged"
            ) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=10)
        try:
            yield database
        finally:
            database.close()

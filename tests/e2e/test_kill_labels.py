"""kill -9 at each step of a label: no label comes twice by itself, and none that was never sent is forgotten."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import pytest

from station.adapters.records import Database
from tests.adapters.printer_rig import FakePrinter, printing
from tests.adapters.records.samples import PASSED, make_lot, record, url_of
from tests.e2e.killing import run_killable


def print_labels(file: Path, at: FakePrinter, moment: str) -> int:
    """Print what waits in a process of its own; return its exit code."""
    return run_killable("killed_labels", url_of(file), at.url, moment, timeout_s=120).returncode


def states(file: Path) -> list[str]:
    """The states of all labels, oldest first."""
    connection = sqlite3.connect(file)
    try:
        return [state for (state,) in connection.execute("SELECT state FROM label ORDER BY sequence")]
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("moment", "left", "printed", "after"),
    [
        ("asked", "queued", 1, "printed"),
        ("begun", "sending", 0, "failed"),
        ("sent", "sending", 1, "failed"),
        ("printed", "printed", 1, "printed"),
    ],
)
def test_killed_at_any_step_no_label_comes_twice(tmp_path: Path, moment, left, printed, after) -> None:
    """What certainly was not sent is printed after the restart; what may have been is left to a person."""
    file = tmp_path / "station.db"
    with Database.open(url_of(file)) as books:
        books.labels.wanted = True
        record(books, "job-1", make_lot(books), PASSED)
    with printing() as at:
        assert print_labels(file, at, moment) == -signal.SIGKILL, "the moment never came"
        assert states(file) == [left]
        for _ in range(2):
            assert print_labels(file, at, "never") == 0
        assert len(at.labels) == printed
    assert states(file) == [after]

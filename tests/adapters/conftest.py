"""A station's records and the second place beside them, as its journal and its backups find them; both begin empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.model import Lot
from tests.adapters.records.samples import make_lot, url_of


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty second place."""
    (tmp_path / "second").mkdir()
    return tmp_path / "second"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Where the records are."""
    return tmp_path / "station.db"


@pytest.fixture
def database(records: Path) -> Iterator[Database]:
    """The records, open."""
    with Database.open(url_of(records), station_id="bench-1") as opened:
        yield opened


@pytest.fixture
def lot(database: Database) -> Lot:
    """What is made."""
    return make_lot(database)

"""A database file for each test, copied from one that was made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.model import Lot
from tests.adapters.records.samples import T0, make_lot, url_of


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lot]:
    """A closed database file with one recipe and its lot."""
    file = tmp_path_factory.mktemp("records") / "template.db"
    with Database.open(url_of(file), now=lambda: T0) as database:
        return file, make_lot(database)


@pytest.fixture
def lot(template: tuple[Path, Lot]) -> Lot:
    """The lot in the template."""
    return template[1]


@pytest.fixture
def file(template: tuple[Path, Lot], tmp_path: Path) -> Path:
    """A fresh copy of the template."""
    return Path(shutil.copy(template[0], tmp_path / "station.db"))


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    """The records in that copy, open."""
    with Database.open(url_of(file), station_id="bench-1", now=lambda: T0) as opened:
        yield opened

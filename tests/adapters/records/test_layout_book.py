"""Where images keep their filesystem, in the records: learned once, per image and flash size."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.errors import ConfigurationError, RecordsUnwritable
from station.layouts import Layout
from tests.adapters.records.samples import Fault, database_with, url_of

FIRST, OTHER = Layout(first_sector=153, sectors=98), Layout(first_sector=160, sectors=91)
IMAGE, FLASH = "a" * 64, 1 << 20
WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_what_a_board_showed_is_there_after_a_restart(file: Path) -> None:
    """Per image and flash size; nobody else's is taken for it."""
    with Database.open(url_of(file)) as database:
        assert database.known_layout(IMAGE, FLASH) is None
        database.learn_layout(IMAGE, FLASH, FIRST)
        database.learn_layout(IMAGE, 4 * FLASH, OTHER)
    with Database.open(url_of(file)) as database:
        assert database.known_layout(IMAGE, FLASH) == FIRST
        assert database.known_layout(IMAGE, 4 * FLASH) == OTHER
        assert database.known_layout("b" * 64, FLASH) is None
        assert database.known_layout(IMAGE, 2 * FLASH) is None


def test_the_first_one_stays(database: Database) -> None:
    """A later board changes nothing: two boards that pass at once, or one that says something else."""
    database.learn_layout(IMAGE, FLASH, FIRST)
    database.learn_layout(IMAGE, FLASH, OTHER)
    assert database.known_layout(IMAGE, FLASH) == FIRST


def test_a_layout_that_cannot_be_written_is_said_to_be_so(file: Path) -> None:
    """A full disk is the records' usual complaint, and nothing was learned."""
    fault = Fault()
    with database_with(fault, file) as database:
        for operation in (1, 2, 3):
            fault.arm(operation)
            with pytest.raises(RecordsUnwritable):
                database.learn_layout(IMAGE, FLASH, FIRST)
            fault.arm(None)
        assert database.known_layout(IMAGE, FLASH) is None


def test_a_forgotten_layout_is_not_believed_and_stays_on_record(file: Path) -> None:
    """Who, why and what it was; all sizes of that one image, nothing else; and it can be learned anew."""
    with Database.open(url_of(file), now=lambda: WHEN) as database:
        database.learn_layout(IMAGE, FLASH, FIRST)
        database.learn_layout(IMAGE, 4 * FLASH, OTHER)
        database.learn_layout("ab" * 32, FLASH, OTHER)
        assert database.forget_layouts("a" * 8, person="Grace", reason="another build") == 2
        assert database.known_layout(IMAGE, FLASH) is None
        assert database.known_layout("ab" * 32, FLASH) == OTHER
        database.learn_layout(IMAGE, FLASH, OTHER)
    with Database.open(url_of(file)) as database:
        assert database.known_layout(IMAGE, FLASH) == OTHER
        said = [(one.firmware_sha256[:2], one.layout, one.person, one.reason) for one in database.layouts()]
        gone = [("aa", OTHER, "Grace", "another build"), ("aa", FIRST, "Grace", "another build")]
        assert sorted(said[:2]) == [("aa", OTHER, "", ""), ("ab", OTHER, "", "")]
        assert said[2:] == gone
        assert {one.forgotten_at for one in database.layouts()} == {None, WHEN}


@pytest.mark.parametrize("key", ["", "a" * 7, "%" * 8, "c" * 8, "a" * 8, "A" * 64, "a" * 65])
def test_only_one_image_is_forgotten_at_a_time(database: Database, key: str) -> None:
    """Too short, no sha256, unknown, or the beginning of two images: nothing is forgotten."""
    for image in (IMAGE, "a" * 32 + "b" * 32):
        database.learn_layout(image, FLASH, FIRST)
    with pytest.raises(ConfigurationError, match="station recipe layouts"):
        database.forget_layouts(key, person="Grace", reason="why not")
    assert [one.forgotten_at for one in database.layouts()] == [None, None]

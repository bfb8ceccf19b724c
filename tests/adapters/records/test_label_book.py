"""The labels in the records: asked for by the very commit of a PASS, sent at most once, asked for again by a person."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from station.adapters.records import Database, LabelState, give_up_labels, labels_report
from station.adapters.records import labels as labels_module
from station.adapters.records.board_life import board_lives
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import Lot
from tests.adapters.records.samples import (
    BOARD,
    FAILED,
    PASSED,
    PENDING,
    Fault,
    board,
    database_with,
    record,
    start_of,
    url_of,
)

STATES = "SELECT state, attempt, detail FROM label ORDER BY sequence"


def rows(file: Path, query: str = STATES) -> list[tuple[object, ...]]:
    """What the plain driver reads."""
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.fixture
def wanting(database: Database) -> Database:
    """Records of a station where every PASS asks for a label."""
    database.labels.wanted = True
    return database


def test_a_pass_asks_for_its_label_in_its_own_commit(file: Path, lot: Lot) -> None:
    """Whatever operation of it fails, there is a PASS with its label or neither of them."""
    seen = set()
    for at in range(1, 60):
        fault = Fault()
        with database_with(fault, file) as database:
            database.labels.wanted = True
            start = start_of(f"job-{at}", lot, identity=board(at))
            database.begin_visit(start.visit_id, start.plug)
            database.begin_job(start)
            fault.arm(at)
            try:
                database.finish_job(start.id, PASSED)
            except RecordsUnwritable:
                whole = False
            else:
                whole = True
            fault.arm(None)
        passed = rows(file, f"SELECT id FROM job WHERE id = '{start.id}' AND outcome = 'PASS'")  # noqa: S608
        labels = rows(file, f"SELECT job_id FROM label WHERE job_id = '{start.id}'")  # noqa: S608
        assert passed == labels
        seen.add(bool(passed))
        if whole:
            break
    assert seen == {True, False}


def test_a_label_says_what_the_records_know(wanting: Database, lot: Lot) -> None:
    """MAC, chip ID, product, slot and station of the job, and what the board was given."""
    values = (("serial", "SN000012"), ("colour", "red"))
    record(wanting, "job-1", lot, replace(PASSED, values=values))
    wanted = wanting.labels.next()
    assert wanted is not None
    assert (wanted.mac, wanted.chip_id, wanted.product) == (BOARD.mac, "0x00ddc142", "blink")
    assert (wanted.slot, wanted.station_id, wanted.values, wanted.attempt) == ("A3", "bench-1", values, 1)


def test_only_a_pass_asks_and_only_where_labels_are_wanted(database: Database, file: Path, lot: Lot) -> None:
    """Not FAIL, not a board that waits; and nothing at all at a station without a printer."""
    record(database, "job-1", lot, PASSED)
    database.labels.wanted = True
    record(database, "job-2", lot, FAILED, identity=board(2))
    record(database, "job-3", lot, PENDING, identity=board(3))
    assert rows(file) == []


def test_written_twice_it_is_asked_for_once(wanting: Database, file: Path, lot: Lot) -> None:
    """A job whose end is written again, since nobody knew whether it was, gets no second label."""
    record(wanting, "job-1", lot, PASSED)
    wanting.finish_job("job-1", PASSED)
    assert rows(file) == [("queued", 1, "")]


def test_a_label_is_taken_once(wanting: Database, file: Path, lot: Lot) -> None:
    """The first who begins it has it; the longest waiting comes first."""
    record(wanting, "job-1", lot, PASSED)
    record(wanting, "job-2", lot, PASSED, identity=board(2))
    first = wanting.labels.next()
    assert first is not None
    assert first.mac == BOARD.mac
    assert wanting.labels.begin(first.id)
    assert not wanting.labels.begin(first.id)
    wanting.labels.end(first.id, LabelState.PRINTED)
    second = wanting.labels.next()
    assert second is not None
    assert second.mac == board(2).mac
    assert wanting.labels.waiting() == 1
    assert [state for state, _, _ in rows(file)] == ["printed", "queued"]


def test_what_was_being_sent_when_the_station_died_is_not_sent_again(file: Path, lot: Lot) -> None:
    """It may lie in the printer's tray; what nobody had begun still waits."""
    with Database.open(url_of(file)) as database:
        database.labels.wanted = True
        for number in (1, 2):
            record(database, f"job-{number}", lot, PASSED, identity=board(number))
        wanted = database.labels.next()
        assert wanted is not None
        database.labels.begin(wanted.id)
    with Database.open(url_of(file)) as database:
        assert database.labels.recover() == 1
        assert database.labels.recover() == 0
        assert rows(file) == [("failed", 1, "station restarted: it may have been printed"), ("queued", 1, "")]


def test_a_restored_backup_prints_nothing_by_itself(file: Path, lot: Lot) -> None:
    """What waited when the backup was made may have been printed since."""
    with Database.open(url_of(file)) as database:
        database.labels.wanted = True
        record(database, "job-1", lot, PASSED)
        with pytest.raises(RecordsUnwritable):
            give_up_labels(file.with_name("none") / "station.db", PASSED.ended_at)
    assert give_up_labels(file, PASSED.ended_at) == 1
    assert rows(file) == [("failed", 1, "restored from a backup: it may have been printed")]


def test_another_label_is_a_row_with_its_reason(wanting: Database, file: Path, lot: Lot) -> None:
    """Who asked and why stand there for ever; the chip ID will do where it names one board."""
    record(wanting, "job-1", lot, PASSED)
    assert wanting.labels.ask_again("0x00ddc142", "Ada", "it fell off") == BOARD.mac
    assert rows(file, "SELECT attempt, person, reason, state FROM label ORDER BY sequence") == [
        (1, "", "", "queued"),
        (2, "Ada", "it fell off", "queued"),
    ]
    (newest, oldest) = labels_report(url_of(file)).rows
    assert (newest["person"], newest["attempt"], oldest["attempt"], newest["mac"]) == ("Ada", 2, 1, BOARD.mac)


@pytest.mark.parametrize("end", [FAILED, PENDING, None])
def test_a_board_that_did_not_pass_gets_no_label(wanting: Database, lot: Lot, end) -> None:
    """Its last job counts, not an earlier PASS."""
    record(wanting, "job-1", lot, PASSED)
    record(wanting, "job-2", lot, end)
    with pytest.raises(ConfigurationError, match="no PASS"):
        wanting.labels.ask_again(BOARD.mac, "Ada", "it fell off")
    with pytest.raises(ConfigurationError, match="no job"):
        wanting.labels.ask_again("18:fe:34:00:00:01", "Ada", "it fell off")
    with pytest.raises(ValueError, match="neither a MAC"):
        wanting.labels.ask_again("lamp", "Ada", "it fell off")


def test_a_label_that_is_not_true_any_more_is_not_printed(wanting: Database, file: Path, lot: Lot) -> None:
    """While it waited for the printer the board was flashed again, and failed."""
    record(wanting, "job-1", lot, PASSED)
    record(wanting, "job-2", lot, FAILED)
    wanted = wanting.labels.next()
    assert wanted is not None
    assert not wanting.labels.begin(wanted.id)
    assert rows(file) == [("failed", 1, "the board was flashed again meanwhile")]


def test_not_more_labels_wait_than_somebody_wants_to_sort(wanting: Database, file: Path, lot: Lot, monkeypatch) -> None:
    """Beyond the limit they fail at once and say so; the PASS is on record all the same."""
    monkeypatch.setattr(labels_module, "MOST_WAITING", 2)
    for number in range(1, 4):
        record(wanting, f"job-{number}", lot, PASSED, identity=board(number))
    assert rows(file) == [("queued", 1, ""), ("queued", 1, ""), ("failed", 1, "2 labels wait already")]
    assert rows(file, "SELECT count(*) FROM job WHERE outcome = 'PASS'") == [(3,)]


def test_the_life_of_a_board_has_its_labels(wanting: Database, file: Path, lot: Lot) -> None:
    """Jobs, words and labels of one board, and of nobody else; no record, no life."""
    record(wanting, "job-1", lot, FAILED)
    record(wanting, "job-2", lot, replace(PASSED, values=(("serial", "SN7"),)), attempt=2)
    record(wanting, "job-3", lot, PASSED, identity=board(3))
    (life,) = board_lives(url_of(file), BOARD.mac)
    assert [(job["job"], job["outcome"], job["attempt"]) for job in life["jobs"]] == [
        ("job-1", "FAIL", 1),
        ("job-2", "PASS", 2),
    ]
    assert life["jobs"][0]["words"]
    assert life["jobs"][1]["values"] == {"serial": "SN7"}
    assert [(label["state"], label["job"]) for label in life["labels"]] == [("queued", "job-2")]
    assert board_lives(url_of(file), "0xddc142") == (life,)
    assert board_lives(url_of(file), "18:fe:34:00:00:09") == ()
    with pytest.raises(ValueError, match="neither a MAC"):
        board_lives(url_of(file), "lamp")

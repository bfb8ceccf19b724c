"""Numbers: granted once, bound to one MAC for ever, confirmed with the PASS, given back only where nobody can have them."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from station.adapters.records import (
    HIGH_WATER,
    Database,
    Span,
    board_histories,
    board_report,
    high_water,
    number_events_report,
    numbers_report,
    ranges_report,
)
from station.adapters.records.schema_numbers import serial_free
from station.adapters.records.spans import covered, put_span, take_span
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import CommittedJob, JobEnd, JobState, Lot, Outcome
from tests.adapters.records.samples import BOARD, PASSED, PLUG, T0, board, rows_of, start_of, url_of

FAILED = replace(PASSED, outcome=Outcome.FAIL, reason="no_boot", number_used=False, flash_touched=False)
WAITS = replace(PASSED, state=JobState.PENDING, outcome=None, reason="awaits_run_mode")
MAC = BOARD.mac


def span(first: int, last: int | None = None, pool: str = "sensors") -> Span:
    """Numbers of the usual pool."""
    return Span(pool=pool, first=first, last=first if last is None else last)


def granted(database: Database, first: int = 1, last: int = 9, pool: str = "sensors", station: str = "") -> None:
    """A person grants a range."""
    database.numbers.grant(span(first, last, pool), "Ada", "a new roll of labels", station)


def number_of(database: Database, mac: str = MAC, job_id: str = "job-1", pool: str = "sensors") -> int | None:
    """The number that this MAC gets."""
    issued = database.numbers.reserve_number(pool, mac, job_id)
    return None if issued is None else issued.number


def ended(database: Database, lot: Lot, job_id: str, end: JobEnd, **more: Any) -> CommittedJob:
    """A job from its row to its end."""
    database.begin_visit(f"visit-{job_id}", PLUG)
    database.begin_job(start_of(job_id, lot, **more))
    return database.finish_job(job_id, end)


def states(file: Path) -> dict[int, tuple[str, str]]:
    """Number -> state and MAC."""
    return {row["number"]: (row["state"], row["mac"]) for row in numbers_report(url_of(file), "sensors").rows}


def test_a_mac_has_one_number_for_ever(database: Database) -> None:
    """Asked again, by whatever job, it is the same; another MAC gets the next one, another pool its own."""
    granted(database)
    granted(database, 100, 200, "lamps")
    assert [number_of(database, job_id=f"job-{count}") for count in range(3)] == [1, 1, 1]
    assert number_of(database, "18:fe:34:00:00:02") == 2
    assert number_of(database, pool="lamps") == 100
    assert number_of(database, pool="nobody granted it") is None
    assert database.numbers_left() == {"lamps": 100, "sensors": 7}


def test_the_last_number_is_the_last(database: Database) -> None:
    """A range that is used up gives nothing more, until the next one is granted."""
    granted(database, 5, 6)
    assert [number_of(database, f"18:fe:34:00:00:{mac:02}") for mac in range(3)] == [5, 6, None]
    assert database.numbers_left() == {"sensors": 0}
    granted(database, 7, 7)
    assert number_of(database, "18:fe:34:00:00:02") == 7


@pytest.mark.parametrize("station", ["", "bench-2"])
@pytest.mark.parametrize(("first", "last"), [(1, 9), (9, 9), (5, 50), (0, 1), (0, 100)])
def test_an_overlap_is_refused_whoever_has_it(database: Database, station: str, first: int, last: int) -> None:
    """The range of another station counts as much as one's own; the refusal says whose it is."""
    granted(database, station=station)
    with pytest.raises(ConfigurationError, match=f"overlaps 1-9, which station {station or 'bench-1'} has"):
        granted(database, first, last)
    granted(database, 10, 20)
    granted(database, 1, 9, "another pool")


def test_the_range_of_another_station_is_not_handed_out_here(database: Database) -> None:
    """It is only known, so that nobody grants it twice."""
    granted(database, station="bench-2")
    assert number_of(database) is None
    assert database.numbers_left() == {"sensors": 0}


def test_a_copy_of_the_disk_with_another_name_hands_out_nothing_of_it(database: Database, file: Path) -> None:
    """A second station made from the disk of the first gets numbers of its own ranges only; known boards keep theirs."""
    granted(database, 1, 9)
    assert number_of(database) == 1
    database.close()
    with Database.open(url_of(file), station_id="bench-2", now=lambda: T0) as copy:
        assert copy.numbers_left() == {"sensors": 0}
        assert number_of(copy, "18:fe:34:00:00:02") is None
        granted(copy, 10, 12)
        assert copy.numbers_left() == {"sensors": 3}
        assert [number_of(copy, f"18:fe:34:00:00:{mac:02}") for mac in range(2, 6)] == [10, 11, 12, None]
        assert number_of(copy) == 1


@pytest.mark.parametrize(("first", "last"), [(-1, 5), (5, 4), (1, 10**15)])
def test_what_is_no_range_is_refused(database: Database, first: int, last: int) -> None:
    """Numbers begin at 0, and have at most 15 digits."""
    with pytest.raises(ConfigurationError, match="is no range"):
        granted(database, first, last)


def test_a_pass_confirms_the_number_in_the_same_commit(database: Database, file: Path, lot: Lot) -> None:
    """What makes the light green says as well that the number is out there; the values of the board are on its job."""
    granted(database)
    number_of(database)
    assert states(file) == {1: ("reserved", MAC)}
    values = (("serial", "SN0001"), ("place", "Küche"))
    committed = ended(database, lot, "job-1", replace(PASSED, values=values))
    assert committed.values == values
    assert states(file) == {1: ("confirmed", MAC)}
    assert database.jobs(1)[0].values == values
    assert board_report(url_of(file), MAC).rows[0]["values"] == dict(values)
    history = board_histories(url_of(file), MAC)[0]
    assert history.numbers.rows == ({"pool": "sensors", "number": 1, "state": "confirmed", "label": ""},)


def test_a_pass_that_cannot_be_committed_confirms_nothing(
    database: Database, file: Path, lot: Lot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Job and number are one transaction: when the confirmation fails, there is no PASS either, and the other way round."""
    granted(database)
    number_of(database)

    def refuse(*_: object) -> None:
        raise RecordsUnwritable("the disk is full")

    monkeypatch.setattr("station.adapters.records.numbers.Ledger.settle", refuse)
    with pytest.raises(RecordsUnwritable):
        ended(database, lot, "job-1", PASSED)
    monkeypatch.undo()
    assert states(file) == {1: ("reserved", MAC)}
    assert [job.state for job in database.jobs(1)] == [JobState.RUNNING]
    database.finish_job("job-1", PASSED)
    assert states(file) == {1: ("confirmed", MAC)}


def test_a_number_that_never_left_goes_to_the_next_board(database: Database, file: Path, lot: Lot) -> None:
    """Its first job ended before anything was sent: nobody has it, so it is the lowest free one again."""
    granted(database)
    number_of(database)
    ended(database, lot, "job-1", FAILED)
    assert states(file) == {}
    assert number_of(database, "18:fe:34:00:00:02", "job-2") == 1
    assert number_of(database, MAC, "job-3") == 2


@pytest.mark.parametrize(
    "end",
    [replace(FAILED, number_used=True), WAITS, replace(FAILED, state=JobState.PENDING, outcome=None)],
    ids=["something was sent", "it waits", "it waits, and nothing was sent"],
)
def test_a_number_that_may_have_left_stays_with_its_board(
    database: Database, file: Path, lot: Lot, end: JobEnd
) -> None:
    """Whatever became of the job: another board never gets it, this one always does."""
    granted(database)
    number_of(database)
    ended(database, lot, "job-1", end)
    assert states(file) == {1: ("reserved", MAC)}
    assert number_of(database, "18:fe:34:00:00:02", "job-2") == 2
    assert number_of(database, MAC, "job-3") == 1


def test_a_later_job_never_gives_back_what_an_earlier_one_used(database: Database, file: Path, lot: Lot) -> None:
    """The first job flashed the board; that the second did nothing proves nothing about the number."""
    granted(database)
    number_of(database)
    ended(database, lot, "job-1", replace(FAILED, number_used=True))
    number_of(database, MAC, "job-2")
    ended(database, lot, "job-2", FAILED)
    assert states(file) == {1: ("reserved", MAC)}


def test_a_rework_that_fails_leaves_a_confirmed_number_confirmed(database: Database, file: Path, lot: Lot) -> None:
    """A number that passed once is never anything else."""
    granted(database)
    number_of(database)
    ended(database, lot, "job-1", PASSED)
    number_of(database, MAC, "job-2")
    ended(database, lot, "job-2", FAILED)
    assert states(file) == {1: ("confirmed", MAC)}


def test_a_killed_job_keeps_its_number(database: Database, file: Path, lot: Lot) -> None:
    """Nobody knows how far it came."""
    granted(database)
    number_of(database)
    database.begin_visit("visit-job-1", PLUG)
    database.begin_job(start_of("job-1", lot))
    database.recover_running(T0)
    assert states(file) == {1: ("reserved", MAC)}
    assert number_of(database, "18:fe:34:00:00:02", "job-2") == 2


def test_the_values_of_a_job_in_two_visits_are_written_once(database: Database, lot: Lot) -> None:
    """The second visit gives the board the same, and the row says it once."""
    values = (("serial", "1"),)
    ended(database, lot, "job-1", replace(WAITS, values=values))
    later = replace(PASSED, values=values, ended_at=T0 + timedelta(hours=1))
    assert database.finish_job("job-1", later).values == values


def test_what_a_person_burned_is_never_handed_out(database: Database, file: Path, lot: Lot) -> None:
    """Free ones, and one that a board has: the board gets another one. Who, why and what stays on record."""
    granted(database)
    number_of(database)
    ended(database, lot, "job-1", PASSED)
    assert database.numbers.burn(span(1, 3), "Ada", "labels torn") == 3
    assert states(file) == {}
    assert number_of(database, MAC, "job-2") == 4
    with pytest.raises(ConfigurationError, match="holds no number that could be burned"):
        database.numbers.burn(span(1, 3), "Ada", "again")
    burned = [row for row in number_events_report(url_of(file), "sensors").rows if row["event"] == "burn"]
    assert sorted((row["first"], row["last"], row["mac"]) for row in burned) == [(1, 1, MAC), (2, 3, "")]
    assert {(row["person"], row["reason"]) for row in burned} == {("Ada", "labels torn")}


@pytest.mark.parametrize("state", ["running", "pending", "about to begin"])
def test_a_number_in_the_hands_of_a_job_cannot_be_burned(database: Database, lot: Lot, state: str) -> None:
    """The board would leave with a number that it has not on record."""
    granted(database)
    number_of(database)
    if state != "about to begin":
        database.begin_visit("visit-job-1", PLUG)
        database.begin_job(start_of("job-1", lot))
    if state == "pending":
        database.finish_job("job-1", WAITS)
    with pytest.raises(ConfigurationError, match=f"1 is in the hands of a job of {MAC}"):
        database.numbers.burn(span(1, 9), "Ada", "all of them")
    assert database.numbers_left() == {"sensors": 8}


def test_a_person_releases_what_is_burned_and_nothing_else(database: Database) -> None:
    """Released numbers are the lowest free ones again; what is free or in use cannot be released."""
    granted(database)
    number_of(database)
    database.numbers.burn(span(2, 5), "Ada", "lost the roll")
    assert database.numbers.release(span(3, 9), "Bob", "found it") == 3
    assert number_of(database, "18:fe:34:00:00:02") == 3
    for refused in (span(1), span(3), span(6, 9), span(100)):
        with pytest.raises(ConfigurationError, match="holds no burned number"):
            database.numbers.release(refused, "Bob", "more of it")


def test_numbers_that_are_known_are_never_granted_again(database: Database, file: Path) -> None:
    """Even where the range is not on record any more, a number that a board has, or that is burned, stops the grant."""
    granted(database)
    number_of(database)
    database.numbers.burn(span(9), "Ada", "torn")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM serial_range")
        connection.commit()
    for first, last in ((1, 1), (9, 20)):
        with pytest.raises(ConfigurationError, match="holds numbers that boards have, or that are burned"):
            granted(database, first, last)


def test_records_that_began_anew_do_not_begin_the_numbers_anew(database: Database, file: Path) -> None:
    """The records are lost and the file beside them is not: what it says went to boards is not granted a second time."""
    granted(database, 1, 9)
    assert number_of(database) == 1
    database.close()
    file.unlink()
    with Database.open(url_of(file), station_id="bench-1", now=lambda: T0) as anew:
        with pytest.raises(
            ConfigurationError, match=f"went to boards before these records began, as .*{HIGH_WATER} says"
        ):
            granted(anew, 1, 9)
        granted(anew, 2, 9)
        granted(anew, 1, 1, "another pool")


def test_a_number_with_a_row_is_not_free_whatever_the_spans_say(database: Database, file: Path) -> None:
    """A damaged span costs numbers, never two boards with the same one."""
    granted(database)
    number_of(database)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE serial_free SET first = 1")
        connection.commit()
    assert number_of(database, "18:fe:34:00:00:02") == 2


def test_rows_of_a_table_are_numbers_with_a_name(database: Database) -> None:
    """The name of the row is kept with the number; beyond the end of the table there is none, though it was granted."""
    granted(database, pool="rows/t.csv")

    def row_of(mac: int, job_id: str, *labels: str) -> tuple[int, str] | None:
        issued = database.numbers.reserve_number("rows/t.csv", board(mac).mac, job_id, labels)
        return None if issued is None else (issued.number, issued.label)

    assert row_of(1, "job-1", "A", "B") == (1, "A")
    assert row_of(2, "job-2", "A", "B") == (2, "B")
    assert row_of(3, "job-3", "A", "B") is None
    assert row_of(3, "job-3", "A", "B", "C") == (3, "C")
    assert row_of(1, "job-4", "changed", "B") == (1, "A")


def test_many_slots_at_once_get_different_numbers(database: Database) -> None:
    """Sixteen boards at the same moment: sixteen numbers."""
    granted(database, 1, 16)
    found: list[int | None] = []
    threads = [
        threading.Thread(target=lambda mac=mac: found.append(number_of(database, board(mac).mac, f"job-{mac}")))
        for mac in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == set(range(1, 17))
    assert len(found) == 16


def test_what_is_not_in_the_high_water_file_is_not_handed_out(database: Database, file: Path) -> None:
    """When that file cannot be written, there is no number, and nothing of it on record; later there is."""
    granted(database)
    wall = file.parent / HIGH_WATER
    wall.unlink()
    wall.mkdir()
    with pytest.raises(RecordsUnwritable, match=r"numbers.jsonl cannot be written \(Is a directory\)"):
        number_of(database)
    assert states(file) == {}
    wall.rmdir()
    assert number_of(database) == 1
    assert [(line.event, line.first, line.mac) for line in high_water.read(wall) or []] == [("reserve", 1, MAC)]


def test_the_high_water_file_is_written_before_the_commit(database: Database, file: Path) -> None:
    """Whoever dies between the two has wasted a line, not used a number twice."""
    granted(database)

    def dying(connection) -> None:
        database.numbers.ledger(connection).reserve("sensors", MAC, "job-1", (), T0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        database._write(dying)
    lines = high_water.read(file.parent / HIGH_WATER)
    assert [line.event for line in lines or []] == ["grant", "reserve"]
    assert states(file) == {}
    assert rows_of(file)["serial_event"] == [row for row in rows_of(file)["serial_event"] if row[3] == "grant"]


def test_a_torn_line_of_the_high_water_file_is_cut_off_and_another_damage_is_told(tmp_path: Path) -> None:
    """A torn end was never used; anything else that is not whole proves nothing any more."""
    file = tmp_path / HIGH_WATER
    lines = [high_water.NumberLine(id=str(n), pool="p", event="reserve", first=n, last=n, mac="m") for n in range(3)]
    high_water.append(file, lines[:1])
    whole = file.read_bytes()
    high_water.append(file, lines[1:2])
    for length in range(len(whole), len(file.read_bytes())):
        torn = tmp_path / f"torn-{length}"
        torn.write_bytes(file.read_bytes()[:length])
        assert high_water.read(torn) == lines[:1]
        high_water.append(torn, lines[2:])
        assert high_water.read(torn) == [lines[0], lines[2]]
    content = bytearray(file.read_bytes())
    content[len(whole) // 2] ^= 1
    file.write_bytes(content)
    assert high_water.read(file) is None
    assert high_water.read(tmp_path / "nowhere") is None


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 30), st.integers(0, 8)), min_size=1, max_size=25
    )
)
def test_spans_are_sets_of_numbers(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is put and taken: the table holds exactly these numbers, in spans that neither overlap nor touch."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        serial_free.create(connection)
        numbers: set[int] = set()
        for what, first, length in steps:
            wanted = set(range(first, first + length + 1))
            if what == "take":
                taken = take_span(connection, serial_free, "p", first, first + length)
                assert {n for low, high in taken for n in range(low, high + 1)} == wanted & numbers
                numbers -= wanted
            elif not wanted & numbers:
                put_span(connection, serial_free, "p", first, first + length)
                numbers |= wanted
            spans = covered(connection, serial_free, "p", 0, 100)
            assert [n for low, high in spans for n in range(low, high + 1)] == sorted(numbers)
            assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(spans))
    engine.dispose()


def test_the_ranges_are_reported_with_what_is_left(database: Database, file: Path, lot: Lot) -> None:
    """Free, reserved, confirmed and burned add up to the range."""
    granted(database)
    number_of(database)
    ended(database, lot, "job-1", PASSED)
    number_of(database, "18:fe:34:00:00:02", "job-2")
    database.numbers.burn(span(8, 9), "Ada", "torn")
    granted(database, 20, 29, station="bench-2")
    mine, other = ranges_report(url_of(file), "sensors").rows
    assert {name: mine[name] for name in ("free", "reserved", "confirmed", "burned")} == {
        "free": 5,
        "reserved": 1,
        "confirmed": 1,
        "burned": 2,
    }
    assert (other["station"], other["free"]) == ("bench-2", 0)
    assert len(ranges_report(url_of(file)).rows) == 2

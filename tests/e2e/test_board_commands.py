"""The commands by which people speak about boards: what they print, what they put on record, and how they refuse."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from station.adapters.records import Database, head
from station.cli import main
from station.demo import write_demo_recipe
from station.model import BoardMark, JobState, KnownBoard, Outcome
from tests.adapters.records.old_records import OLD_MAC, populated_at_0001
from tests.adapters.records.samples import BOARD, FAILED, PASSED, PENDING, PLUG, T0, board, make_lot, record, url_of
from tests.e2e.command import Done, get, one_line, started, station, wait_for, write_config

SAID = ("--by", "Ada", "--reason", "shift check")
RED = ("--reason-code", "out_of_limits:free_ram")


Said = Callable[..., Done]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Said:
    """The command line in this process, which spares a second per call; where a daemon runs it is the installed command."""

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capfd.readouterr()
        return Done(code=int(ended.value.code or 0), out=shown.out, err=shown.err)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Records with one board that passed, one that failed and one that waits."""
    file = tmp_path / "station.db"
    with Database.open(url_of(file), now=lambda: datetime.now(UTC)) as database:
        lot = make_lot(database)
        record(database, "job-1", lot, PASSED)
        record(database, "job-2", lot, FAILED, identity=board(2))
        record(database, "job-3", lot, PENDING, identity=board(3))
    return file


def known(file: Path, mac: str = BOARD.mac) -> KnownBoard:
    """What the records know of a board that they know."""
    with Database.open(url_of(file)) as database:
        found = database.known_board(mac)
    assert found is not None
    return found


def events(file: Path) -> list[tuple[Any, ...]]:
    """What people said, in order."""
    connection = sqlite3.connect(file)
    try:
        columns = "mac, event, flash_id, person, reason"
        return connection.execute(f"SELECT {columns} FROM board_event ORDER BY sequence").fetchall()  # noqa: S608
    finally:
        connection.close()


# --- pending -----------------------------------------------------------------------------------------------------------


def test_pending_list_shows_who_waits_for_what(file: Path, say: Said) -> None:
    """`pending list`, and `pending` alone, print a line per board; `--json` is a list of objects; nobody is said in words."""
    url = url_of(file)
    listed = say("pending", "list", "--db", url)
    assert listed.code == 0, listed.err
    (line,) = [line for line in listed.out.splitlines() if board(3).mac in line]
    for part in (" d ", "0x00000003", "A3", "blink", "flashed, not tested: take GPIO0 off GND and plug in again"):
        assert part in " ".join(line.split())
    (row,) = say("pending", "list", "--db", url, "--json").json
    assert (row["job"], row["mac"], row["slot"], row["reason"]) == ("job-3", board(3).mac, "A3", "awaits_run_mode")
    assert row["age_s"] > (datetime.now(UTC) - T0).total_seconds() - timedelta(minutes=5).total_seconds()
    assert say("pending", "drop", board(3).mac, *SAID, "--db", url).code == 0
    empty = say("pending", "list", "--db", url)
    assert (empty.code, empty.out) == (0, "no board waits\n")
    assert say("pending", "list", "--json", "--db", url).json == []


def test_pending_alone_lists_the_stations_own_records(file: Path, say: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a command, `--db` or `--config` the records in the state directory are meant."""
    monkeypatch.setattr("station.cli.options.SYSTEM_STATE_DIR", file.parent)
    listed = say("pending")
    assert listed.code == 0, listed.err
    assert board(3).mac in listed.out


def test_pending_drop_closes_the_job_with_name_and_reason(file: Path, say: Said) -> None:
    """The job is ABORTED and says who dropped it and why; a board that waits for nothing is refused with the fix."""
    url = url_of(file)
    dropped = say("pending", "drop", "0x000003", *SAID, "--db", url)
    assert dropped.out == f"{board(3).mac} waits no more: its job is ABORTED, by Ada\n"
    with Database.open(url) as database:
        (job,) = [job for job in database.jobs(10) if job.id == "job-3"]
    assert (job.state, job.outcome, job.reason, job.detail) == (
        JobState.CLOSED,
        Outcome.ABORTED,
        "stopped_by_request",
        "dropped by Ada: shift check",
    )
    refused = one_line(say("pending", "drop", board(3).mac, *SAID, "--db", url).refused(78))
    assert refused == f"board {board(3).mac}: no job waits for it. Fix: station pending list\n"


# --- board and rework --------------------------------------------------------------------------------------------------


def test_marks_are_put_on_and_taken_off(file: Path, say: Said) -> None:
    """`board mark` and `board unmark` are rows of a person, and what the station then knows of the board."""
    url = url_of(file)
    marked = say("board", "mark", "golden", "18-FE-34-DD-C1-42", *SAID, "--db", url)
    assert marked.out == f"{BOARD.mac} is marked golden, by Ada\n"
    assert known(file).marks == {BoardMark.GOLDEN}
    assert say("board", "mark", "returned", "ddc142", *SAID, "--db", url).code == 0
    assert known(file).marks == {BoardMark.GOLDEN, BoardMark.RETURNED}
    refused = say("board", "mark", "red", BOARD.mac, *SAID, *RED, "--db", url).refused(78)
    assert "is marked golden. Fix: station board unmark" in one_line(refused)
    unmarked = say("board", "unmark", BOARD.mac, "--by", "Bob", "--reason", "retired", "--db", url)
    assert unmarked.out == f"{BOARD.mac} carries no mark any more, by Bob\n"
    assert known(file).marks == frozenset()
    assert events(file) == [
        (BOARD.mac, "mark_golden", None, "Ada", "shift check"),
        (BOARD.mac, "mark_returned", None, "Ada", "shift check"),
        (BOARD.mac, "unmark", None, "Bob", "retired"),
    ]


def test_a_red_board_is_enrolled_with_what_it_fails_with(file: Path, say: Said) -> None:
    """Without a reason that a self-test can find it proves nothing, so it is refused as wrong usage; others take none."""
    url = url_of(file)
    assert "needs --reason-code" in say("board", "mark", "red", BOARD.mac, *SAID, "--db", url).refused(64)
    assert "no other board" in say("board", "mark", "golden", BOARD.mac, *SAID, *RED, "--db", url).refused(64)
    for wrong in ("verify_mismatch", "link_lost", "no_boot:radio", "nonsense"):
        said = say("board", "mark", "red", BOARD.mac, *SAID, "--reason-code", wrong, "--db", url)
        assert said.refused(64)
    assert events(file) == []
    assert say("board", "mark", "red", BOARD.mac, *SAID, *RED, "--db", url).code == 0
    assert known(file).enrolled == RED[1]


def test_a_flash_chip_is_accepted_by_the_id_that_reports_print(file: Path, say: Said) -> None:
    """`board accept-flash` takes hexadecimal with and without 0x, and refuses what is no id as wrong usage."""
    url = url_of(file)
    accepted = say("board", "accept-flash", BOARD.mac, "0x15605e", *SAID, "--db", url)
    assert accepted.out == f"{BOARD.mac} may carry flash 0x15605e, by Ada\n"
    assert say("board", "accept-flash", BOARD.mac, "164020", *SAID, "--db", url).code == 0
    assert known(file).accepted_flash_ids == {0x15605E, 0x164020}
    for wrong in ("puya", "0", "0x1000000"):
        said = say("board", "accept-flash", BOARD.mac, wrong, *SAID, "--db", url).refused(64)
        assert "is no flash id" in said
    refused = say("board", "accept-flash", BOARD.mac, "1440e0", *SAID, "--db", url).refused(78)
    assert "on record for this board already" in one_line(refused)


def test_a_rework_is_opened_and_closed(file: Path, say: Said) -> None:
    """`rework open` allows one more job until `rework close`; both refuse what is so already."""
    url = url_of(file)
    mac = board(2).mac
    opened = say("rework", "open", mac, *SAID, "--db", url)
    assert opened.out == f"a rework of {mac} is open: one more job may begin, by Ada\n"
    assert known(file, mac).rework_open
    assert "open already" in one_line(say("rework", "open", mac, *SAID, "--db", url).refused(78))
    assert say("rework", "close", mac, *SAID, "--db", url).out == f"the rework of {mac} is closed, by Ada\n"
    assert not known(file, mac).rework_open
    assert "no rework is open" in one_line(say("rework", "close", mac, *SAID, "--db", url).refused(78))


def test_board_show_tells_the_whole_life(file: Path, say: Said) -> None:
    """Jobs, marks, reworks and what people said, as text and as JSON; `report board` tells what people said as well."""
    url = url_of(file)
    say("board", "mark", "red", BOARD.mac, *SAID, *RED, "--db", url)
    say("rework", "open", BOARD.mac, *SAID, "--db", url)
    text = say("board", "show", "ddc142", "--db", url).out
    assert text.splitlines()[0] == (
        f"{BOARD.mac}  chip ID 0x00ddc142  flash 0x1440e0: attempts 1, passed 1; red; a rework is open"
    )
    assert "mark_red" in text
    assert RED[1] in text
    (shown,) = say("board", "show", BOARD.mac, "--json", "--db", url).json
    assert (shown["mac"], shown["marks"], shown["rework_open"], shown["passes"]) == (BOARD.mac, ["red"], True, 1)
    assert [job["job"] for job in shown["jobs"]] == ["job-1"]
    assert [(event["event"], event["person"]) for event in shown["events"]] == [
        ("mark_red", "Ada"),
        ("rework_open", "Ada"),
    ]
    assert f"{BOARD.mac} mark_red by Ada: shift check" in say("report", "board", BOARD.mac, "--db", url).out
    (stranger,) = say("board", "show", "18:fe:34:99:99:99", "--json", "--db", url).json
    assert (stranger["known"], stranger["jobs"], stranger["events"]) == (False, [], [])
    assert say("board", "show", "0x999999", "--db", url).out == "nothing is on record about 0x999999\n"
    assert "neither a MAC nor a chip ID" in say("board", "show", "xyz", "--db", url).refused(64)


@pytest.mark.parametrize(
    "command",
    [
        ("pending", "drop", BOARD.mac),
        ("board", "mark", "red", BOARD.mac, *RED),
        ("board", "unmark", BOARD.mac),
        ("board", "accept-flash", BOARD.mac, "15605e"),
        ("rework", "open", BOARD.mac),
        ("rework", "close", BOARD.mac),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_every_word_of_a_person_needs_a_name_and_a_reason(file: Path, say: Said, command: tuple[str, ...]) -> None:
    """Without `--by`, without `--reason` or with a blank one the command is refused, and nothing is on record."""
    url = url_of(file)
    for missing, given in (
        ("--by", ("--reason", "x")),
        ("--reason", ("--by", "Ada")),
        ("--by", ("--by", " ", *SAID[2:])),
    ):
        assert missing in say(*command, *given, "--db", url).refused(64)
    assert events(file) == []


def test_a_board_that_is_not_meant_alone_is_refused(file: Path, say: Said) -> None:
    """A chip ID of nobody or of two, a MAC with a typing error, and no board at all each say what to do."""
    url = url_of(file)
    with Database.open(url) as database:
        record(database, "job-9", make_lot(database), PASSED, identity=board(BOARD.chip_id, oui="5c:cf:7f"))
    for key, problem in (
        ("0x999999", "no board on record has this chip ID"),
        ("ddc142", "2 boards share this chip ID: 18:fe:34:dd:c1:42, 5c:cf:7f:dd:c1:42"),
        ("18:fe:34:dd:c1:43", "the records have never seen this board"),
    ):
        assert problem in one_line(say("rework", "open", key, *SAID, "--db", url).refused(78))
    assert "neither a MAC nor a chip ID" in say("rework", "open", "xyz", *SAID, "--db", url).refused(64)
    missing = url_of(file.with_name("typo.db"))
    assert "no such database" in one_line(
        say("board", "mark", "red", BOARD.mac, *SAID, *RED, "--db", missing).refused(78)
    )
    assert not file.with_name("typo.db").exists()


# --- lot reject --------------------------------------------------------------------------------------------------------


def test_modules_are_booked_out_of_the_lot_that_is_made(tmp_path: Path, say: Said) -> None:
    """`lot reject` counts in the standing lot, or in the one a person opened; the yield shows it apart."""
    recipe = write_demo_recipe(tmp_path)[0]
    config = write_config(tmp_path, recipe=recipe)
    (tmp_path / "state").mkdir()
    url = url_of(tmp_path / "state" / "station.db")
    first = say("lot", "reject", "--config", config, "--reason", "no_answer", "--count", 3, "--slot", "A2")
    assert first.code == 0, first.err
    assert "3 modules booked out of lot" in first.out
    assert "no_answer" in first.out
    second = say("lot", "reject", "--config", config, "--reason", "damaged", "--by", "Bob")
    assert "1 module booked out" in second.out
    assert second.out.endswith("damaged, by Bob; 4 in all\n")
    rows = say("report", "yield", "--format", "json", "--db", url).json
    assert [(row["boards_attempted"], row["rejected_by_hand"], row["first_pass_yield"]) for row in rows] == [
        (0, 4, None),
        (0, 4, None),
    ]
    config = write_config(tmp_path, recipe=recipe, require_lot=True)
    refused = say("lot", "reject", "--config", config, "--reason", "wrong_part").refused(78)
    assert "no lot is open or paused" in one_line(refused)
    assert say("lot", "open", "--config", config, "--by", "Eva").code == 0
    third = say("lot", "reject", "--config", config, "--reason", "wrong_part")
    assert third.out.endswith("wrong_part, by Eva; 1 in all\n")
    assert "no_reason" in say("lot", "reject", "--config", config, "--reason", "no_reason").refused(64)


# --- beside a running daemon -------------------------------------------------------------------------------------------


def test_people_speak_while_the_daemon_runs_and_a_second_daemon_is_refused(tmp_path: Path) -> None:
    """The daemon's records take the words of people; a second daemon with another state directory on them is refused."""
    config = write_config(tmp_path, '[slots]\nA1 = "pci-0:1"\n')
    other = tmp_path / "other"
    other.mkdir()
    url = url_of(tmp_path / "state" / "station.db")
    second = write_config(other, f'[slots]\nA1 = "pci-0:1"\n[database]\nurl = "{url}"\n')
    with started(tmp_path / "log", "run", "--config", config) as daemon:
        address = daemon.address()
        with Database.open(url) as database:
            lot = make_lot(database)
            record(database, "job-1", lot, PENDING)
            database.begin_visit("visit-2", PLUG)
        for words in (
            ("board", "mark", "returned", BOARD.mac, *SAID),
            ("rework", "open", BOARD.mac, *SAID),
            ("pending", "drop", BOARD.mac, *SAID),
        ):
            done = station(*words, "--config", config)
            assert done.code == 0, done.err
        assert known(tmp_path / "state" / "station.db").marks == {BoardMark.RETURNED}
        said = one_line(station("run", "--config", second).refused(78))
        assert f"another station (PID {daemon.process.pid})" in said
        with Database.open(url) as database:
            assert database.visits(1)[0].ended_at is None
        wait_for(lambda: get(address, "/healthz")[0] == 200, "the first daemon to go on")
        assert daemon.end().code == 0


# --- the schema --------------------------------------------------------------------------------------------------------


def test_records_of_the_first_station_are_upgraded_by_the_command_it_names(tmp_path: Path) -> None:
    """A daemon refuses 0001 and names a command; that command, as it stands there, keeps every row; then it starts."""
    (tmp_path / "state").mkdir()
    file = populated_at_0001(tmp_path / "state" / "station.db")
    config = write_config(tmp_path, '[slots]\nA1 = "pci-0:1"\n')
    refused = one_line(station("run", "--config", config).refused(78))
    named = refused.partition("Fix: station ")[2].split()
    assert named == ["db", "upgrade", "--db", url_of(file)]
    assert (station(*named).out, station("db", "check", "--db", url_of(file)).code) == (f"{head()}\n", 0)
    assert {row["job"] for row in station("report", "jobs", "--format", "json", "--db", url_of(file)).json} == {
        "old-1",
        "old-2",
    }
    assert len(known(file, OLD_MAC).passes) == 1
    with started(tmp_path / "log", "run", "--config", config) as daemon:
        daemon.address()
        assert daemon.end().code == 0

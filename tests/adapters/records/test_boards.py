"""What the records know of a board: passes, attempts, marks, reworks and accepted flash chips."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from station.adapters.records import BoardEvent, Database, board_histories, board_report, render
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import (
    BoardMark,
    EarlierPass,
    FlashChip,
    KnownBoard,
    Lot,
    LotState,
    Outcome,
    VisitEnd,
)
from tests.adapters.records.samples import (
    BOARD,
    FAILED,
    FLASH,
    PASSED,
    PENDING,
    PLUG,
    RECIPE,
    REQUEST,
    T0,
    board,
    event_of,
    record,
    rows_of,
    url_of,
)

ERROR = replace(FAILED, outcome=Outcome.ERROR, reason="link_lost")
ABORTED = replace(FAILED, outcome=Outcome.ABORTED, reason="unplugged")


def known(database: Database, mac: str = BOARD.mac) -> KnownBoard:
    """What the records know of a board that they know."""
    found = database.known_board(mac)
    assert found is not None
    return found


# --- jobs --------------------------------------------------------------------------------------------------------------


def test_an_unknown_board_is_none(database: Database) -> None:
    """A MAC that was never seen has no history."""
    assert database.known_board(BOARD.mac) is None


def test_passes_come_newest_first_with_lot_and_product(database: Database, lot: Lot) -> None:
    """Each PASS names job, recipe, product, the state of its lot now, and when; a later failure takes none away."""
    database.ensure_recipe(replace(RECIPE, hash="ef" * 32, name="other"))
    other = database.standing_lot(replace(REQUEST, recipe_hash="ef" * 32, product="other"))
    record(database, "job-1", lot, PASSED)
    record(database, "job-2", other, PASSED)
    record(database, "job-3", lot, FAILED)
    database.close_lot(other.id, "Ada")
    assert known(database).passes == (
        EarlierPass(
            job_id="job-2",
            recipe_hash="ef" * 32,
            product="other",
            lot_state=LotState.CLOSED,
            ended_at=PASSED.ended_at,
        ),
        EarlierPass(
            job_id="job-1",
            recipe_hash=RECIPE.hash,
            product="blink",
            lot_state=LotState.OPEN,
            ended_at=PASSED.ended_at,
        ),
    )


def test_attempts_touched_flash_and_judged_ones_blamed_the_board_since_its_last_pass(
    database: Database, lot: Lot
) -> None:
    """ABORTED and waiting judge nobody, what never touched flash is no attempt, and a PASS begins the count anew."""
    untouched = replace(FAILED, flash_touched=False, reason="flash_too_small")
    for number, end in enumerate([FAILED, PASSED, FAILED, ERROR, ABORTED, untouched, PENDING]):
        record(database, f"job-{number}", lot, end)
    found = known(database)
    assert (found.attempts, found.judged_attempts, found.attempts_since_pass) == (6, 2, 4)
    assert found.errors == {("link_lost", "A3")}


def test_what_a_disturbed_hub_cut_off_is_an_attempt_that_judged_nobody(database: Database, lot: Lot) -> None:
    """However often the hub went under a board, it has all its chances left."""
    for number in range(5):
        record(database, f"job-{number}", lot, replace(ERROR, reason="hub_disturbed"))
    found = known(database)
    assert (found.attempts, found.judged_attempts) == (5, 0)


def test_a_pass_that_flashed_nothing_is_no_pass_of_ours(database: Database, lot: Lot) -> None:
    """A test of a board in run mode is not among the passes, and does not wipe out what was judged before."""
    record(database, "job-1", lot, FAILED)
    record(database, "job-2", lot, replace(PASSED, flash_touched=False, bytes_flashed=0))
    found = known(database)
    assert (found.passes, found.judged_attempts, found.attempts) == ((), 1, 1)


def test_the_flash_id_is_that_of_the_last_job_that_read_one(database: Database, lot: Lot) -> None:
    """A job that could not read the flash says nothing about it."""
    record(database, "job-1", lot, PASSED)
    record(database, "job-2", lot, replace(FAILED, flash_touched=False), flash=None)
    assert known(database).flash_id == FLASH.jedec_id


@pytest.mark.parametrize("reason", ["mac_reused", "duplicate_mac"])
def test_an_impostor_does_not_become_the_known_board(database: Database, lot: Lot, reason: str) -> None:
    """The flash id of a job that doubted the identity is no evidence, so plugging the impostor in twice finds it twice."""
    record(database, "job-1", lot, PASSED)
    other = FlashChip(jedec_id=0x15605E, size_bytes=2 << 20)
    doubted = replace(FAILED, outcome=Outcome.ERROR, reason=reason, flash_touched=False)
    record(database, "job-2", lot, doubted, flash=other)
    assert known(database).flash_id == FLASH.jedec_id


def test_boards_that_share_a_chip_id_stay_apart(database: Database, lot: Lot) -> None:
    """The MAC is the key: equal chip IDs under two OUIs are two boards with their own attempts."""
    twin = board(BOARD.chip_id, oui="5c:cf:7f")
    record(database, "job-1", lot, PASSED)
    record(database, "job-2", lot, FAILED, identity=twin)
    assert (len(known(database).passes), known(database).judged_attempts) == (1, 0)
    assert (len(known(database, twin.mac).passes), known(database, twin.mac).judged_attempts) == (0, 1)


def test_a_board_first_seen_through_its_firmware_gets_its_otp_words_later(
    database: Database, lot: Lot, file: Path
) -> None:
    """A firmware tells MAC and chip ID only; the words of the first reading by the loader are kept from then on."""
    record(database, "job-1", lot, FAILED, identity=replace(BOARD, otp_words=None))
    assert [row[:3] for row in rows_of(file)["board"]] == [(BOARD.mac, BOARD.chip_id, "")]
    record(database, "job-2", lot, FAILED)
    record(database, "job-3", lot, FAILED, identity=replace(BOARD, otp_words=(1, 2, 3, 4)))
    assert rows_of(file)["board"][0][2] == "0x42000000 0x0000ddc1 0x00000000 0x0018fe34"


# --- what people said --------------------------------------------------------------------------------------------------


def test_a_board_that_only_a_person_named_is_known(database: Database) -> None:
    """A golden board can be marked before the station has ever seen it."""
    database.add_board_event(event_of(BoardEvent.MARK_GOLDEN))
    assert known(database) == KnownBoard(mac=BOARD.mac, flash_id=None, attempts=0, marks=frozenset({BoardMark.GOLDEN}))
    assert database.known_board(board(1).mac) is None


def test_what_a_person_said_is_one_row_with_name_and_reason(database: Database, file: Path, lot: Lot) -> None:
    """The row says who, why, when, and after which job; asked for twice it is one row."""
    record(database, "job-1", lot, PASSED)
    for _ in range(2):
        database.add_board_event(event_of(BoardEvent.ACCEPT_FLASH, flash_id=0x15605E))
    time = T0.replace(tzinfo=None).isoformat(" ")
    assert rows_of(file)["board_event"] == [
        ("event-1", 1, BOARD.mac, "accept_flash", 0x15605E, "Ada", "shift change", time, 1, "")
    ]


def test_marks_stand_until_they_are_taken_off(database: Database, lot: Lot) -> None:
    """A returned board may be red as well; `unmark` takes every mark, and no job takes any."""
    database.add_board_event(event_of(BoardEvent.MARK_RETURNED, "1"))
    database.add_board_event(event_of(BoardEvent.MARK_RED, "2"))
    record(database, "job-1", lot, PASSED)
    assert known(database).marks == {BoardMark.RETURNED, BoardMark.RED}
    database.add_board_event(event_of(BoardEvent.UNMARK, "3"))
    assert known(database).marks == frozenset()
    database.add_board_event(event_of(BoardEvent.MARK_GOLDEN, "4"))
    assert known(database).marks == {BoardMark.GOLDEN}


def test_accepted_flash_chips_are_remembered(database: Database, lot: Lot) -> None:
    """Every accepted id stays accepted; the flash id on record is still that of the last job."""
    record(database, "job-1", lot, PASSED)
    for number, flash_id in enumerate((0x15605E, 0x164020)):
        database.add_board_event(event_of(BoardEvent.ACCEPT_FLASH, f"{number}", flash_id=flash_id))
    assert known(database).accepted_flash_ids == {0x15605E, 0x164020}
    assert known(database).flash_id == FLASH.jedec_id


def test_a_rework_is_used_up_by_the_next_job_of_that_board(database: Database, lot: Lot) -> None:
    """Jobs of other boards leave it open; the board's own next job, once begun, uses it up however it ends."""
    record(database, "job-1", lot, FAILED)
    database.add_board_event(event_of(BoardEvent.REWORK_OPEN, "1"))
    record(database, "job-2", lot, PASSED, identity=board(2))
    assert known(database).rework_open
    record(database, "job-3", lot, None)
    assert not known(database).rework_open
    database.finish_job("job-3", ABORTED)
    assert not known(database).rework_open
    database.add_board_event(event_of(BoardEvent.REWORK_OPEN, "2"))
    assert known(database).rework_open


def test_a_rework_can_be_closed_unused(database: Database, lot: Lot) -> None:
    """After `rework_close` no further job is allowed, until another rework is opened."""
    record(database, "job-1", lot, FAILED)
    database.add_board_event(event_of(BoardEvent.REWORK_OPEN, "1"))
    database.add_board_event(event_of(BoardEvent.REWORK_CLOSE, "2"))
    assert not known(database).rework_open
    database.add_board_event(event_of(BoardEvent.REWORK_OPEN, "3"))
    assert known(database).rework_open


def test_a_job_that_waits_already_does_not_use_a_rework_up(database: Database, lot: Lot) -> None:
    """What began before the rework is closed by its later visit, and the rework is still there."""
    record(database, "job-1", lot, PENDING)
    database.add_board_event(event_of(BoardEvent.REWORK_OPEN))
    database.finish_job("job-1", replace(FAILED, ended_at=T0 + timedelta(minutes=1), flash_touched=False))
    assert known(database).rework_open


@pytest.mark.parametrize(
    ("before", "event", "problem"),
    [
        ([], BoardEvent.UNMARK, "carries no mark"),
        ([], BoardEvent.REWORK_CLOSE, "no rework is open"),
        ([BoardEvent.REWORK_OPEN], BoardEvent.REWORK_OPEN, "open already"),
        ([BoardEvent.MARK_RED], BoardEvent.MARK_GOLDEN, "marked red. Fix: station board unmark 18:fe:34:dd:c1:42"),
        ([BoardEvent.MARK_GOLDEN], BoardEvent.MARK_RED, "marked golden. Fix: station board unmark 18:fe:34:dd:c1:42"),
        ([], BoardEvent.ACCEPT_FLASH, "flash 0x1440e0 is on record"),
    ],
)
def test_what_contradicts_the_records_is_refused_and_leaves_no_row(
    database: Database, file: Path, lot: Lot, before: list[BoardEvent], event: BoardEvent, problem: str
) -> None:
    """Each refusal names the board, what is the matter and what to do."""
    record(database, "job-1", lot, PASSED)
    for number, said in enumerate(before):
        database.add_board_event(event_of(said, f"{number}"))
    rows = rows_of(file)
    flash_id = FLASH.jedec_id if event is BoardEvent.ACCEPT_FLASH else None
    with pytest.raises(ConfigurationError, match=rf"board {BOARD.mac}: .*{problem}"):
        database.add_board_event(event_of(event, "last", flash_id=flash_id))
    assert rows_of(file) == rows


@pytest.mark.parametrize("event", [BoardEvent.UNMARK, BoardEvent.REWORK_OPEN, BoardEvent.ACCEPT_FLASH])
def test_only_a_mark_may_name_a_board_that_nobody_has_seen(database: Database, event: BoardEvent) -> None:
    """A MAC with a typing error gets no rework."""
    flash_id = 1 if event is BoardEvent.ACCEPT_FLASH else None
    with pytest.raises(ConfigurationError, match="never seen this board"):
        database.add_board_event(event_of(event, flash_id=flash_id))
    assert database.known_board(BOARD.mac) is None


def test_a_damaged_word_is_corruption_and_never_a_mark(database: Database, file: Path) -> None:
    """A lot state or an event that is none of ours is reported, not skipped."""
    import sqlite3

    database.add_board_event(event_of(BoardEvent.MARK_RED))
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("UPDATE board_event SET event = 'mark_rad'")
    connection.commit()
    connection.close()
    with pytest.raises(RecordsUnwritable, match="corrupt"):
        database.known_board(BOARD.mac)


# --- how a person names a board ----------------------------------------------------------------------------------------


def test_a_chip_id_names_a_board_when_it_is_the_only_one(database: Database, lot: Lot) -> None:
    """A MAC in any form is itself; a chip ID is looked up among what was seen and what people named."""
    record(database, "job-1", lot, PASSED)
    assert database.find_mac("18FE34DDC142") == BOARD.mac
    assert database.find_mac("0x00ddc142") == BOARD.mac
    database.add_board_event(event_of(BoardEvent.MARK_GOLDEN, mac="5c:cf:7f:00:00:07"))
    assert database.find_mac("0x000007") == "5c:cf:7f:00:00:07"
    with pytest.raises(ConfigurationError, match="no board on record has this chip ID"):
        database.find_mac("0x123456")
    record(database, "job-2", lot, PASSED, identity=board(BOARD.chip_id, oui="5c:cf:7f"))
    with pytest.raises(ConfigurationError, match="2 boards share this chip ID: 18:fe:34:dd:c1:42, 5c:cf:7f:dd:c1:42"):
        database.find_mac("ddc142")
    with pytest.raises(ValueError, match="neither a MAC"):
        database.find_mac("xyz")


# --- the whole life of a board -----------------------------------------------------------------------------------------


def test_the_history_of_a_board_has_jobs_people_and_findings(database: Database, lot: Lot, file: Path) -> None:
    """Jobs, what people said, and visits that knew the board but made no job, each in the order of writing."""
    record(database, "job-1", lot, PASSED)
    database.add_board_event(event_of(BoardEvent.MARK_RETURNED))
    database.begin_visit("visit-2", PLUG)
    database.end_visit(
        "visit-2", VisitEnd(ended_at=T0, job_id=None, finding="marked_board", detail="returned", mac=BOARD.mac)
    )
    (history,) = board_histories(url_of(file), "0x00ddc142")
    assert history.known == known(database)
    assert [row["job"] for row in history.jobs.rows] == ["job-1"]
    assert [(row["event"], row["person"], row["reason"]) for row in history.events.rows] == [
        ("mark_returned", "Ada", "shift change")
    ]
    assert [(row["finding"], row["detail"], row["slot"]) for row in history.findings.rows] == [
        ("marked_board", "returned", "A3")
    ]
    assert database.visits(1)[0].mac == BOARD.mac


def test_the_report_of_a_board_says_what_people_said_below_its_jobs(database: Database, lot: Lot, file: Path) -> None:
    """Under the table each word of a person is one line, whatever control characters it holds."""
    record(database, "job-1", lot, PASSED)
    database.add_board_event(event_of(BoardEvent.ACCEPT_FLASH, "1", flash_id=0x15605E, reason="new\nflash \x1b[2J"))
    database.add_board_event(event_of(BoardEvent.MARK_RED, "2"))
    table = render(board_report(url_of(file), BOARD.mac), "table")
    assert table.splitlines()[-2:] == [
        f"2025-11-22T08:02:00.123Z {BOARD.mac} accept_flash 0x15605e by Ada: new\\nflash \\x1b[2J",
        f"2025-11-22T08:02:00.123Z {BOARD.mac} mark_red by Ada: shift change",
    ]

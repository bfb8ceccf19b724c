"""A slot that only reads: one finding, whatever is in it, and never a byte written."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.errors import (
    IdentityInvalid,
    LinkCorrupt,
    LinkSilent,
    LoaderRefused,
    PortGone,
    ReplGarbage,
    ReplSilent,
    WrongChip,
)
from station.inspection import history
from station.model import BoardMark, EarlierPass, KnownBoard, LotState, StopCause
from station.properties import ANY_SLOT, Gpio0, Reset, Role, SlotProperties
from station.visit import Finding
from tests.unit.job_rig import Station, flashed_board, image, visited, writes
from tests.unit.memory_records import AUTO, STICK
from tests.unit.scripted_board import JEDEC_ID, MAC, MIB, InstantStop, ScriptedBoard, for_ever

BY_LINES, BY_HAND = replace(AUTO, role=Role.INSPECT), replace(STICK, role=Role.INSPECT)
WIRINGS = [
    BY_LINES,
    BY_HAND,
    replace(ANY_SLOT, role=Role.INSPECT),
    SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW, role=Role.INSPECT),
]
VENDOR = b"\xe9AT version:1.7.4.0".ljust(MIB, b"\xff")
WHEN = datetime(2025, 11, 22, 12, 0, tzinfo=UTC)
PASSED = EarlierPass(job_id="j", recipe_hash="h", product="gadget 2", lot_state=LotState.OPEN, ended_at=WHEN)


@pytest.mark.parametrize("properties", WIRINGS, ids=str)
def test_a_board_in_its_loader_tells_everything(properties: SlotProperties) -> None:
    """MAC, chip ID, flash and its past in one line; one visit row with the MAC, no job, and the flash as it was."""
    board = ScriptedBoard(lines=properties.reset is not Reset.NONE)
    before = bytes(board.flash)
    shown = visited(board, properties=properties)
    assert (shown.finding.reason, shown.row.mac, shown.row.job_id) == ("inspected", MAC, None)
    assert shown.finding.detail == (f"{MAC}, chip ID 0x00ddc142, in its loader, flash 1440ef (1024 KB); not on record")
    assert shown.records.starts == {}
    assert bytes(board.flash) == before
    assert writes(board) == 0
    assert board.count("close") == board.count("open")


def test_a_board_in_its_firmware_tells_who_it_is() -> None:
    """Without a jumper the REPL is asked; the board is left at its friendly prompt."""
    shown = visited(flashed_board(lines=False, gpio0="free"), properties=BY_HAND)
    assert (shown.finding.reason, shown.row.mac) == ("inspected", MAC)
    assert "in its firmware, flash 1440ef" in shown.finding.detail
    assert "leave" in shown.board.journal
    assert "file written" not in shown.board.journal


def test_a_board_that_waits_is_read_and_waits_on() -> None:
    """An inspection between two visits is nobody's test."""
    station, board = Station(), ScriptedBoard(lines=False)
    station.visit(board, replace(STICK, role=Role.FLASH))
    for gpio0 in ("low", "free"):
        shown = station.visit(board.plug_in(gpio0), BY_HAND)  # type: ignore[arg-type]
        assert (shown.finding.reason, shown.row.job_id) == ("inspected", None)
        assert station.records.pending_macs() == {MAC}
    assert bytes(board.flash) == image()


@pytest.mark.parametrize(
    ("board", "reason"),
    [
        (ScriptedBoard().on("identity", for_ever(IdentityInvalid("ones", observed="ff"))), "identity_invalid"),
        (ScriptedBoard().on("connect", for_ever(WrongChip("ESP32"))), "wrong_chip"),
        (ScriptedBoard(present=False), "no_answer"),
        (ScriptedBoard(flash=bytearray(VENDOR), gpio0="free"), "not_in_download_mode"),
        (ScriptedBoard().on("chip", for_ever(LinkSilent("s"))), "link_lost"),
        (ScriptedBoard().on("chip", for_ever(LinkCorrupt("c"))), "link_unreliable"),
        (ScriptedBoard().on("chip", for_ever(PortGone("gone"))), "unplugged"),
        (ScriptedBoard().on("chip", for_ever(RuntimeError("oops"))), "station_bug"),
        (flashed_board(gpio0="free", checks={"identity": ReplGarbage("g")}), "no_answer"),
        (flashed_board(gpio0="free", checks={"flash": b"noise"}), "no_answer"),
        (flashed_board(gpio0="free").on("prompt", for_ever(ReplSilent("s"))), "no_answer"),
    ],
)
def test_whatever_is_wrong_with_it_is_a_finding(board: ScriptedBoard, reason: str) -> None:
    """A board that is only looked at is never a FAIL and never in a yield."""
    shown = visited(board, properties=BY_LINES)
    assert shown.finding.reason == reason
    assert (shown.records.starts, shown.row.job_id) == ({}, None)
    assert writes(board) == 0


@pytest.mark.parametrize(("jedec_id", "size_bytes"), [(0xFFFFFF, None), (0x000000, None), (0x0040EF, None)])
def test_a_dead_or_unknown_flash_is_looked_at_like_any_other(jedec_id: int, size_bytes: int | None) -> None:
    """What is there is said; nothing is judged."""
    shown = visited(ScriptedBoard(jedec_id=jedec_id, claimed_bytes=size_bytes), properties=BY_LINES)
    assert shown.finding.reason == "inspected"
    assert f"flash {jedec_id:06x} (size unknown)" in shown.finding.detail


@pytest.mark.parametrize("cause", StopCause)
def test_an_inspection_that_is_cut_short_is_a_finding(cause: StopCause) -> None:
    """A pull, a shutdown, a deadline: no job comes of it."""
    board = ScriptedBoard()
    stop = InstantStop(board.clock)
    shown = visited(board.on("chip", [lambda: stop.request(cause)]), properties=BY_LINES, stop=stop)
    assert (shown.row.mac, shown.row.job_id, shown.records.starts) == (MAC, None, {})


@given(
    step=st.sampled_from(
        ["open", "connect", "identity", "stub", "chip", "presence", "read", "half read", "prompt", "run"]
    ),
    error=st.sampled_from(
        [LinkSilent("s"), LinkCorrupt("c"), LoaderRefused("r", 0xC100), PortGone("g"), ReplGarbage("g"), KeyError("k")]
    ),
    times=st.integers(1, 4),
    gpio0=st.sampled_from(["lines", "free", "low"]),
    known=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_an_inspection_never_writes(step: str, error: Exception, times: int, gpio0, *, known: bool) -> None:
    """Whatever breaks, in whatever slot: one finding, no job, and the flash as it was."""
    board = flashed_board(gpio0=gpio0)
    board.on(step, [error] * times)
    properties = replace(ANY_SLOT if known else BY_LINES, role=Role.INSPECT)
    stop = InstantStop(board.clock, deadline_s=60)
    shown = visited(board, properties=properties, stop=stop, dump=Path("/dev/null"))
    assert isinstance(shown.result, Finding)
    assert shown.records.starts == {}
    assert bytes(board.flash) == image()
    assert writes(board) == 0


# -- the content -------------------------------------------------------------------------------------------------------


def test_the_flash_is_copied_into_a_file(tmp_path: Path) -> None:
    """Byte for byte, and what is in the file is what the chip has."""
    into, board = tmp_path / "dump.bin", ScriptedBoard()
    board.program(0, bytes(range(256)) * 16)
    shown = visited(board, properties=BY_LINES, dump=into)
    assert into.stat().st_mode & 0o777 == 0o600, "it holds the secrets of that board"
    assert shown.finding.reason == "inspected"
    assert hashlib.sha256(into.read_bytes()).digest() == hashlib.sha256(board.flash).digest()


def test_a_copy_that_breaks_is_read_again_one_rung_lower(tmp_path: Path) -> None:
    """The ladder holds for reading too."""
    into, board = tmp_path / "dump.bin", ScriptedBoard()
    shown = visited(board.on("half read", [LinkSilent("s")]), properties=BY_LINES, dump=into)
    assert shown.finding.reason == "inspected"
    assert into.read_bytes() == bytes(board.flash)
    assert [event for event in board.journal if event.startswith("read")] == ["read at 460800", "read at 230400"]


@pytest.mark.parametrize(
    ("board", "reason", "words"),
    [
        (flashed_board(gpio0="free"), "inspected", "its flash was not copied"),
        (ScriptedBoard(jedec_id=0xFFFFFF, claimed_bytes=None), "flash_unknown", "ffffff"),
        (ScriptedBoard().on("half read", for_ever(LinkSilent("s"))), "link_lost", "115200"),
    ],
    ids=["firmware", "no size", "link"],
)
def test_a_copy_that_cannot_be_made_leaves_no_file(
    tmp_path: Path, board: ScriptedBoard, reason: str, words: str
) -> None:
    """Nobody takes half a copy for a whole one."""
    shown = visited(board, properties=BY_LINES, dump=tmp_path / "dump.bin")
    assert shown.finding.reason == reason
    assert words in shown.finding.detail
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The person reads which file and why."""
    shown = visited(properties=BY_LINES, dump=tmp_path / "no" / "dump.bin")
    assert "dump.bin cannot be written (No such file or directory)" in shown.finding.detail


# -- the past ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (None, "not on record"),
        (KnownBoard(mac=MAC, flash_id=None, attempts=0), "0 attempts"),
        (KnownBoard(mac=MAC, flash_id=JEDEC_ID, attempts=1), "1 attempt"),
        (
            KnownBoard(mac=MAC, flash_id=JEDEC_ID, attempts=2, passes=(PASSED,)),
            "passed as gadget 2 2025-11-22 12:00 UTC, 2 attempts",
        ),
        (
            KnownBoard(mac=MAC, flash_id=JEDEC_ID, attempts=2, passes=(PASSED,), attempts_since_pass=1),
            "passed as gadget 2 2025-11-22 12:00 UTC, 2 attempts, flashed again since then: do not ship",
        ),
        (
            KnownBoard(mac=MAC, flash_id=None, attempts=0, marks=frozenset({BoardMark.RED}), rework_open=True),
            "red board, 0 attempts, rework open",
        ),
    ],
)
def test_the_past_is_told_in_a_few_words(known: KnownBoard | None, said: str) -> None:
    """Marks, passes, attempts, and what makes a PASS worthless."""
    assert history(known) == said
    assert visited(known=known, properties=BY_LINES).finding.detail.endswith(f"; {said}")


def test_a_marked_board_may_be_looked_at() -> None:
    """A golden board is never written, and always read."""
    known = KnownBoard(mac=MAC, flash_id=JEDEC_ID, attempts=0, marks=frozenset({BoardMark.GOLDEN}))
    assert visited(known=known, properties=BY_LINES).finding.reason == "inspected"

"""run_visit against a scripted board: what is on record at its end, in which order, and that PASS takes all evidence."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from station import selftest
from station.adapters.records import Database
from station.config import Config, StationSection
from station.errors import (
    BoardRestartedInTest,
    BootLooping,
    CheckRaised,
    FilesystemCorrupt,
    IdentityInvalid,
    LinkCorrupt,
    LinkSilent,
    NothingBoots,
    ReplGarbage,
    ReplSilent,
    StationError,
    WrongChip,
)
from station.job import run_visit
from station.jobrun import required_evidence
from station.link import Evidence
from station.model import BootEvidence, CommittedJob, JobState, KnownBoard, Measurement, Outcome, Phase
from station.orders import standing_lot
from station.selftest import judging
from tests.unit.job_rig import UNTOUCHED, image, recipe_for, visited
from tests.unit.memory_records import tools_for, visit_for
from tests.unit.scripted_board import MAC, MIB, OTHER_MAC, ScriptedBoard, for_ever

# -- a good board ------------------------------------------------------------------------------------------------------


def test_a_good_board_passes_with_all_its_evidence() -> None:
    """The committed row is a closed PASS with every phase, every required measurement within, and no reason."""
    shown = visited()
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (JobState.CLOSED, Outcome.PASS, "")
    assert [(phase.phase, phase.outcome.value) for phase in shown.job.phases] == [
        (Phase.CONNECT, "PASS"),
        (Phase.FLASH, "PASS"),
        (Phase.VERIFY, "PASS"),
        (Phase.BOOT, "PASS"),
        (Phase.PROVISION, "SKIPPED"),
        (Phase.SELF_TEST, "PASS"),
    ]
    within = {each.name for each in shown.job.measurements if each.within}
    assert within >= set(required_evidence(recipe_for()))
    assert bytes(shown.board.flash) == image()
    assert (shown.end.boot_evidence, shown.end.flash_mode) == (BootEvidence.RESET_LINE, "dout")
    assert (shown.end.detail, shown.end.transcript) == ("", b"")
    assert shown.records.visits["visit-1"] is not None
    assert shown.records.visits["visit-1"].job_id == "job-1"


def test_the_record_says_who_and_what_and_how_often() -> None:
    """The job row carries identity, flash, firmware, operator, lot and the number of the attempt."""
    known = KnownBoard(mac=MAC, flash_id=0x1440EF, attempts=4)
    start = visited(known=known).start
    assert start.identity is not None
    assert (start.identity.mac, start.observed_mac, start.attempt) == (MAC, MAC, 5)
    assert start.flash is not None
    assert start.flash.jedec_id == 0x1440EF
    assert (start.firmware_sha256, start.operator) == (recipe_for().firmware_sha256, "Ada")
    assert start.lot.recipe_hash == recipe_for().hash


def test_the_port_is_free_before_the_result_is_on_record() -> None:
    """Whatever the records do, the tty is released first; the board is left at its friendly prompt."""
    shown = visited()
    assert shown.before("job row closed")[-2:] == ["leave", "close"]
    assert shown.board.journal[-1] == "counted PASS"


def test_the_512k_build_passes_without_a_filesystem() -> None:
    """A build without filesystem has no file to read back, and needs no proof of one."""
    recipe = recipe_for(variant="512K")
    shown = visited(ScriptedBoard(claimed_bytes=MIB // 2, real_bytes=MIB // 2), recipe)
    assert shown.job.outcome is Outcome.PASS
    assert not any("filesystem" in each.name for each in shown.job.measurements)
    assert not any("filesystem" in name for name in required_evidence(recipe))


# -- durable before touched --------------------------------------------------------------------------------------------


def test_nothing_is_written_before_the_job_row_is_durable() -> None:
    """The row of the visit comes before the port, the look-up and the job's row before the first byte."""
    shown = visited()
    assert shown.board.journal[:2] == ["visit row", "open"]
    before = shown.before("erase at 460800")
    assert before.index("looked up") < before.index("job row running")
    assert before[-1] == "job row running"


def test_the_row_is_in_the_file_when_the_first_byte_changes(tmp_path: Path) -> None:
    """Another program that opens the database at the moment of the first erase finds the job running, with its board."""
    board, config = ScriptedBoard(), Config(station=StationSection(state_dir=str(tmp_path)))
    found: list[tuple[str, list[tuple[object, ...]]]] = []

    def look(event: str) -> None:
        if event.startswith(("erase", "write", "job row")):
            with contextlib.closing(sqlite3.connect(f"file:{tmp_path}/station.db?mode=ro", uri=True)) as other:
                found.append((event, other.execute("SELECT state, board_mac, outcome FROM job").fetchall()))

    board.watch = look
    with Database.open(config.database_url, station_id="test") as database:
        visit = replace(visit_for(board, recipe_for()), lot=standing_lot(config, database, recipe_for()))
        result = run_visit(visit, tools_for(board, database))
        assert isinstance(result, CommittedJob)
        assert result.outcome is Outcome.PASS
        assert database.jobs(10) == (result,)
    assert found == [("erase at 460800", [("running", MAC, None)]), ("write at 460800", [("running", MAC, None)])]


# -- PASS is a conjunction ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", required_evidence(recipe_for()))
def test_without_one_piece_of_evidence_there_is_no_pass(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Each required measurement is taken away in turn from an otherwise good job: ERROR, naming what is missing."""
    measure = Evidence.measure

    def forget(evidence: Evidence, measurement: Measurement) -> None:
        if measurement.name != missing:
            measure(evidence, measurement)

    monkeypatch.setattr(Evidence, "measure", forget)
    shown = visited()
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "evidence_missing")
    assert missing in shown.job.particulars


@pytest.mark.parametrize("wrong", required_evidence(recipe_for()))
def test_with_one_value_outside_its_limits_there_is_no_pass(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Each required measurement is put outside its limits in turn: the job never passes, whoever should have looked."""
    measure = Evidence.measure

    def spoil(evidence: Evidence, measurement: Measurement) -> None:
        measure(evidence, replace(measurement, within=measurement.within and measurement.name != wrong))

    monkeypatch.setattr(Evidence, "measure", spoil)
    shown = visited()
    assert isinstance(shown.result, CommittedJob)
    assert shown.result.outcome is not Outcome.PASS
    assert shown.result.reason != ""


@pytest.mark.parametrize("wrong", required_evidence(recipe_for()))
def test_a_value_outside_its_limits_is_no_evidence_of_anything(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Also where nobody judged it, a measurement that is not within counts as missing."""
    measure = Evidence.measure
    monkeypatch.setattr(Evidence, "measure", lambda kept, one: measure(kept, replace(one, within=one.name != wrong)))
    for module in (selftest, judging):
        monkeypatch.setattr(module, "first_failure", lambda _measurements: None)
    shown = visited()
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "evidence_missing")
    assert shown.job.particulars == wrong


def test_every_promise_of_the_issue_is_required_evidence() -> None:
    """The list by hand: content by the chip's MD5, real size, blank rest, identity after writing and in run mode, checks."""
    assert sorted(required_evidence(recipe_for())) == sorted(
        [
            "flash_md5",
            "flash_real_size",
            "flash_rest_blank",
            "mac_after_write",
            "boot_to_prompt",
            "mac",
            "chip_id",
            "flash_id",
            "flash_policy",
            "flash_size",
            "machine",
            "firmware_version",
            "firmware_intact",
            "cpu_frequency",
            "free_ram",
            "wifi_start",
            "filesystem_written",
            "filesystem_hash",
            "access_point_off",
        ]
    )


# -- booting -----------------------------------------------------------------------------------------------------------


def only_in_dout(board: ScriptedBoard, error: StationError) -> Callable[[], None]:
    """A board that boots only when the header says dout (D-1)."""

    def prompt() -> None:
        if board.flash[2] != 3:
            raise error

    return prompt


@pytest.mark.parametrize("error", [NothingBoots("dark"), BootLooping("again")], ids=["dark", "loop"])
@pytest.mark.parametrize("mode", ["dio", "qio", "qout"])
def test_another_flash_mode_that_does_not_boot_is_tried_with_dout(mode: str, error: StationError) -> None:
    """A board that boots only in dout passes with dout on record, after one rewrite that is noted."""
    recipe = recipe_for(f'[flash]\nmode = "{mode}"\n')
    board = ScriptedBoard()
    shown = visited(board.on("prompt", for_ever(only_in_dout(board, error))), recipe)
    assert shown.job.outcome is Outcome.PASS
    assert (shown.end.flash_mode, shown.end.bytes_flashed) == ("dout", 2 * len(recipe.image))
    assert bytes(board.flash) == image(recipe, "dout")
    assert [phase.phase for phase in shown.job.phases].count(Phase.FLASH) == 2
    assert f"with flash mode {mode}: written again with dout" in shown.job.detail


def test_another_flash_mode_that_boots_is_kept() -> None:
    """Where the recipe's mode works, nothing is written twice."""
    recipe = recipe_for('[flash]\nmode = "dio"\n')
    shown = visited(recipe=recipe)
    assert (shown.job.outcome, shown.end.flash_mode) == (Outcome.PASS, "dio")
    assert bytes(shown.board.flash) == image(recipe)


@pytest.mark.parametrize(
    ("mode", "error", "reason", "writes"),
    [
        ("dout", NothingBoots("dark"), "no_boot", 1),
        ("dout", BootLooping("again"), "boot_loop", 1),
        ("dio", NothingBoots("dark"), "no_boot", 2),
        ("qio", BootLooping("again"), "boot_loop", 2),
        ("dout", FilesystemCorrupt("corrupt"), "filesystem_corrupt", 2),
        ("dio", FilesystemCorrupt("corrupt"), "filesystem_corrupt", 2),
        ("dout", ReplSilent("no prompt"), "repl_silent", 1),
        ("dout", ReplGarbage("noise"), "repl_garbage", 1),
    ],
)
def test_a_board_that_never_boots_fails_after_one_more_write_at_most(
    mode: str, error: StationError, reason: str, writes: int
) -> None:
    """What does not come up is tried again only where that is known to help, once; then the board is to blame."""
    shown = visited(ScriptedBoard().on("prompt", for_ever(error)), recipe_for(f'[flash]\nmode = "{mode}"\n'))
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, reason)
    assert [phase.phase for phase in shown.job.phases].count(Phase.FLASH) == writes
    assert (shown.job.phases[-1].phase, shown.job.phases[-1].outcome) == (Phase.BOOT, "FAIL")


def test_a_corrupt_filesystem_is_erased_and_made_once_more() -> None:
    """A board that says so once and is well after a full erase passes with a note (D-13)."""
    shown = visited(ScriptedBoard().on("prompt", [FilesystemCorrupt("looks corrupt")]))
    assert shown.job.outcome is Outcome.PASS
    assert shown.board.count("erase at 460800") == 2
    assert "filesystem reported corrupt: erased and written again" in shown.job.detail


# -- testing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "answer", "reason", "words"),
    [
        ("cpu_frequency", b"52000000", "out_of_limits", "cpu_frequency = 52000000 Hz, allowed 80000000…160000000"),
        ("free_ram", b"5", "out_of_limits", "free_ram = 5 B, allowed 10000…120000"),
        ("firmware", b'["v1.0.0 on 2015-01-01", "x", "y"]', "out_of_limits", "firmware_version = 1.0.0"),
        ("firmware_intact", b"false", "out_of_limits", "firmware_intact = no, allowed yes"),
        ("wifi_start", b"false", "out_of_limits", "wifi_start = no"),
        ("filesystem_write", b'"%s"' % (b"0" * 64), "filesystem_lost_data", "filesystem_written"),
        ("filesystem_read", b"null", "filesystem_lost_data", "filesystem_hash = nothing"),
        ("free_ram", b"<script>", "repl_garbage", "check free_ram"),
        ("free_ram", b"", "repl_garbage", "check free_ram"),
        ("free_ram", b'"PASS"', "repl_garbage", "check free_ram"),
        ("free_ram", CheckRaised("Traceback\n  File\nMemoryError: x"), "check_raised", "free_ram"),
        ("wifi_start", BoardRestartedInTest("ets Jan"), "brownout", "ets Jan"),
        ("cpu_frequency", ReplSilent("never ended"), "repl_silent", "never ended"),
    ],
)
def test_what_a_board_says_wrong_is_held_against_it(
    check: str, answer: bytes | StationError, reason: str, words: str
) -> None:
    """Each wrong answer fails the board with its reason, and the particulars say which check and which value."""
    shown = visited(ScriptedBoard(checks={check: answer}))
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, reason)
    assert words in shown.job.particulars
    assert shown.end.transcript != b""


def test_a_crashed_check_keeps_its_traceback_below_its_name() -> None:
    """The first line of the detail is the check's name, which the words speak of; the traceback is in the notes."""
    shown = visited(ScriptedBoard(checks={"free_ram": CheckRaised("Traceback\n  File\nMemoryError: x")}))
    assert shown.job.particulars == "free_ram"
    assert "MemoryError: x" in shown.job.detail


def test_a_flash_that_loses_data_is_found_by_the_reset() -> None:
    """The file is read back only after the board was reset: what was in a cache only is lost by then (F-6)."""
    board = ScriptedBoard()

    def forget(event: str) -> None:
        if event == "leave":
            board.stored = None

    board.watch = forget
    shown = visited(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "filesystem_lost_data")
    assert board.count("reset into firmware") == 2


@pytest.mark.parametrize(
    "board",
    [
        ScriptedBoard(checks={"cpu_frequency": b"52000000"}),
        ScriptedBoard(checks={"free_ram": b"noise"}),
        ScriptedBoard(checks={"wifi_start": BoardRestartedInTest("ets")}),
        ScriptedBoard(run_mac=OTHER_MAC),
        ScriptedBoard().on("prompt", for_ever(NothingBoots("dark"))),
    ],
    ids=["limits", "garbage", "brownout", "identity", "no boot"],
)
def test_a_line_that_damaged_bytes_is_no_witness(board: ScriptedBoard) -> None:
    """What would be held against the board is an ERROR when bytes were seen to arrive damaged in the same visit."""
    shown = visited(board.on("half", [LinkCorrupt("noise")]))
    assert (shown.job.state, shown.job.outcome) == (JobState.CLOSED, Outcome.ERROR)
    assert shown.job.reason == "link_unreliable"
    assert list(shown.records.ends) == ["job-1"]


def test_a_line_that_damaged_bytes_may_still_pass_a_board() -> None:
    """One damaged block, a rung lower, and everything proved: that is a PASS with a note."""
    shown = visited(ScriptedBoard().on("half", [LinkCorrupt("noise")]))
    assert (shown.job.outcome, shown.end.baud_fallbacks, shown.end.baud_used) == (Outcome.PASS, 1, 230_400)
    assert shown.job.detail == "LinkCorrupt at 460800 baud: retry at 230400"


# -- who it is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", ["identity", "flash"])
def test_another_board_in_run_mode_leaves_the_flashed_one_pending(check: str) -> None:
    """The flashed board's job waits; the one that answered gets an ERROR row of its own, and that is what is shown."""
    board = ScriptedBoard(run_mac=OTHER_MAC)
    if check == "flash":
        board = ScriptedBoard(checks={"flash": b"[4198127, 1048576]"})
    shown = visited(board)
    flashed, other = shown.records.ends.values()
    assert (flashed.state, flashed.outcome, flashed.reason) == (JobState.PENDING, None, "identity_mismatch")
    assert (other.state, other.outcome, other.reason) == (JobState.CLOSED, Outcome.ERROR, "identity_mismatch")
    assert (flashed.flash_touched, other.flash_touched, other.bytes_flashed) == (True, False, 0)
    assert (shown.job.outcome, shown.job.mac) == (Outcome.ERROR, None)
    first, second = shown.records.starts.values()
    assert (first.identity is not None, second.identity) == (True, None)
    assert (first.observed_mac, second.observed_mac) == (MAC, OTHER_MAC if check == "identity" else MAC)
    assert first.visit_id == second.visit_id == "visit-1"


def test_another_boards_values_are_not_asked_for() -> None:
    """The identity is the first check; when it is wrong nothing else is measured under the flashed board's name."""
    shown = visited(ScriptedBoard(run_mac=OTHER_MAC, checks={"cpu_frequency": b"52000000"}))
    names = {each.name for each in shown.records.ends["job-1"].measurements}
    assert "mac" in names
    assert "cpu_frequency" not in names


def test_a_board_exchanged_during_a_second_write_is_not_called_flashed() -> None:
    """After a boot that failed the flash is erased again: who is exchanged then leaves no board that only waits."""
    recipe, board = recipe_for('[flash]\nmode = "dio"\n'), ScriptedBoard()

    def exchange() -> None:
        if board.count("write at 460800") == 2:
            board.mac = OTHER_MAC

    board.on("prompt", for_ever(only_in_dout(board, NothingBoots("dark")))).on("written", for_ever(exchange))
    shown = visited(board, recipe)
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (
        JobState.CLOSED,
        Outcome.ERROR,
        "identity_mismatch",
    )
    assert list(shown.records.ends) == ["job-1"]


def test_a_known_mac_on_another_flash_chip_is_not_written() -> None:
    """The records are asked before the first write: a MAC that had another flash chip calls the technician (G-3)."""
    known = KnownBoard(mac=MAC, flash_id=0x1440E0, attempts=1)
    shown = visited(known=known)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "mac_reused")
    assert shown.job.particulars == "flash 1440ef here, 1440e0 before"
    assert bytes(shown.board.flash) == UNTOUCHED
    assert not shown.end.flash_touched


def test_a_board_without_a_valid_mac_fails_on_record() -> None:
    """No usable identity is a FAIL with a row: what was read stands in it, and no byte was written."""
    bad = IdentityInvalid("all ones", observed="ff:ff:ff:ff:ff:ff")
    shown = visited(ScriptedBoard().on("identity", for_ever(bad)))
    assert (shown.job.outcome, shown.job.reason, shown.job.mac) == (Outcome.FAIL, "identity_invalid", None)
    assert (shown.start.identity, shown.start.observed_mac) == (None, "ff:ff:ff:ff:ff:ff")
    assert bytes(shown.board.flash) == UNTOUCHED


def test_the_wrong_chip_fails_on_record() -> None:
    """An ESP32 on the bench is a FAIL before any write."""
    shown = visited(ScriptedBoard().on("connect", [WrongChip("ESP32-D0WD")]))
    assert (shown.job.outcome, shown.job.reason, shown.job.particulars) == (Outcome.FAIL, "wrong_chip", "ESP32-D0WD")
    assert bytes(shown.board.flash) == UNTOUCHED


def test_the_same_error_in_another_slot_makes_it_the_boards_fault() -> None:
    """A board that was lost in B2 before and is lost here too goes to BAD."""
    known = KnownBoard(mac=MAC, flash_id=None, attempts=1, errors=frozenset({("link_lost", "B2")}))
    shown = visited(ScriptedBoard().on("half", for_ever(LinkSilent("silence"))), known=known)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "link_lost")
    assert "the same in slot B2 before" in shown.job.particulars

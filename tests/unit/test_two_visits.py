"""Flashed in one visit, tested in another: bound by the MAC, closed by PASS or FAIL only, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.config import Config, StationSection
from station.job import RETURNS, run_visit
from station.jobrun import required_evidence
from station.link import Evidence
from station.model import BootEvidence, CommittedJob, JobState, Outcome, Phase
from station.orders import standing_lot
from station.properties import ANY_SLOT, Gpio0, Moves, Reset, Role, SlotProperties
from station.reasons import Reason
from station.visit import Finding, Held
from tests.unit.job_rig import Shown, Station, flashed_board, image, recipe_for, writes
from tests.unit.memory_records import AUTO, STICK, tools_for, visit_for
from tests.unit.scripted_board import MAC, MIB, OTHER_MAC, ScriptedBoard, for_ever

RIG = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.HAND)
SOLDERED = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW)
FLASH_ONLY = replace(SOLDERED, role=Role.FLASH)
TESTS_BY_HAND = [
    STICK,
    ANY_SLOT,
    replace(STICK, role=Role.TEST),
    SlotProperties(reset=Reset.NONE, gpio0=Gpio0.NEVER_LOW, role=Role.TEST),
    replace(STICK, moves=Moves.BOARD),
]
FLASHED = ("flash_md5", "flash_real_size", "flash_rest_blank", "mac_after_write")


def waiting(station: Station | None = None, board: ScriptedBoard | None = None) -> tuple[Station, ScriptedBoard]:
    """A board that was flashed in F1 and waits for its test; it is out of its slot."""
    station, board = station or Station(), board or ScriptedBoard(lines=False)
    shown = station.visit(board, FLASH_ONLY, slot="F1", test_slots=("T1",))
    assert shown.job.state is JobState.PENDING
    return station, board


def second_visit(station: Station, board: ScriptedBoard, properties: SlotProperties = STICK, **asked) -> Shown:
    """Visit two, by hand: the board is plugged in without the jumper."""
    return station.visit(board.plug_in("free", lines=False), properties, **{"slot": "T1", **asked})


def still_waits(station: Station, shown: Shown, reason: str) -> Finding:
    """The job is as it was, and the visit that ended so belongs to it."""
    assert shown.finding.reason == reason
    assert (shown.row.job_id, shown.row.mac) == ("job-1", MAC)
    end = station.records.ends["job-1"]
    assert (end.state, end.outcome, end.reason) == (JobState.PENDING, None, "awaits_test_slot")
    assert list(station.records.ends) == ["job-1"]
    assert writes(shown.board) == 0
    assert shown.board.count("counted PASS") == 0
    return shown.finding


# -- the second visit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("properties", TESTS_BY_HAND, ids=str)
def test_a_board_that_runs_its_firmware_is_bound_to_its_job(properties: SlotProperties) -> None:
    """In any slot that tests, the MAC that the REPL tells closes the job of that MAC; flash is not touched again."""
    station, board = waiting()
    shown = second_visit(station, board, properties)
    assert (shown.job.id, shown.job.state, shown.job.outcome) == ("job-1", JobState.CLOSED, Outcome.PASS)
    assert (shown.row.job_id, shown.row.finding) == ("job-1", "")
    assert shown.end.boot_evidence is BootEvidence.COLD
    assert list(station.records.starts) == ["job-1"], "one row for both visits"
    assert writes(board) == 0
    assert bytes(board.flash) == image()
    assert {each.name for each in shown.job.measurements if each.within} >= set(required_evidence(recipe_for()))
    assert [phase.phase for phase in shown.job.phases] == [
        *(Phase.CONNECT, Phase.FLASH, Phase.VERIFY),
        *(Phase.CONNECT, Phase.PROVISION, Phase.SELF_TEST),
    ]


def test_after_a_cold_start_the_board_restarts_itself() -> None:
    """GPIO0 was free at power-up, so machine.reset() leads into the firmware again: the file is read after it."""
    station, board = waiting()
    second_visit(station, board)
    steps = [event for event in board.journal if event in ("prompt", "file written", "machine.reset", "leave")]
    assert steps == ["prompt", "file written", "machine.reset", "prompt", "leave"]


@pytest.mark.parametrize("role", [Role.MAKE, Role.TEST])
@pytest.mark.parametrize("reset", [Reset.LINES, None])
def test_where_lines_start_it_the_job_goes_on_at_boot(role: Role, reset: Reset | None) -> None:
    """The ROM tells the MAC, the firmware is started by the lines, and nothing is written."""
    station, board = waiting()
    properties = SlotProperties(reset=reset, gpio0=None if reset is None else Gpio0.LINES, role=role)
    shown = station.visit(board.plug_in("lines", lines=True), properties, slot="B2")
    assert (shown.job.id, shown.job.outcome, shown.end.boot_evidence) == (
        "job-1",
        Outcome.PASS,
        BootEvidence.RESET_LINE,
    )
    assert writes(board) == 0
    assert [phase.phase for phase in shown.job.phases[3:]] == [
        Phase.CONNECT,
        Phase.BOOT,
        Phase.PROVISION,
        Phase.SELF_TEST,
    ]


@pytest.mark.parametrize("gpio0", [Gpio0.HAND, None])
def test_where_a_line_resets_and_a_hand_frees_gpio0_the_line_restarts(gpio0: Gpio0 | None) -> None:
    """A rig whose line reaches EN alone: the firmware answers, and is restarted by that line between write and read."""
    station, board = waiting()
    properties = replace(RIG, gpio0=gpio0)
    shown = station.visit(board.plug_in("free", lines=True), properties, slot="B2")
    assert (shown.job.id, shown.job.outcome, shown.end.boot_evidence) == (
        "job-1",
        Outcome.PASS,
        BootEvidence.RESET_LINE,
    )
    assert not {"machine.reset", "start firmware"} & set(board.journal)
    learned = [Gpio0.HAND] if gpio0 is None else []
    assert [what.gpio0 for what in shown.learned] == learned, "the line held GPIO0, and the firmware came all the same"


def test_two_boards_that_come_back_in_each_others_slots_keep_their_jobs() -> None:
    """Bound is by MAC and by nothing else: not by slot, and not by order."""
    station, first = waiting()
    _, second = waiting(station, ScriptedBoard(lines=False, mac=OTHER_MAC))
    shown = second_visit(station, second, slot="A1"), second_visit(station, first, slot="A2")
    assert [(one.job.id, one.job.mac, one.job.outcome) for one in shown] == [
        ("job-2", OTHER_MAC, Outcome.PASS),
        ("job-1", MAC, Outcome.PASS),
    ]


def test_a_job_survives_a_restart_of_the_station(tmp_path: Path) -> None:
    """Over the real records: visit one, the database closed and opened again, visit two closes the same row as PASS."""
    config, board = Config(station=StationSection(state_dir=str(tmp_path))), ScriptedBoard(lines=False)
    results = []
    for number, properties in enumerate((FLASH_ONLY, STICK), 1):
        with Database.open(config.database_url, station_id="test") as database:
            database.recover_running(database._now())
            lot = standing_lot(config, database, recipe_for())
            visit = visit_for(board, recipe_for(), slot=f"S{number}", visit_id=f"visit-{number}", properties=properties)
            results.append(run_visit(replace(visit, lot=lot), tools_for(board, database)))
            (job,) = database.jobs(10)
            assert job == results[-1]
            assert len(database.pending()) == (1 if number == 1 else 0)
            visits = database.visits(10)
        board.plug_in("free")
    assert [isinstance(result, CommittedJob) and result.state for result in results] == ["pending", "closed"]
    assert isinstance(results[1], CommittedJob)
    assert results[1].outcome is Outcome.PASS
    assert all(visit.job_ids == ("job-1",) for visit in visits)


def test_a_start_by_software_that_failed_is_made_good_by_a_cold_one() -> None:
    """One slot, one board: the first plug ends pending, the hand takes the jumper off, the second plug passes."""
    station, board = Station(), ScriptedBoard(lines=False).on("start", for_ever(lambda: "ignored"))
    assert station.visit(board).job.reason == "awaits_run_mode"
    shown = second_visit(station, board, slot="A1")
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.COLD)


@pytest.mark.parametrize("demand", ["all", "first 1"])
def test_a_demanded_cold_start_is_met_in_the_second_visit(demand: str) -> None:
    """The record of the PASS says cold."""
    station, board = Station(recipe_for(f'[policy]\ncold_boot = "{demand}"\n')), ScriptedBoard(lines=False)
    assert station.visit(board).job.state is JobState.PENDING
    shown = second_visit(station, board)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.COLD)


def test_a_firmware_that_is_slow_to_answer_is_waited_for_while_boards_wait() -> None:
    """At its very first start a board makes its filesystem and is silent: where a job waits, that is worth listening."""
    station, board = waiting()
    board.talks = False
    board.on("sign of life", [lambda: b"\x00\xff"])
    shown = second_visit(station, board)
    assert shown.job.outcome is Outcome.PASS


# -- evidence of both visits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", FLASHED)
@pytest.mark.parametrize("how", ["gone", "outside"])
def test_without_evidence_of_the_first_visit_there_is_no_pass(missing: str, how: str) -> None:
    """Each proof of what was flashed is taken from the record in turn: no PASS, named, and the job waits on."""
    station, board = waiting()
    records = station.records
    kept = [
        replace(each, within=each.name != missing)
        for each in records.ends["job-1"].measurements
        if how == "outside" or each.name != missing
    ]
    records.ends["job-1"] = replace(records.ends["job-1"], measurements=tuple(kept))
    finding = still_waits(station, second_visit(station, board), "evidence_missing")
    assert finding.detail == missing


@pytest.mark.parametrize("missing", [name for name in required_evidence(recipe_for()) if name not in FLASHED])
def test_without_evidence_of_the_second_visit_there_is_no_pass(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """What a test has to prove is proved in the visit that passes, whatever an earlier one measured."""
    station, board = waiting()
    measure = Evidence.measure
    monkeypatch.setattr(Evidence, "measure", lambda kept, one: measure(kept, one) if one.name != missing else None)
    finding = still_waits(station, second_visit(station, board), "evidence_missing")
    assert missing in finding.detail


def test_another_flash_chip_is_not_the_board_that_was_flashed() -> None:
    """Same MAC, other flash id, told by the firmware: no PASS, and the flashed one waits on."""
    station, board = waiting()
    board.jedec_id = 0x1640EF
    finding = still_waits(station, second_visit(station, board), "identity_mismatch")
    assert "1640ef" in finding.detail


def test_another_flash_chip_is_seen_by_the_loader_too() -> None:
    """In a slot whose lines start the firmware it is noticed before the start."""
    station, board = waiting()
    board.jedec_id = 0x1640EF
    shown = station.visit(board.plug_in("lines", lines=True), AUTO)
    assert "1640ef instead of 1440ef" in still_waits(station, shown, "identity_mismatch").detail
    assert board.count("reset into firmware") == 0


def test_another_chip_id_is_not_the_board_that_was_flashed() -> None:
    """MAC and unique_id() must agree with what the ROM told."""
    station, board = waiting()
    board.checks["identity"] = b'["5ccf7fddc142","43c1dd00"]'
    finding = still_waits(station, second_visit(station, board), "identity_mismatch")
    assert "chip_id" in finding.detail


# -- another board comes back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "reason"),
    [(STICK, "not_in_download_mode"), (replace(STICK, role=Role.TEST), "no_pending_job")],
    ids=["make", "test"],
)
def test_another_board_is_its_own_story(properties: SlotProperties, reason: str) -> None:
    """A stranger in run mode is a finding with its own MAC and no job; the first stays flashed, not tested."""
    station, _ = waiting()
    shown = station.visit(flashed_board(lines=False, gpio0="free", mac=OTHER_MAC), properties, slot="T1")
    assert (shown.finding.reason, shown.row.mac, shown.row.job_id) == (reason, OTHER_MAC, None)
    assert station.records.pending_macs() == {MAC}
    assert list(station.records.starts) == ["job-1"]


def test_a_new_board_is_made_while_another_waits() -> None:
    """A pending job binds its own board only."""
    station, _ = waiting()
    shown = station.visit(ScriptedBoard(mac=OTHER_MAC), slot="A1")
    assert (shown.job.id, shown.job.mac, shown.job.outcome) == ("job-2", OTHER_MAC, Outcome.PASS)
    assert station.records.pending_macs() == {MAC}


# -- not here and not now ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (STICK, "awaits_run_mode"),
        (RIG, "awaits_run_mode"),
        (replace(STICK, role=Role.TEST), "awaits_run_mode"),
        (SOLDERED, "awaits_test_slot"),
        (FLASH_ONLY, "awaits_test_slot"),
        (replace(AUTO, role=Role.FLASH), "awaits_test_slot"),
    ],
    ids=str,
)
def test_a_waiting_board_in_its_loader_is_not_written_again(properties: SlotProperties, reason: str) -> None:
    """Where nothing starts its firmware the words of its job are said once more, and not a byte is written."""
    station, board = waiting()
    has_lines = properties.reset is Reset.LINES
    board.plug_in("lines" if properties.gpio0 is Gpio0.LINES else "low", lines=has_lines)
    shown = station.visit(board, properties, slot="A1", test_slots=("T1",))
    finding = still_waits(station, shown, reason)
    assert finding.detail == ("T1" if reason == "awaits_test_slot" else "")
    assert bytes(board.flash) == image()


def test_a_waiting_board_in_its_firmware_is_not_tested_in_a_flash_slot() -> None:
    """A slot that flashes only sends it on."""
    station, board = waiting()
    shown = station.visit(board.plug_in("free"), replace(STICK, role=Role.FLASH), slot="A1", test_slots=("T1",))
    still_waits(station, shown, "awaits_test_slot")


@pytest.mark.parametrize("gpio0", ["free", "low"])
def test_under_another_recipe_a_waiting_board_waits(gpio0) -> None:
    """A job is tested under the recipe it was flashed under; another one that is loaded writes nothing over it."""
    station, board = waiting()
    station.recipe = recipe_for("[policy]\nattempts = 7\n")
    shown = station.visit(board.plug_in(gpio0), STICK, slot="A1")
    assert (shown.finding.reason, shown.finding.detail, shown.row.mac) == (Reason.PENDING_ELSEWHERE, "thing", MAC)
    assert station.records.pending_macs() == {MAC}
    assert writes(board) == 0


def test_a_person_may_have_a_waiting_board_made_again() -> None:
    """`--again` begins a job of its own, with the next number of attempt, and writes."""
    station, board = waiting()
    shown = station.visit(board.plug_in("low"), STICK, slot="A1", again=True)
    assert (shown.job.id, shown.job.outcome) == ("job-2", Outcome.PASS)
    assert writes(board) == 2


def test_a_result_the_records_cannot_take_is_held() -> None:
    """The end of a second visit is kept whole, as the end of the job that it closes, and green nowhere."""
    station, board = waiting()
    station.records.refuse = {"finish_job"}
    shown = second_visit(station, board)
    assert isinstance(shown.result, Held)
    (row,) = shown.result.rows
    assert (row.begun, row.start.id, row.end.outcome) == (True, "job-1", Outcome.PASS)
    assert station.records.pending_macs() == {MAC}
    assert len(bytes(board.flash)) == MIB


# -- when it comes back at ground again and again ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "reason"), [(STICK, "awaits_run_mode"), (SOLDERED, "awaits_test_slot")], ids=str
)
def test_a_board_that_keeps_coming_back_at_ground_calls_a_person(properties: SlotProperties, reason: str) -> None:
    """A forgotten jumper and a board that does not start look the same: it is never judged, and in the end called for."""
    station, board = waiting()
    shown = [station.visit(board.plug_in("low"), properties, slot="A1") for _ in range(RETURNS + 2)]
    assert [one.finding.reason for one in shown] == [reason] * RETURNS + ["never_started"] * 2
    assert [one.finding.detail for one in shown[RETURNS:]] == [str(RETURNS + 1), str(RETURNS + 2)]
    for one in shown:
        still_waits(station, one, one.finding.reason)
    assert second_visit(station, board).job.outcome is Outcome.PASS, "and when it starts after all, it is tested"


def test_silence_between_two_visits_is_held_against_nobody() -> None:
    """A board that does not start has no name, and an empty programmer is just as silent: nothing is tied to the job."""
    station, board = waiting()
    for _ in range(RETURNS + 1):
        board.plug_in("free").runs = "nothing"
        shown = station.visit(board, STICK, slot="A1")
        assert (shown.finding.reason, shown.row.mac, shown.row.job_id) == ("no_answer", "", None)
    still_waits(station, station.visit(board.plug_in("low"), STICK, slot="A1"), "awaits_run_mode")

"""Boards in run mode for which no job waits, and boards in their loader where nothing is flashed: policy, and no blame."""

from __future__ import annotations

from dataclasses import replace

import pytest

from station.errors import NothingBoots
from station.jobrun import required_evidence
from station.link import Evidence
from station.model import BootEvidence, JobState, KnownBoard, Measurement, Outcome, Phase
from station.properties import Gpio0, Reset, Role, SlotProperties
from station.recipe import Recipe
from tests.unit.job_rig import Shown, flashed_board, recipe_for, visited, writes
from tests.unit.memory_records import AUTO, STICK
from tests.unit.scripted_board import MAC, MIB, ScriptedBoard, for_ever

VENDOR = b"\xe9AT version:1.7.4.0".ljust(MIB, b"\xff")
FLASHED = ("flash_md5", "flash_real_size", "flash_rest_blank", "mac_after_write")
TEST = replace(STICK, role=Role.TEST)
NEVER_LOW = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.NEVER_LOW, role=Role.TEST)


def policy(word: str) -> Recipe:
    """The recipe with this policy for boards in run mode."""
    return recipe_for(f'[policy]\nrun_mode_board = "{word}"\n')


def stranger(**more) -> ScriptedBoard:
    """A board that runs MicroPython, plugged in without a jumper."""
    return flashed_board(**{"lines": False, "gpio0": "free", **more})


def found(shown: Shown, reason: str, mac: str = MAC) -> None:
    """A finding without a job; nothing was written."""
    assert (shown.finding.reason, shown.row.mac, shown.row.job_id) == (reason, mac, None)
    assert shown.records.starts == {}
    assert writes(shown.board) == 0


# -- run mode ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "properties", "reason"),
    [
        ("ignore", STICK, "not_in_download_mode"),
        ("ignore", replace(STICK, role=Role.FLASH), "not_in_download_mode"),
        ("ignore", TEST, "no_pending_job"),
        ("ignore", NEVER_LOW, "no_pending_job"),
        ("refuse", STICK, "not_flashed_here"),
        ("refuse", TEST, "not_flashed_here"),
        ("test", replace(STICK, role=Role.FLASH), "not_in_download_mode"),
    ],
)
def test_a_stranger_in_run_mode_is_what_the_recipe_says(word: str, properties: SlotProperties, reason: str) -> None:
    """Ignored with words for the slot, refused for the technician, or tested where the slot tests."""
    found(visited(stranger(), policy(word), properties=properties), reason)


@pytest.mark.parametrize("properties", [STICK, TEST, NEVER_LOW], ids=str)
def test_a_stranger_may_be_tested_without_being_flashed(properties: SlotProperties) -> None:
    """A job of its own that never touched flash: every check is evidence, and no proof of the content is pretended."""
    recipe = policy("test")
    shown = visited(stranger(), recipe, properties=properties)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.COLD)
    assert (shown.end.flash_touched, shown.end.bytes_flashed, shown.end.baud_used) == (False, 0, None)
    within = {each.name for each in shown.job.measurements if each.within}
    assert within >= set(required_evidence(recipe, flashed=False))
    assert not within & set(FLASHED)
    assert writes(shown.board) == 0
    assert shown.start.identity is not None
    assert (shown.start.identity.mac, shown.start.identity.otp_words) == (MAC, None)


def test_what_is_tested_only_needs_all_but_the_content() -> None:
    """The list of evidence is that of a flashed board without the proofs of its flash."""
    whole = required_evidence(recipe_for())
    assert required_evidence(recipe_for(), flashed=False) == tuple(name for name in whole if name not in FLASHED)


@pytest.mark.parametrize("missing", required_evidence(recipe_for(), flashed=False))
def test_a_stranger_without_one_piece_of_evidence_does_not_pass(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Each check is taken away in turn: ERROR, named."""
    measure = Evidence.measure

    def forget(evidence: Evidence, measurement: Measurement) -> None:
        if measurement.name != missing:
            measure(evidence, measurement)

    monkeypatch.setattr(Evidence, "measure", forget)
    shown = visited(stranger(), policy("test"), properties=TEST)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "evidence_missing")
    assert missing in shown.job.particulars


@pytest.mark.parametrize(
    "board",
    [
        stranger(checks={"free_ram": b"5"}),
        stranger(version="1.1.0"),
    ],
    ids=["ram", "version"],
)
def test_a_stranger_that_fails_is_on_record(board: ScriptedBoard) -> None:
    """Its FAIL is a row of its own, without an attempt at its flash."""
    shown = visited(board, policy("test"), properties=TEST)
    assert (shown.job.outcome, shown.job.reason, shown.end.flash_touched) == (Outcome.FAIL, "out_of_limits", False)


def test_a_stranger_never_waits_for_another_visit() -> None:
    """Another flash id in the middle of its test closes its job: there is no flashed board that could wait."""
    board = stranger()
    answers = iter((b"[4198127, 1048576]", b"[1, 1048576]"))
    board.checks["flash"] = lambda: next(answers)
    shown = visited(board, policy("test"), properties=TEST)
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (
        JobState.CLOSED,
        Outcome.ERROR,
        "identity_mismatch",
    )
    assert list(shown.records.ends) == ["job-1"]


@pytest.mark.parametrize("until", [Phase.CONNECT, Phase.VERIFY, Phase.BOOT, Phase.PROVISION])
def test_a_stranger_that_is_stopped_on_request_waits_for_nothing(until: Phase) -> None:
    """`until` closes the job of a board that was only tested, as ABORTED."""
    shown = visited(stranger(), policy("test"), properties=TEST, until=until)
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (
        JobState.CLOSED,
        Outcome.ABORTED,
        "stopped_by_request",
    )


@pytest.mark.parametrize("accepted", [False, True])
def test_a_stranger_with_a_known_mac_on_another_flash_is_flagged(*, accepted: bool) -> None:
    """G-3 holds for boards that are only tested, too: no PASS unless a person accepted that flash."""
    flashes = frozenset({0x1440EF}) if accepted else frozenset()
    known = KnownBoard(mac=MAC, flash_id=0x1640EF, attempts=0, accepted_flash_ids=flashes)
    shown = visited(stranger(), policy("test"), properties=TEST, known=known)
    assert shown.job.outcome is (Outcome.PASS if accepted else Outcome.ERROR)
    assert shown.job.reason == ("" if accepted else "mac_reused")


# -- firmware that is none of ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pending", [False, True], ids=["nothing waits", "something waits"])
@pytest.mark.parametrize(
    ("properties", "reason"), [(STICK, "not_in_download_mode"), (TEST, "no_answer"), (NEVER_LOW, "no_answer")]
)
def test_a_vendors_firmware_has_no_name(properties: SlotProperties, reason: str, *, pending: bool) -> None:
    """Text without a prompt is a board in the wrong mode: a finding, never a FAIL."""
    board = stranger(flash=bytearray(VENDOR))
    found(visited(board, policy("test"), properties=properties, some_pending=pending), reason, mac="")


@pytest.mark.parametrize("properties", [STICK, TEST, AUTO], ids=str)
def test_an_empty_programmer_is_never_a_fail(properties: SlotProperties) -> None:
    """Silence is a finding in every slot."""
    board = ScriptedBoard(lines=properties is AUTO, present=False)
    found(visited(board, properties=properties, some_pending=True), "no_answer", mac="")


def test_silence_is_known_quickly_where_nothing_waits() -> None:
    """Only where a firmware may be at its very first start is silence listened to for longer."""
    board = ScriptedBoard(lines=False, present=False)
    visited(board)
    assert board.clock.now_s == 1000.0


# -- in the loader, where nothing is flashed ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["ignore", "test", "refuse"])
def test_a_loader_in_a_test_slot_by_hand_is_in_the_wrong_mode(word: str) -> None:
    """Nothing there can start its firmware, so the hand is told; nothing is written."""
    found(visited(ScriptedBoard(lines=False), policy(word), properties=TEST), "in_download_mode")


@pytest.mark.parametrize(("word", "reason"), [("ignore", "no_pending_job"), ("refuse", "not_flashed_here")])
def test_a_loader_in_an_automatic_test_slot_is_what_the_recipe_says(word: str, reason: str) -> None:
    """A test slot never writes: a board for which no job waits is sent away."""
    found(visited(flashed_board(), policy(word), properties=replace(AUTO, role=Role.TEST)), reason)


def test_a_loader_in_an_automatic_test_slot_may_be_tested() -> None:
    """With the policy `test` its firmware is started by the lines and tested as it is."""
    shown = visited(flashed_board(), policy("test"), properties=replace(AUTO, role=Role.TEST))
    assert (shown.job.outcome, shown.end.boot_evidence, shown.end.flash_touched) == (
        Outcome.PASS,
        BootEvidence.RESET_LINE,
        False,
    )
    assert writes(shown.board) == 0


def test_a_loader_that_starts_nothing_in_a_test_slot_waits_for_nothing() -> None:
    """A board that was not flashed here and does not start is FAILed or closed, never pending and never written."""
    board = flashed_board().on("prompt", for_ever(NothingBoots("dark")))
    shown = visited(board, policy("test"), properties=replace(AUTO, role=Role.TEST))
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (JobState.CLOSED, Outcome.FAIL, "no_boot")
    grounded = flashed_board(gpio0="low").on("start", for_ever(lambda: "ignored"))
    shown = visited(grounded, policy("test"), properties=SlotProperties(reset=Reset.LINES, role=Role.TEST))
    assert (shown.job.state, shown.job.outcome) == (JobState.CLOSED, Outcome.ERROR)
    assert writes(grounded) == 0


@pytest.mark.parametrize("word", ["ignore", "test", "refuse"])
def test_a_test_slot_never_writes(word: str) -> None:
    """Whatever is in it and whatever the recipe says, the flash of a board in a test slot stays as it is."""
    for properties, gpio0 in ((AUTO, "lines"), (STICK, "low"), (STICK, "free")):
        for content in (None, VENDOR):
            board = flashed_board(lines=properties is AUTO, gpio0=gpio0)
            if content is not None:
                board.flash[:] = content
            before = bytes(board.flash)
            visited(board, policy(word), properties=replace(properties, role=Role.TEST))
            assert bytes(board.flash) == before
            assert writes(board) == 0

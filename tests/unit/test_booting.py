"""From loader to firmware by whatever the slot allows: by the lines, by software in the same plug, or by a second visit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from station.errors import (
    BootLooping,
    FilesystemCorrupt,
    LinkCorrupt,
    LinkSilent,
    NothingBoots,
    ReplGarbage,
    ReplSilent,
    StationError,
)
from station.jobrun import required_evidence
from station.model import BootEvidence, JobState, Outcome, Phase, StopCause
from station.properties import ANY_SLOT, Gpio0, Moves, Reset, Role, SlotProperties, refusal
from station.reasons import Reason, deed_for, words_for
from tests.unit.job_rig import Shown, Station, image, recipe_for, visited, writes
from tests.unit.memory_records import AUTO, STICK
from tests.unit.scripted_board import MAC, OTHER_MAC, Act, InstantStop, ScriptedBoard, for_ever
from tests.unit.small_image import small_recipe

RIG = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.HAND)
SOLDERED = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW)
COLD = recipe_for('[policy]\ncold_boot = "all"\n')
BY_SOFTWARE = [
    SlotProperties(reset=reset, gpio0=gpio0, moves=moves)
    for reset in (Reset.NONE, Reset.LINES)
    for gpio0 in (Gpio0.HAND, Gpio0.ALWAYS_LOW)
    for moves in Moves
]


def board_for(properties: SlotProperties) -> ScriptedBoard:
    """A board in such a slot, as the hand has put it in to be made."""
    by_line = properties.gpio0 in (Gpio0.LINES, None) and properties.reset is not Reset.NONE
    return ScriptedBoard(lines=properties.reset is not Reset.NONE, gpio0="lines" if by_line else "low")


def name_of(properties: SlotProperties) -> str:
    """For the test's name."""
    return f"{properties.reset} {properties.gpio0} {properties.moves} {properties.role}"


def said(shown: Shown, properties: SlotProperties) -> str:
    """Words and deed of the job's row, in such a slot."""
    reason, detail = Reason(shown.job.reason), shown.job.particulars
    return f"{words_for(reason, detail, properties)}; {deed_for(reason, detail, properties)}"


def waits(shown: Shown, reason: str) -> None:
    """It was flashed once, and waits."""
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (JobState.PENDING, None, reason)
    assert bytes(shown.board.flash) == image()
    assert writes(shown.board) == 2, "one erase and one write"
    assert shown.end.boot_evidence is None


# -- one plug ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("properties", BY_SOFTWARE, ids=name_of)
def test_without_a_line_to_gpio0_one_plug_is_enough(properties: SlotProperties) -> None:
    """GPIO0 stays at GND, the firmware is started by software, and the record says so; all evidence is there."""
    shown = visited(board_for(properties), properties=properties)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.SOFT)
    assert bytes(shown.board.flash) == image()
    assert {each.name for each in shown.job.measurements if each.within} >= set(required_evidence(recipe_for()))
    assert "legacy stub" in shown.board.journal, 'stub "2" ignores the start'
    assert shown.board.count("stub") == 0
    assert shown.board.count("start firmware") == 1
    assert shown.board.count("reset into firmware") == 0


@pytest.mark.parametrize("properties", BY_SOFTWARE, ids=name_of)
def test_after_a_start_by_software_the_chip_is_never_reset(properties: SlotProperties) -> None:
    """The file is read back after unmount and MicroPython's own soft reset; machine.reset() would land in the loader."""
    journal = visited(board_for(properties), properties=properties).board.journal
    after = journal[journal.index("start firmware") :]
    steps = [event for event in after if event in ("prompt", "file written", "umount", "soft reset", "leave")]
    assert steps == ["prompt", "file written", "umount", "soft reset", "leave"]
    assert not any(event.startswith(("machine.reset", "reset", "pulse", "connect")) for event in after)


def test_by_the_lines_the_board_is_reset_and_nothing_else() -> None:
    """Where lines reach EN and GPIO0 the fast stub is used, and both starts are hardware resets."""
    shown = visited(properties=AUTO)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.RESET_LINE)
    assert shown.board.count("stub") == 1
    assert shown.board.count("reset into firmware") == 2
    assert not {"legacy stub", "start firmware", "umount", "soft reset", "machine.reset"} & set(shown.board.journal)


def all_properties() -> Iterator[SlotProperties]:
    """Every combination that is not refused, the unknown included."""
    for reset in (*Reset, None):
        for gpio0 in (*Gpio0, None):
            for moves in Moves:
                for role in Role:
                    properties = SlotProperties(reset=reset, gpio0=gpio0, moves=moves, role=role)
                    if not refusal(properties):
                        yield properties


@pytest.mark.parametrize("properties", [p for p in all_properties() if p.flashes], ids=name_of)
def test_every_slot_that_flashes_makes_a_good_board(properties: SlotProperties) -> None:
    """A make slot of any wiring passes a good board in one plug; a flash slot leaves it verified, for a test slot."""
    shown = visited(board_for(properties), properties=properties, test_slots=("T1",))
    assert bytes(shown.board.flash) == image()
    assert writes(shown.board) == 2
    assert shown.job.outcome is (Outcome.PASS if properties.role is Role.MAKE else None)
    if properties.role is Role.FLASH:
        waits(shown, "awaits_test_slot")


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_restart_under_load_after_a_start_by_software_is_a_brownout(tmp_path: Path, allowed: int) -> None:
    """With GPIO0 at GND a board that gives way ends in its loader, silent: that is resetting under load, not a dead REPL.

    No recipe can allow for that: nothing goes on from there.
    """
    recipe = small_recipe(tmp_path, f"[checks.boot]\nunexpected_boots = {allowed}\n")
    board = ScriptedBoard(lines=False)

    def gives_way() -> None:
        board.runs = "rom"
        raise ReplSilent("never ended")

    board.checks["wifi_start"] = gives_way
    shown = visited(board, recipe)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "brownout")


def test_a_check_that_never_ends_after_a_start_by_software_is_a_silent_repl() -> None:
    """Where no loader answers either, the firmware hangs."""
    shown = visited(ScriptedBoard(lines=False, checks={"free_ram": ReplSilent("never ended")}))
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "repl_silent")


def test_a_filesystem_that_is_not_mounted_anew_is_found() -> None:
    """What MicroPython's soft reset does not bring back is lost data, as it is after a reset by the lines."""
    board = ScriptedBoard(lines=False)

    def lose(event: str) -> None:
        if event == "soft reset":
            board.stored = None

    board.watch = lose
    shown = visited(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "filesystem_lost_data")


# -- when the start by software does not come to anything --------------------------------------------------------------


def ignored(board: ScriptedBoard) -> None:
    """Run user code is not obeyed."""
    board.on("start", for_ever(lambda: "ignored"))


def dark(board: ScriptedBoard) -> None:
    """It leaves its loader and nothing comes."""

    def leave() -> str:
        board.runs = "nothing"
        return "left"

    board.on("start", [leave])


def says(error: Act):
    """The prompt does not come, for this reason."""
    return lambda board: board.on("prompt", for_ever(error))


NO_PROMPT = [ignored, dark, *map(says, (NothingBoots("n"), BootLooping("b"), ReplSilent("s"), ReplGarbage("g")))]
IDS = ["ignored", "dark", "nothing", "loop", "silent", "garbage"]


@pytest.mark.parametrize("happens", NO_PROMPT, ids=IDS)
@pytest.mark.parametrize("properties", [STICK, RIG], ids=name_of)
def test_without_a_prompt_the_hand_takes_gpio0_off(properties: SlotProperties, happens) -> None:
    """The job is pending, the words ask for the jumper, the record has what was tried; nothing is written twice."""
    board = board_for(properties)
    happens(board)
    shown = visited(board, properties=properties)
    waits(shown, "awaits_run_mode")
    assert "GPIO0 off GND" in said(shown, properties)
    assert "no prompt after a start by software" in shown.job.detail
    assert (shown.job.phases[-1].phase, shown.job.phases[-1].outcome) == (Phase.BOOT, "SKIPPED")
    assert shown.job.phases[-2].outcome == "PASS", "VERIFY"


@pytest.mark.parametrize("happens", NO_PROMPT, ids=IDS)
@pytest.mark.parametrize("properties", [SOLDERED, replace(RIG, gpio0=Gpio0.ALWAYS_LOW)], ids=name_of)
def test_without_a_prompt_a_soldered_slot_names_the_test_slots(properties: SlotProperties, happens) -> None:
    """Nobody is told to move a jumper that is solder: the next place is named."""
    board = board_for(properties)
    happens(board)
    shown = visited(board, properties=properties, test_slots=("T1", "T2"))
    waits(shown, "awaits_test_slot")
    assert shown.job.particulars == "T1 or T2"
    assert "test slot T1 or T2" in said(shown, properties)
    assert "GPIO0" not in said(shown, properties)


def test_an_ignored_start_is_known_within_seconds() -> None:
    """A loader that still answers is not waited for until the boot deadline."""
    board = ScriptedBoard(lines=False)
    ignored(board)
    visited(board)
    assert board.clock.now_s - 1000 < 10


def test_another_flash_mode_is_not_tried_by_software() -> None:
    """Without lines a board that does not come up in dio cannot be brought back into its loader: it waits, as written."""
    recipe = recipe_for('[flash]\nmode = "dio"\n')
    shown = visited(ScriptedBoard(lines=False).on("prompt", for_ever(BootLooping("again"))), recipe)
    assert (shown.job.state, shown.job.reason, shown.end.flash_mode) == (JobState.PENDING, "awaits_run_mode", "dio")
    assert bytes(shown.board.flash) == image(recipe)


def test_a_corrupt_filesystem_is_made_once_more_where_a_line_resets() -> None:
    """Also after a start by software: the line brings the board back into its loader, and all of it is erased."""
    shown = visited(board_for(RIG).on("prompt", [FilesystemCorrupt("looks corrupt")]), properties=RIG)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.SOFT)
    assert shown.board.count("erase at 460800") == 2


def test_a_corrupt_filesystem_without_lines_is_nobodys_fault_yet() -> None:
    """Nothing brings this board back into its loader but a hand: AGAIN with GPIO0 at GND, no PASS and no FAIL."""
    shown = visited(ScriptedBoard(lines=False).on("prompt", [FilesystemCorrupt("looks corrupt")]))
    assert (shown.job.state, shown.job.outcome, shown.job.reason) == (
        JobState.CLOSED,
        Outcome.ERROR,
        "not_in_download_mode",
    )
    assert writes(shown.board) == 2


@pytest.mark.parametrize("cause", [StopCause.UNPLUGGED, StopCause.SHUTDOWN])
def test_a_pull_between_verify_and_prompt_is_no_board_that_waits(cause: StopCause) -> None:
    """A visit that a hand ends itself closes its job: only what the station gave up by itself waits."""
    board = ScriptedBoard(lines=False)
    stop = InstantStop(board.clock)
    board.on("prompt", [lambda: stop.request(cause)])
    shown = visited(board, stop=stop)
    assert (shown.job.state, shown.job.outcome) == (JobState.CLOSED, Outcome.ABORTED)


# -- a hardware start on demand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "reason"), [(STICK, "awaits_run_mode"), (RIG, "awaits_run_mode"), (SOLDERED, "awaits_test_slot")]
)
def test_a_recipe_may_demand_a_hardware_start(properties: SlotProperties, reason: str) -> None:
    """With cold_boot = "all" a slot that can only start by software does not even try: it waits right after VERIFY."""
    shown = visited(board_for(properties), COLD, properties=properties)
    waits(shown, reason)
    assert shown.board.count("start firmware") == 0
    assert not any("prompt" in event for event in shown.board.journal)


def test_a_reset_by_the_lines_is_a_hardware_start() -> None:
    """Where the lines start the firmware the demand is met in one plug."""
    shown = visited(recipe=COLD)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.RESET_LINE)


@pytest.mark.parametrize(
    ("demand", "waiting"), [("first 2", [1, 2]), ("every 3", [3, 6]), ("never", []), ("all", [1, 2, 3, 4, 5, 6])]
)
def test_a_share_of_the_boards_must_start_cold(demand: str, waiting: list[int]) -> None:
    """Boards are counted in the order of their first attempt; those that are due wait, the others pass in one plug."""
    station = Station(recipe_for(f'[policy]\ncold_boot = "{demand}"\n'))
    boards = [ScriptedBoard(lines=False, mac=f"5c:cf:7f:00:01:0{number}") for number in range(1, 7)]
    shown = [station.visit(board) for board in boards]
    assert [number for number, one in enumerate(shown, 1) if one.job.state is JobState.PENDING] == waiting
    assert all(one.job.outcome is Outcome.PASS for one in shown if one.job.state is JobState.CLOSED)


# -- a slot that flashes only ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("properties", [AUTO, STICK, RIG, SOLDERED], ids=name_of)
def test_a_flash_slot_ends_after_verify(properties: SlotProperties) -> None:
    """The job is pending with VERIFY passed and every proof of the content on record; nothing was started."""
    properties = replace(properties, role=Role.FLASH)
    shown = visited(board_for(properties), properties=properties, test_slots=("T1", "T2"))
    waits(shown, "awaits_test_slot")
    assert [(phase.phase, phase.outcome) for phase in shown.job.phases] == [
        (Phase.CONNECT, "PASS"),
        (Phase.FLASH, "PASS"),
        (Phase.VERIFY, "PASS"),
    ]
    within = {each.name for each in shown.job.measurements if each.within}
    assert within == {"flash_md5", "flash_real_size", "flash_rest_blank", "mac_after_write"}
    assert shown.job.particulars == "T1 or T2"
    assert "flashed, not tested: next, test slot T1 or T2" in said(shown, properties)
    assert not {"start firmware", "reset into firmware", "prompt"} & set(shown.board.journal)


def test_without_any_test_slot_another_bench_is_named() -> None:
    """A bench that cannot test says so."""
    shown = visited(properties=replace(AUTO, role=Role.FLASH))
    assert shown.job.particulars == "of another bench"


# -- a slot that turns out to be another -------------------------------------------------------------------------------


def test_a_line_that_releases_gpio0_is_found_out_by_the_boot_message() -> None:
    """Of an unknown slot the first board tells both: the reset line brings the message, and mode 3 the firmware."""
    shown = visited(properties=ANY_SLOT)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.RESET_LINE)
    assert [(what.reset, what.gpio0) for what in shown.learned] == [(Reset.LINES, None), (None, Gpio0.LINES)]
    assert all(what.evidence for what in shown.learned)
    assert "boot mode 3" in shown.learned[1].evidence


def test_a_jumper_beside_the_lines_is_found_out_by_the_boot_message() -> None:
    """Mode 1 after a reset with GPIO0 released: a hand holds it, and the board is started by software in the same plug."""
    shown = visited(ScriptedBoard(gpio0="low"), properties=ANY_SLOT)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.SOFT)
    assert [(what.reset, what.gpio0) for what in shown.learned] == [(Reset.LINES, None), (None, Gpio0.HAND)]
    assert "boot mode 1" in shown.learned[1].evidence
    assert writes(shown.board) == 2


def test_a_jumper_that_was_forgotten_in_an_automatic_slot_costs_nothing() -> None:
    """The lines ought to start the firmware and the loader answers instead: it is started by software."""
    shown = visited(ScriptedBoard(gpio0="low"), properties=AUTO)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.SOFT)
    assert shown.board.count("reset into firmware") == 1
    assert [what.gpio0 for what in shown.learned] == [Gpio0.HAND]


@pytest.mark.parametrize("modem_lines", [False, True], ids=["no lines", "lines that lead nowhere"])
def test_a_stick_without_reset_is_found_out(modem_lines: bool) -> None:  # noqa: FBT001
    """A port whose lines do not exist, or reach nothing, is reset = none; the board is made in the same plug."""
    shown = visited(ScriptedBoard(lines=False, modem_lines=modem_lines), properties=ANY_SLOT)
    assert (shown.job.outcome, shown.end.boot_evidence) == (Outcome.PASS, BootEvidence.SOFT)
    assert [(what.reset, what.gpio0) for what in shown.learned] == [(Reset.NONE, None)]


def test_what_is_known_is_not_probed() -> None:
    """A slot that says what it is gets no pulse and learns nothing."""
    for properties in (AUTO, STICK, RIG, SOLDERED):
        shown = visited(board_for(properties), properties=properties)
        assert shown.learned == []
        assert shown.board.count("pulse") == 0


def test_a_board_that_is_gone_after_the_reset_teaches_nothing_wrong() -> None:
    """Where neither message nor loader comes after the reset, the board was lifted, and the slot stays unknown."""
    board = ScriptedBoard()
    board.on("prompt", for_ever(NothingBoots("dark")))
    board.watch = lambda event: event == "reset into firmware" and setattr(board, "present", False)  # type: ignore[func-returns-value, assignment]
    shown = visited(board, properties=SlotProperties(reset=Reset.LINES))
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ABORTED, "board_removed")
    assert shown.learned == []


def test_the_identity_of_the_boards_is_never_mixed() -> None:
    """One plug is one board: who answers after the start by software must be who was flashed."""
    shown = visited(ScriptedBoard(lines=False, run_mac="5c:cf:7f:00:00:07"))
    flashed, other = shown.records.ends.values()
    assert (flashed.state, flashed.reason) == (JobState.PENDING, "identity_mismatch")
    assert (other.outcome, shown.records.starts["job-1"].observed_mac) == (Outcome.ERROR, MAC)


@pytest.mark.parametrize("broken", [LinkSilent("silence"), LinkCorrupt("noise")], ids=["silent", "corrupt"])
def test_a_link_that_breaks_at_the_start_leaves_the_board_waiting(broken: StationError) -> None:
    """Whatever keeps the start by software from a verified board, the second visit is still there for it."""
    waits(visited(ScriptedBoard(lines=False).on("start", [broken])), "awaits_run_mode")


@pytest.mark.parametrize("properties", [each for each in BY_SOFTWARE if each.board_moves], ids=name_of)
def test_a_board_that_is_gone_before_it_is_started_was_lifted(properties: SlotProperties) -> None:
    """The loader that just answered does not take the order to start, nor any other: a hand was there, so nothing waits."""
    board = board_for(properties)

    def lift() -> None:
        board.present = False
        raise LinkSilent("no answer")

    shown = visited(board.on("start", [lift]), properties=properties)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ABORTED, "board_removed")


@pytest.mark.parametrize("properties", BY_SOFTWARE, ids=name_of)
def test_a_loader_that_does_not_take_the_order_to_start_leaves_the_board_waiting(properties: SlotProperties) -> None:
    """It is silent once and answers again: the board is there, flashed, and not tested."""
    board = board_for(properties).on("start", [LinkSilent("no answer")])
    assert visited(board, properties=properties).job.state is JobState.PENDING


@pytest.mark.parametrize("wiring", [AUTO, STICK], ids=name_of)
@pytest.mark.parametrize("moves", Moves)
def test_what_another_board_says_is_not_held_against_the_one_that_was_tested(
    wiring: SlotProperties, moves: Moves
) -> None:
    """Exchanged in the middle of its test, where boards move: a hand was there. Elsewhere nonsense is a fault of the board."""
    properties = replace(wiring, moves=moves)
    board = board_for(properties)

    def exchange() -> None:
        board.mac, board.runs = OTHER_MAC, "rom"
        raise ReplGarbage("a ROM is no prompt")

    board.checks["free_ram"] = exchange
    job = visited(board, properties=properties).job
    expected = (Outcome.ABORTED, "board_removed") if properties.board_moves else (Outcome.FAIL, "repl_garbage")
    assert (job.outcome, job.reason) == expected


# --- the restart that proves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("properties", [AUTO, STICK], ids=["by the lines", "by software"])
def test_a_restart_that_never_was_proves_nothing(properties: SlotProperties) -> None:
    """Whoever answers with the memory of before did not restart: an ERROR, whatever the board says of its files."""
    board = board_for(properties)

    def remembers() -> None:
        board.files.memory["station_mark"] = 1

    shown = visited(board.on("run", for_ever(remembers)), properties=properties)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "evidence_missing")
    assert "the restart (the memory of before is still there)" in shown.job.detail

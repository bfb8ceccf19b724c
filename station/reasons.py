"""The closed list of reasons: what each thing that can go wrong is, whose fault, which tray, and in what words.

The one place in the program where a reason meets its outcome, its tray and the words a person reads; page, terminal, log
and records all take them from here. Changing the list takes a decision record (see `docs/decisions/`). A reason that has
no outcome is a finding of a visit that never became a job: it is in no yield.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from station.model import Light, Outcome, Tray
from station.properties import ANY_SLOT, Gpio0, Reset, SlotProperties


class Reason(StrEnum):
    """Why a job did not pass, or what a visit without a job found."""

    NO_ANSWER = "no_answer"
    NOT_IN_DOWNLOAD_MODE = "not_in_download_mode"
    ADAPTER_ECHO = "adapter_echo"
    PORT_BUSY = "port_busy"
    PORT_DENIED = "port_denied"
    LINK_UNRELIABLE = "link_unreliable"
    LINK_LOST = "link_lost"
    DEADLINE = "deadline"
    UNPLUGGED = "unplugged"
    BOARD_REMOVED = "board_removed"
    BOARD_RESET = "board_reset"
    VERIFY_MISMATCH = "verify_mismatch"
    VERIFY_UNSTABLE = "verify_unstable"
    FLASH_WRITE_PROTECTED = "flash_write_protected"
    FLASH_NO_ANSWER = "flash_no_answer"
    FLASH_UNKNOWN = "flash_unknown"
    FLASH_TOO_SMALL = "flash_too_small"
    FLASH_SIZE_FAKE = "flash_size_fake"
    FILESYSTEM_LOST_DATA = "filesystem_lost_data"
    NO_BOOT = "no_boot"
    BOOT_LOOP = "boot_loop"
    BROWNOUT = "brownout"
    FILESYSTEM_CORRUPT = "filesystem_corrupt"
    REPL_SILENT = "repl_silent"
    REPL_GARBAGE = "repl_garbage"
    CHECK_RAISED = "check_raised"
    OUT_OF_LIMITS = "out_of_limits"
    IDENTITY_MISMATCH = "identity_mismatch"
    IDENTITY_INVALID = "identity_invalid"
    WRONG_CHIP = "wrong_chip"
    DUPLICATE_MAC = "duplicate_mac"
    MAC_REUSED = "mac_reused"
    ADAPTER_DEAF = "adapter_deaf"
    ADAPTER_HUNG = "adapter_hung"
    HUB_DISTURBED = "hub_disturbed"
    STATION_RESTARTED = "station_restarted"
    STATION_STOPPED = "station_stopped"
    STATION_BUG = "station_bug"
    EVIDENCE_MISSING = "evidence_missing"
    RECORDS_UNWRITABLE = "records_unwritable"
    IMAGE_CHANGED = "image_changed"
    ALREADY_DONE = "already_done"
    STOPPED_BY_REQUEST = "stopped_by_request"
    AWAITS_RUN_MODE = "awaits_run_mode"
    AWAITS_TEST_SLOT = "awaits_test_slot"
    TEST_INTERRUPTED = "test_interrupted"
    NEVER_STARTED = "never_started"
    IN_DOWNLOAD_MODE = "in_download_mode"
    NO_PENDING_JOB = "no_pending_job"
    NOT_FLASHED_HERE = "not_flashed_here"
    PENDING_ELSEWHERE = "pending_elsewhere"
    PASSED_BEFORE = "passed_before"
    MARKED_BOARD = "marked_board"
    ATTEMPTS_USED_UP = "attempts_used_up"
    INSPECTED = "inspected"
    NO_WORK_ORDER = "no_work_order"
    NO_RECIPE = "no_recipe"
    UNKNOWN_PLACE = "unknown_place"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason says to the records and to the person."""

    outcome: Outcome | None
    """None for findings (no job) and for jobs that wait."""
    tray: Tray
    words: str
    """What the person reads; `{detail}` is replaced by the particulars of this case."""
    cause: str
    """The likely cause, for the technician."""
    deed: str
    """What the hand does next."""

    @property
    def light(self) -> Light:
        """The light that belongs to the tray; PASS is never reached from a reason."""
        match self.tray:
            case Tray.BAD:
                return Light.FAIL
            case Tray.CALL:
                return Light.FAULT
            case Tray.GOOD | Tray.AGAIN | Tray.NONE:
                return Light.ACTION


_UNPLUG = "unplug"
_AGAIN = "unplug, try another slot"
_CALL = "call the technician"
_BAD = "unplug, put the board into BAD"

MEANINGS: dict[Reason, Meaning] = {
    Reason.NO_ANSWER: Meaning(
        None,
        Tray.NONE,
        "no answer: re-seat the board, GPIO0 to GND, plug in again",
        "board missing, not seated, without power, or dead",
        "re-seat the board, GPIO0 to GND, plug in again",
    ),
    Reason.NOT_IN_DOWNLOAD_MODE: Meaning(
        None,
        Tray.NONE,
        "hold GPIO0 to GND and plug in again",
        "the board started its firmware: GPIO0 was not at GND when it got power",
        "hold GPIO0 to GND and plug in again",
    ),
    Reason.ADAPTER_ECHO: Meaning(
        None, Tray.CALL, "adapter echoes: TX and RX shorted", "TX and RX of the programmer touch", _CALL
    ),
    Reason.PORT_BUSY: Meaning(
        None, Tray.CALL, "port held by {detail}", "another program has the serial port open", _CALL
    ),
    Reason.PORT_DENIED: Meaning(
        None,
        Tray.CALL,
        "no permission to open {detail}",
        "the station's user is not in the port's group, or the udev rule is not installed",
        _CALL,
    ),
    Reason.LINK_UNRELIABLE: Meaning(
        Outcome.ERROR, Tray.AGAIN, "bad contact: try another slot", "bytes arrive damaged at every baud rate", _AGAIN
    ),
    Reason.LINK_LOST: Meaning(
        Outcome.ERROR, Tray.AGAIN, "lost the board: try another slot", "the board stopped answering", _AGAIN
    ),
    Reason.DEADLINE: Meaning(
        Outcome.ERROR, Tray.AGAIN, "no progress: unplug, try another slot", "the board never answered again", _AGAIN
    ),
    Reason.UNPLUGGED: Meaning(
        Outcome.ABORTED,
        Tray.AGAIN,
        "pulled too early: half-flashed, do not ship",
        "the programmer was unplugged during the job",
        "plug in again",
    ),
    Reason.BOARD_REMOVED: Meaning(
        Outcome.ABORTED,
        Tray.AGAIN,
        "lifted too early: half-flashed, do not ship",
        "the board was lifted from its programmer during the job",
        "seat the board, plug in again",
    ),
    Reason.BOARD_RESET: Meaning(
        Outcome.ERROR,
        Tray.AGAIN,
        "supply weak or bad contact: try another slot",
        "the board restarted by itself while it was written",
        _AGAIN,
    ),
    Reason.VERIFY_MISMATCH: Meaning(
        Outcome.FAIL, Tray.BAD, "flash memory faulty", "the same wrong content after two writes", _BAD
    ),
    Reason.VERIFY_UNSTABLE: Meaning(
        Outcome.ERROR, Tray.AGAIN, "supply or contact: try another slot", "wrong content, each time another", _AGAIN
    ),
    Reason.FLASH_WRITE_PROTECTED: Meaning(
        Outcome.FAIL, Tray.BAD, "flash is write-protected", "nothing could be written", _BAD
    ),
    Reason.FLASH_NO_ANSWER: Meaning(
        Outcome.FAIL, Tray.BAD, "flash does not answer", "the flash chip's id reads {detail}", _BAD
    ),
    Reason.FLASH_UNKNOWN: Meaning(
        Outcome.ERROR, Tray.CALL, "unknown flash chip, ask the engineer", "flash id {detail} names no size", _CALL
    ),
    Reason.FLASH_TOO_SMALL: Meaning(
        Outcome.FAIL, Tray.BAD, "{detail}", "the flash is too small for every image of the recipe", _BAD
    ),
    Reason.FLASH_SIZE_FAKE: Meaning(
        Outcome.FAIL, Tray.BAD, "flash smaller than it claims", "addresses wrap around: {detail}", _BAD
    ),
    Reason.FILESYSTEM_LOST_DATA: Meaning(
        Outcome.FAIL, Tray.BAD, "flash loses data", "a file read back after a reset is not what was written", _BAD
    ),
    Reason.NO_BOOT: Meaning(
        Outcome.FAIL, Tray.BAD, "does not start", "written and verified, but no firmware comes up", _BAD
    ),
    Reason.BOOT_LOOP: Meaning(
        Outcome.FAIL, Tray.BAD, "restarts for ever", "the start message comes again and again", _BAD
    ),
    Reason.BROWNOUT: Meaning(
        Outcome.FAIL, Tray.BAD, "resets under load", "the board restarted when its radio was switched on", _BAD
    ),
    Reason.FILESYSTEM_CORRUPT: Meaning(
        Outcome.FAIL, Tray.BAD, "filesystem cannot be made", "reported corrupt even after a full erase", _BAD
    ),
    Reason.REPL_SILENT: Meaning(Outcome.FAIL, Tray.BAD, "no REPL", "the firmware starts but gives no prompt", _BAD),
    Reason.REPL_GARBAGE: Meaning(
        Outcome.FAIL, Tray.BAD, "answers nonsense", "what the REPL answered does not carry this run's mark", _BAD
    ),
    Reason.CHECK_RAISED: Meaning(
        Outcome.FAIL, Tray.BAD, "check {detail} crashed", "the check raised an exception on the board", _BAD
    ),
    Reason.OUT_OF_LIMITS: Meaning(Outcome.FAIL, Tray.BAD, "{detail}", "a measured value is outside its limits", _BAD),
    Reason.IDENTITY_MISMATCH: Meaning(
        Outcome.ERROR,
        Tray.AGAIN,
        "this is not the board that was flashed",
        "another board answered in run mode: {detail}",
        "plug in again",
    ),
    Reason.IDENTITY_INVALID: Meaning(
        Outcome.FAIL, Tray.BAD, "no valid MAC", "the identity words of the chip are unusable: {detail}", _BAD
    ),
    Reason.WRONG_CHIP: Meaning(Outcome.FAIL, Tray.BAD, "wrong part", "the chip is not an ESP8266: {detail}", _BAD),
    Reason.DUPLICATE_MAC: Meaning(
        Outcome.ERROR, Tray.CALL, "two boards with one MAC", "the same MAC answers in two slots: {detail}", _CALL
    ),
    Reason.MAC_REUSED: Meaning(
        Outcome.ERROR,
        Tray.CALL,
        "MAC seen before on another board",
        "known MAC with another flash chip: {detail}",
        _CALL,
    ),
    Reason.ADAPTER_DEAF: Meaning(
        None, Tray.CALL, "programmer deaf: re-plug it", "reads return nothing, also after re-opening", _CALL
    ),
    Reason.ADAPTER_HUNG: Meaning(
        None, Tray.CALL, "programmer hangs: re-plug it", "the adapter does not answer control requests", _CALL
    ),
    Reason.HUB_DISTURBED: Meaning(
        Outcome.ERROR,
        Tray.AGAIN,
        "hub disturbed, wait",
        "several slots of one hub were lost together: its plug, its cable, or its supply",
        "wait; if it does not go on by itself, plug in again",
    ),
    Reason.STATION_RESTARTED: Meaning(
        Outcome.ABORTED,
        Tray.AGAIN,
        "station restarted: half-flashed, do not ship",
        "the station was killed while the job was running",
        "plug in again",
    ),
    Reason.STATION_STOPPED: Meaning(
        Outcome.ABORTED,
        Tray.AGAIN,
        "station was stopped: half-flashed, do not ship",
        "the station was asked to stop while the job was running",
        "plug in again",
    ),
    Reason.STATION_BUG: Meaning(
        Outcome.ERROR, Tray.CALL, "station error: {detail}", "a mistake in the station's own program", _CALL
    ),
    Reason.EVIDENCE_MISSING: Meaning(
        Outcome.ERROR, Tray.CALL, "no proof of: {detail}", "the job ended without the evidence a PASS needs", _CALL
    ),
    Reason.RECORDS_UNWRITABLE: Meaning(
        None, Tray.CALL, "records cannot be written", "the database is full, read-only, locked or corrupt", _CALL
    ),
    Reason.IMAGE_CHANGED: Meaning(
        None, Tray.CALL, "firmware file changed", "recipe or image on disk differ from what was loaded", _CALL
    ),
    Reason.ALREADY_DONE: Meaning(
        None, Tray.GOOD, "already done", "this board passed under the same recipe before", "unplug, put into GOOD"
    ),
    Reason.STOPPED_BY_REQUEST: Meaning(
        None, Tray.NONE, "stopped after {detail} as asked", "--until was given", _UNPLUG
    ),
    Reason.AWAITS_RUN_MODE: Meaning(
        None,
        Tray.AGAIN,
        "flashed, not tested: take GPIO0 off GND and plug in again",
        "this slot cannot start the firmware by itself",
        "take GPIO0 off GND and plug in again",
    ),
    Reason.AWAITS_TEST_SLOT: Meaning(
        None,
        Tray.NONE,
        "flashed, not tested: next, test slot {detail}",
        "this slot flashes only, or holds GPIO0 at GND for ever",
        "put the board into test slot {detail}",
    ),
    Reason.TEST_INTERRUPTED: Meaning(
        None,
        Tray.AGAIN,
        "taken out during the test: flashed, not tested, do not ship",
        "the board was taken away, or the station stopped, while a flashed board was tested: {detail}",
        "plug in again",
    ),
    Reason.NEVER_STARTED: Meaning(
        None,
        Tray.CALL,
        "flashed, never tested: came back {detail} times with GPIO0 at GND",
        "the board does not start without the jumper, or the jumper was left on each time",
        _CALL,
    ),
    Reason.IN_DOWNLOAD_MODE: Meaning(
        None,
        Tray.NONE,
        "take GPIO0 off GND and plug in again",
        "the board started its loader where its firmware was wanted: GPIO0 was at GND when it got power",
        "take GPIO0 off GND and plug in again",
    ),
    Reason.NO_PENDING_JOB: Meaning(
        None,
        Tray.NONE,
        "nothing to test: flash this board first",
        "no job on record waits for this board",
        "put the board into a slot that flashes",
    ),
    Reason.NOT_FLASHED_HERE: Meaning(
        None,
        Tray.CALL,
        "this board was not flashed here",
        "a firmware runs on it, no job waits for it, and the recipe refuses such boards",
        _CALL,
    ),
    Reason.PENDING_ELSEWHERE: Meaning(
        None,
        Tray.CALL,
        "flashed under another recipe: {detail}",
        "its job waits for a test under a recipe that is not loaded now",
        _CALL,
    ),
    Reason.PASSED_BEFORE: Meaning(
        None,
        Tray.CALL,
        "passed before as {detail}: not flashed again",
        "the board passed under another recipe; a named person may open a rework",
        _CALL,
    ),
    Reason.MARKED_BOARD: Meaning(
        None,
        Tray.CALL,
        "{detail} board: never flashed",
        "a named person marked this board",
        _CALL,
    ),
    Reason.ATTEMPTS_USED_UP: Meaning(
        None,
        Tray.BAD,
        "judged not good {detail} times",
        "the recipe allows no further attempt; a named person may open a rework",
        _BAD,
    ),
    Reason.INSPECTED: Meaning(None, Tray.NONE, "inspected: {detail}", "this slot only reads", _UNPLUG),
    Reason.NO_WORK_ORDER: Meaning(
        None, Tray.NONE, "NO WORK ORDER: open a lot", "no lot is open", "ask for the work order (station lot open)"
    ),
    Reason.NO_RECIPE: Meaning(
        None, Tray.CALL, "NO RECIPE: the station does not know what to make", "the configuration names no recipe", _CALL
    ),
    Reason.UNKNOWN_PLACE: Meaning(
        None, Tray.NONE, "unknown place: not a slot of this bench", "the place is not in the slot map", "use a slot"
    ),
}
"""Every reason has exactly one meaning; a test holds this table against the list of outcomes written by hand."""


HEADLINES: dict[Reason, str] = {
    Reason.NO_WORK_ORDER: "NO WORK ORDER",
    Reason.NO_RECIPE: "NO RECIPE",
    Reason.ALREADY_DONE: "ALREADY DONE",
    Reason.AWAITS_TEST_SLOT: "TEST NEXT",
    Reason.AWAITS_RUN_MODE: "TEST NEXT",
    Reason.INSPECTED: "INSPECTED",
}
"""The one big word where the tray does not say enough."""

_RESEAT = "re-seat the board, plug in again"
_TEST_SLOT = "a slot that tests"
_NO_LOADER = "the board does not enter its loader: re-seat it"


def headline_for(reason: Reason) -> str:
    """Return the one big word for `reason`."""
    tray = MEANINGS[reason].tray
    return HEADLINES.get(reason, tray if tray is not Tray.NONE else "ACTION")


def words_for(reason: Reason, detail: str = "", slot: SlotProperties = ANY_SLOT) -> str:
    """Return what the person reads for `reason` in such a slot, with the particulars of this case filled in."""
    return _said(_in_slot(reason, slot)[0], detail, slot)


def deed_for(reason: Reason, detail: str = "", slot: SlotProperties = ANY_SLOT) -> str:
    """Return what the hand does next in such a slot; empty when nothing is to be done."""
    return _said(_in_slot(reason, slot)[1], detail, slot)


def cause_of(reason: Reason, detail: str = "") -> str:
    """Return the likely cause, with the particulars of this case filled in."""
    return MEANINGS[reason].cause.replace("{detail}", detail or "?")


def _in_slot(reason: Reason, slot: SlotProperties) -> tuple[str, str]:
    """Words and deed: nobody is told to move a jumper where there is none, nor to ground what shall be free."""
    by_hand = slot.gpio0 is Gpio0.HAND or (slot.gpio0 is None and slot.reset is not Reset.LINES)
    words, deed = MEANINGS[reason].words, MEANINGS[reason].deed
    match reason:
        case Reason.NO_ANSWER if not by_hand or not slot.flashes:
            words, deed = f"no answer: {_RESEAT}", _RESEAT
        case Reason.NOT_IN_DOWNLOAD_MODE if not by_hand:
            words, deed = _NO_LOADER, _RESEAT
        case Reason.AWAITS_RUN_MODE if not by_hand:
            words, deed = f"flashed, not tested: next, {_TEST_SLOT}", f"put the board into {_TEST_SLOT}"
        case Reason.NEVER_STARTED if not by_hand:
            words = "flashed, never tested: came back {detail} times"
        case Reason.IN_DOWNLOAD_MODE if slot.gpio0 is Gpio0.ALWAYS_LOW:
            words, deed = f"every board starts its loader here: next, {_TEST_SLOT}", f"put the board into {_TEST_SLOT}"
        case Reason.IN_DOWNLOAD_MODE if not by_hand:
            words, deed = "the board starts its loader: is its GPIO0 at GND? re-seat it", _RESEAT
        case _:
            pass
    return words, deed


def _said(text: str, detail: str, slot: SlotProperties) -> str:
    """The text of one case; where the programmer stays, the hand seats a board instead of plugging one in."""
    if slot.board_moves:
        for plugging, seating in _SEATING:
            text = text.replace(plugging, seating)
    return text.replace("{detail}", detail or "?")


_SEATING = (
    ("re-seat the board, GPIO0 to GND, plug in again", "take the board out, GPIO0 to GND, seat it again"),
    ("re-seat the board, plug in again", "re-seat the board"),
    ("seat the board, plug in again", "seat the board again"),
    ("unplug, ", "take the board out, "),
    ("unplug", "take the board out"),
    ("hold GPIO0 to GND and plug in again", "hold GPIO0 to GND and seat the board again"),
    ("take GPIO0 off GND and plug in again", "take the board out, GPIO0 off GND, seat it again"),
    ("plug in again", "seat the board again"),
)

"""The closed list of reasons: what each thing that can go wrong is, whose fault, which tray, and in what words.

The one place in the program where a reason meets its outcome, its tray and the words a person reads; page, terminal, log
and records all take them from here. Changing the list takes a decision record (see `docs/decisions/`). A reason that has
no outcome is a finding of a visit that never became a job: it is in no yield.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from station.model import Light, Outcome, Tray


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
        "several slots of one hub vanished together",
        "wait, plug in again",
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


def words_for(reason: Reason, detail: str = "") -> str:
    """Return what the person reads for `reason`, with the particulars of this case filled in."""
    return MEANINGS[reason].words.replace("{detail}", detail or "?")


def cause_of(reason: Reason, detail: str = "") -> str:
    """Return the likely cause, with the particulars of this case filled in."""
    return MEANINGS[reason].cause.replace("{detail}", detail or "?")

"""What each reason of the closed list says: outcome, tray, words, cause and deed. The only place where they are said."""

from __future__ import annotations

from station.model import Outcome, Tray
from station.reasons.codes import Meaning, Reason
from station.reasons.table_of_recipes import OF_A_RECIPE

_UNPLUG = "unplug"
_AGAIN = "unplug, try another slot"
_CALL = "call the technician"
_BAD = "unplug, put the board into BAD"

_OF_BENCH_AND_BOARD: dict[Reason, Meaning] = {
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
        Outcome.FAIL, Tray.BAD, "resets under load", "the supply gives way, or the board crashes: {detail}", _BAD
    ),
    Reason.SUPPLY_WEAK: Meaning(
        Outcome.ERROR,
        Tray.CALL,
        "supply too weak: golden board in slot {detail} reset, too",
        "the supply of slot or hub: the last golden board judged there restarted under load as well",
        _CALL,
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

MEANINGS: dict[Reason, Meaning] = _OF_BENCH_AND_BOARD | OF_A_RECIPE
"""Every reason has exactly one meaning; a test holds this table against the list of outcomes written by hand."""

HEADLINES: dict[Reason, str] = {
    Reason.NO_WORK_ORDER: "NO WORK ORDER",
    Reason.NO_RECIPE: "NO RECIPE",
    Reason.ALREADY_DONE: "ALREADY DONE",
    Reason.AWAITS_TEST_SLOT: "TEST NEXT",
    Reason.AWAITS_RUN_MODE: "TEST NEXT",
    Reason.INSPECTED: "INSPECTED",
    Reason.PROOF_NEEDED: "PROVE FIRST",
    Reason.FIRST_ARTICLE_RUNS: "WAIT",
    Reason.GOLDEN_PASSED: "PROVEN",
    Reason.RED_CAUGHT: "PROVEN",
    Reason.SLOT_QUARANTINED: "QUARANTINED",
}

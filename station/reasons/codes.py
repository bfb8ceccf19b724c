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
    SUPPLY_WEAK = "supply_weak"
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
    FLASH_REJECTED = "flash_rejected"
    LAYOUT_MISMATCH = "layout_mismatch"
    ACCESS_POINT_OPEN = "access_point_open"
    NETWORK_NOT_SET = "network_not_set"
    CHECK_HUNG = "check_hung"
    NO_VALUES = "no_values"
    NUMBERS_USED_UP = "numbers_used_up"
    SECRET_MISSING = "secret_missing"
    NOT_RELEASED = "not_released"
    PROOF_NEEDED = "proof_needed"
    FIRST_ARTICLE_RUNS = "first_article_runs"
    GOLDEN_PASSED = "golden_passed"
    GOLDEN_FAILED = "golden_failed"
    RED_CAUGHT = "red_caught"
    RED_MISSED = "red_missed"
    SLOT_QUARANTINED = "slot_quarantined"


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

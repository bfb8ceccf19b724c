"""The checks of the self-test, and what their values mean: code for the board, measurements, and the verdict over them.

`builtin` is what every board is asked, `storage` what must survive a restart, `library` what a recipe may choose, `own`
what it brings along, `flash_policy` what becomes of a flash chip, `judging` the verdict. Everything here is pure: nothing
talks to a board; `station.testing` does. The code runs on MicroPython 1.8.7 to 1.27.
"""

from station.model import FlashChip, Identity
from station.recipe import Recipe
from station.selftest.builtin import (
    CPU_FREQUENCY_CODE,
    FIRMWARE_CODE,
    FIRMWARE_INTACT_CODE,
    FLASH_CODE,
    FREE_RAM_CODE,
    IDENTITY_CODE,
    WIFI_START_CODE,
    board_that_answers,
    builtin_checks,
)
from station.selftest.flash_policy import UNKNOWN_VENDOR, VENDORS, refuse_rejected, vendor_of
from station.selftest.judging import first_failure, judge, required_measurements
from station.selftest.library import (
    RADIO_AT_ONCE_PER_HUB,
    RESET_CAUSE_CODE,
    chosen_checks,
    reset_cause_check,
    start_measurements,
)
from station.selftest.measuring import (
    ANSWER_MAX_BYTES,
    Check,
    Finding,
    Value,
    between,
    exactly,
    parse,
    recorded,
)
from station.selftest.own import own_check, own_checks, with_own_lines
from station.selftest.storage import (
    FILESYSTEM_READ_CODE,
    FREE_CODE,
    MARK_CODE,
    MARKED_CODE,
    RESTART_CODE,
    UNMOUNT_CODE,
    file_content,
    filesystem_checks,
    fill_checks,
    fill_share,
    free_check,
)

__all__ = [
    "ANSWER_MAX_BYTES",
    "CPU_FREQUENCY_CODE",
    "FILESYSTEM_READ_CODE",
    "FIRMWARE_CODE",
    "FIRMWARE_INTACT_CODE",
    "FLASH_CODE",
    "FREE_CODE",
    "FREE_RAM_CODE",
    "IDENTITY_CODE",
    "MARKED_CODE",
    "MARK_CODE",
    "RADIO_AT_ONCE_PER_HUB",
    "RESET_CAUSE_CODE",
    "RESTART_CODE",
    "UNKNOWN_VENDOR",
    "UNMOUNT_CODE",
    "VENDORS",
    "WIFI_START_CODE",
    "Check",
    "Finding",
    "Value",
    "between",
    "board_that_answers",
    "checks_for",
    "exactly",
    "file_content",
    "filesystem_checks",
    "fill_checks",
    "fill_share",
    "first_failure",
    "free_check",
    "judge",
    "own_check",
    "own_checks",
    "parse",
    "recorded",
    "refuse_rejected",
    "required_measurements",
    "reset_cause_check",
    "start_measurements",
    "vendor_of",
    "with_own_lines",
]


def checks_for(recipe: Recipe, identity: Identity, flash: FlashChip, *, gpio0_held: bool = False) -> tuple[Check, ...]:
    """Return the checks for the board that was flashed, in the order in which to run them: builtin ones, then the chosen.

    Those of the filesystem and the recipe's own ones aside. `gpio0_held`: a jumper has GPIO0 at GND.
    """
    return (*builtin_checks(recipe, identity, flash), *chosen_checks(recipe, gpio0_held=gpio0_held))

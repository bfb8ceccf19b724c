"""How a reason is said to the person in front of one slot."""

from __future__ import annotations

from station.model import Tray
from station.properties import ANY_SLOT, Gpio0, Reset, SlotProperties
from station.reasons.codes import Reason
from station.reasons.table import HEADLINES, MEANINGS

CAUSES_BY_MEASUREMENT = {
    "flash_size": "the image's header names another size than the flash chip has: another image, or another chip",
    "firmware_version": "another firmware runs than the recipe names: wrong image in the recipe, or the write did not last",
    "machine": "another build runs than the image's own: wrong image in the recipe, or the write did not last",
    "firmware_intact": "the flash reads differently when the firmware runs: flash mode, flash speed, or a weak flash chip",
    "cpu_frequency": "crystal of another frequency, or firmware built for one",
    "frequency_80_mhz": "crystal of another frequency, or firmware that does not set the clock",
    "frequency_160_mhz": "crystal of another frequency, or firmware that does not set the clock",
    "free_ram": "a program runs that should not, or another firmware than the recipe's limits were made for",
    "wifi_start": "radio or supply of the board is bad",
    "filesystem_free": "no room: something lies in the filesystem already, or it was made for a smaller flash",
    "wifi_rssi": "antenna torn or covered; when every board says so, the access point of the bench is off or moved",
    **dict.fromkeys(
        ("gpio0_level", "gpio2_level"), "the pin is tied to GND: solder bridge, jumper, or what is plugged to it"
    ),
    **dict.fromkeys(("gpio0_drive", "gpio2_drive"), "the pin is tied to VCC: solder bridge, or what is plugged to it"),
    **dict.fromkeys(
        ("gpio0_pull_up", "gpio2_pull_up"), "the pull-up resistor is missing or cold, or the board has none"
    ),
    "reset_cause": "the firmware crashed before the test: weak supply, or a program of the recipe that crashes",
    "reset_cause_after_restart": "the firmware crashed when it was restarted: weak supply, or a program that crashes",
    "time_to_prompt": "slow or failing flash, or a boot.py that takes its time",
}
"""The likely cause of a value outside its limits, by the name of the measurement."""
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
    """Return the likely cause, with the particulars of this case filled in.

    Of a value outside its limits the detail begins with the measurement's name, `free_ram = …`, and that tells more.
    """
    if reason is Reason.OUT_OF_LIMITS:
        return CAUSES_BY_MEASUREMENT.get(detail.partition(" = ")[0], MEANINGS[reason].cause)
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
    ("plug in ", "seat "),
)

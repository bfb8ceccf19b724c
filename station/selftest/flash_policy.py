"""What becomes of a board for the sake of its flash chip: allowed, allowed after an extra read-back, or rejected. Pure.

Nobody is rejected by id alone by default; vendors that lost data before, and those that nobody knows, are read back once
more and counted. An id names its vendor in its low byte. Names: jedec.org JEP106, eboot's spi_vendors.h, esptool.
"""

from __future__ import annotations

from enum import StrEnum

from station.errors import JobEnded
from station.model import FlashChip
from station.reasons import Reason
from station.recipe import FlashPolicyCheck

UNKNOWN_VENDOR = "unknown"
READ_BACK_SHARE = 0.25
"""So much of a free filesystem is filled and read back where the policy wants more than the usual 4 KiB."""

VENDORS = {
    0x01: "SPANSION",
    0x0B: "XTX",
    0x1C: "EON",
    0x1F: "ADESTO",
    0x20: "XMC",
    0x37: "AMIC",
    0x5E: "ZBIT",
    0x68: "BOYA",
    0x85: "PUYA",
    0x8C: "ESMT",
    0x9D: "ISSI",
    0xA1: "FUDAN",
    0xBA: "ZETTA",
    0xBF: "SST",
    0xC2: "MACRONIX",
    0xC8: "GIGADEVICE",
    0xE0: "BERGMICRO",
    0xEF: "WINBOND",
    0xF8: "FIDELIX",
}
"""Vendor byte -> name: the closed list of values of the metric's label, `unknown` aside."""

_VENDOR_DIGITS = 2


class Treatment(StrEnum):
    """What the recipe wants done with a flash chip."""

    ALLOW = "allow"
    READ_BACK = "read_back"
    REJECT = "reject"


def vendor_of(jedec_id: int) -> str:
    """Return the vendor's name, `unknown` for a byte that no list has."""
    return VENDORS.get(jedec_id & 0xFF, UNKNOWN_VENDOR)


def treatment_of(policy: FlashPolicyCheck, jedec_id: int) -> Treatment:
    """Return what `policy` says of this chip: a whole id counts before a vendor, that before `unknown`, that before `all`.

    Of two that are equally near the stricter counts; what no entry names is rejected.
    """
    entries = (
        (Treatment.REJECT, policy.reject),
        (Treatment.READ_BACK, policy.read_back),
        (Treatment.ALLOW, policy.allow),
    )
    nearest, found = 0, Treatment.REJECT
    for treatment, names in entries:
        near = max((_nearness(name, jedec_id & 0xFFFFFF) for name in names), default=0)
        if near > nearest:
            nearest, found = near, treatment
    return found


def refuse_rejected(policy: FlashPolicyCheck, chip: FlashChip) -> None:
    """Raise `JobEnded` when the recipe rejects this flash chip; to be asked before the first byte is written."""
    if treatment_of(policy, chip.jedec_id) is Treatment.REJECT:
        raise JobEnded(Reason.FLASH_REJECTED, chip_in_words(chip.jedec_id))


def chip_in_words(jedec_id: int) -> str:
    """Return vendor and id as a person reads them: `PUYA 0x146085`."""
    return f"{vendor_of(jedec_id)} 0x{jedec_id & 0xFFFFFF:06x}"


def _nearness(name: str, jedec_id: int) -> int:
    """How closely an entry names this chip; 0: not at all."""
    match name.lower():
        case "all":
            return 1
        case "unknown":
            return 2 if vendor_of(jedec_id) == UNKNOWN_VENDOR else 0
        case digits:
            number, is_vendor = int(digits, 16), len(digits.removeprefix("0x")) <= _VENDOR_DIGITS
            return (3 if number == jedec_id & 0xFF else 0) if is_vendor else (4 if number == jedec_id else 0)

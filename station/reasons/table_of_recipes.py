"""What the reasons say that come of a recipe: its files, its data, its checks, and the proofs that it demands of a bench."""

from __future__ import annotations

from station.model import Outcome, Tray
from station.reasons.codes import Meaning, Reason

_CALL = "call the technician"
_BAD = "unplug, put the board into BAD"

OF_A_RECIPE: dict[Reason, Meaning] = {
    Reason.FLASH_REJECTED: Meaning(
        Outcome.FAIL, Tray.BAD, "flash chip not allowed: {detail}", "the recipe rejects this flash chip", _BAD
    ),
    Reason.LAYOUT_MISMATCH: Meaning(
        Outcome.ERROR,
        Tray.CALL,
        "filesystem is not where it was expected",
        "the firmware's filesystem layout differs from the one learned from this image: {detail}",
        _CALL,
    ),
    Reason.ACCESS_POINT_OPEN: Meaning(
        Outcome.FAIL,
        Tray.BAD,
        "own access point stays on",
        "the board's access point, with its public password, is still on after a restart",
        _BAD,
    ),
    Reason.NETWORK_NOT_SET: Meaning(
        Outcome.FAIL,
        Tray.BAD,
        "network: {detail}",
        "what the recipe says of the network does not hold on the board",
        _BAD,
    ),
    Reason.CHECK_HUNG: Meaning(
        Outcome.FAIL, Tray.BAD, "check {detail} does not end", "a check of the recipe ran longer than it may", _BAD
    ),
    Reason.NO_VALUES: Meaning(
        None, Tray.CALL, "no values for this board: {detail}", "the table of values has no row for this board", _CALL
    ),
    Reason.NUMBERS_USED_UP: Meaning(
        None, Tray.CALL, "no serial numbers left: {detail}", "the station's range of this pool is used up", _CALL
    ),
    Reason.SECRET_MISSING: Meaning(
        None, Tray.CALL, "secret not usable: {detail}", "a secret that the recipe names cannot be read", _CALL
    ),
    Reason.NOT_RELEASED: Meaning(
        None, Tray.CALL, "recipe not released: {detail}", "work.require_release is on and nobody released it", _CALL
    ),
    Reason.PROOF_NEEDED: Meaning(
        None,
        Tray.NONE,
        "first {detail}",
        "the recipe demands that this slot judges a golden or red board before it makes boards",
        "plug in {detail}",
    ),
    Reason.FIRST_ARTICLE_RUNS: Meaning(
        None,
        Tray.NONE,
        "wait: first article in slot {detail}",
        "the recipe demands one PASS before the other slots begin",
        "wait",
    ),
    Reason.GOLDEN_PASSED: Meaning(
        None, Tray.NONE, "golden board judged good", "the slot judges a known-good board good", "unplug, put it back"
    ),
    Reason.GOLDEN_FAILED: Meaning(
        None,
        Tray.CALL,
        "golden board judged bad: {detail}",
        "the slot or the golden board is bad, or it is golden for another recipe",
        _CALL,
    ),
    Reason.RED_CAUGHT: Meaning(
        None,
        Tray.NONE,
        "red board judged bad, as it must",
        "the slot judges a known-bad board bad",
        "unplug, put it back",
    ),
    Reason.RED_MISSED: Meaning(
        None,
        Tray.CALL,
        "red board not caught: {detail}",
        "the slot does not find the fault of a known-bad board",
        _CALL,
    ),
    Reason.SLOT_QUARANTINED: Meaning(
        None,
        Tray.CALL,
        "quarantined: {detail}",
        "this slot failed board after board while the others did not; a golden board judged good here releases it",
        _CALL,
    ),
}

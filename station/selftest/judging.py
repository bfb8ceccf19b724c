"""The verdict over measurements: which a PASS needs, and what it means that one is outside its limits. Pure.

It never says pass unless every required measurement is there and within its limits.
"""

from __future__ import annotations

from collections.abc import Iterable

from station.model import FlashChip, Measurement
from station.reasons import Reason
from station.recipe import Recipe
from station.selftest.builtin import BUILTIN_NAMES
from station.selftest.library import chosen_names
from station.selftest.measuring import Finding, deviation, words
from station.selftest.own import own_names
from station.selftest.storage import FILE_NAMES, FILL_NAMES, fill_share

NETWORK_NAMES = ("network_ssid", "network_join", "webrepl")
_IDENTITY_NAMES = ("mac", "chip_id", "flash_id")
_REASONS = {
    **dict.fromkeys(FILE_NAMES, Reason.FILESYSTEM_LOST_DATA),
    **dict.fromkeys(FILL_NAMES[1:], Reason.FILESYSTEM_LOST_DATA),
    **dict.fromkeys(NETWORK_NAMES, Reason.NETWORK_NOT_SET),
    "flash_policy": Reason.FLASH_REJECTED,
    "access_point_off": Reason.ACCESS_POINT_OPEN,
    "unexpected_boots": Reason.BROWNOUT,
}


def required_measurements(recipe: Recipe, flash: FlashChip | None = None) -> tuple[str, ...]:
    """Return the names of the measurements without which there is no PASS for a board with this flash chip."""
    names = (*BUILTIN_NAMES, *chosen_names(recipe))
    if recipe.has_filesystem:
        names += FILE_NAMES
    if fill_share(recipe, flash.jedec_id if flash is not None else None):
        names += FILL_NAMES
    return (*names, *_network_names(recipe), *own_names(recipe))


def first_failure(measurements: Iterable[Measurement]) -> Finding | None:
    """Return why these measurements do not pass, None when all are within; a wrong identity comes before all else."""
    outside = [measurement for measurement in measurements if not measurement.within]
    for measurement in outside:
        if measurement.name in _IDENTITY_NAMES:
            detail = f"{measurement.name} = {words(measurement.value)}, flashed was {words(measurement.low)}"
            return Finding(reason=Reason.IDENTITY_MISMATCH, detail=detail)
    for measurement in outside:
        reason = _REASONS.get(measurement.name, Reason.OUT_OF_LIMITS)
        if reason is Reason.FLASH_REJECTED:
            return Finding(reason=reason, detail=str(measurement.value).removeprefix("reject: "))
        return Finding(reason=reason, detail=deviation(measurement))
    return None


def judge(recipe: Recipe, measurements: Iterable[Measurement], flash: FlashChip | None = None) -> Finding | None:
    """Return why a board with these measurements does not pass, None for pass: all required ones there, all within."""
    taken = tuple(measurements)
    failure = first_failure(taken)
    if failure is not None:
        return failure
    names = {measurement.name for measurement in taken}
    missing = [name for name in required_measurements(recipe, flash) if name not in names]
    if missing:
        return Finding(reason=Reason.EVIDENCE_MISSING, detail=", ".join(missing))
    return None


def _network_names(recipe: Recipe) -> tuple[str, ...]:
    wanted = {
        "access_point_off": recipe.network.access_point == "off",
        "network_ssid": bool(recipe.network.ssid),
        "network_join": bool(recipe.network.ssid and recipe.network.join_within_s),
        "webrepl": bool(recipe.network.webrepl_secret),
    }
    return tuple(name for name, is_wanted in wanted.items() if is_wanted)

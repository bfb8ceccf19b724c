"""The doctor's rounds in the daemon: at start and every ten minutes, in a thread, beside the work and never before it.

What is not well is logged once, as one line, until it changes; then that it cleared. A round that breaks is a finding of its
own (`doctor`) and never ends the station: boards go on being made.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import structlog

from station.doctor.examination import CHECKS, without_the_well
from station.views import Diagnosis, Level

EVERY_S = 600.0
BROKEN = "doctor"
"""The word of a round that broke."""
WORDS = (*CHECKS, BROKEN)
"""Every word that a diagnosis can have: the closed list of the metric's label."""
Examine = Callable[[], tuple[Diagnosis, ...]]
log = structlog.get_logger()


async def go_round(examine: Examine, tell: Callable[[tuple[Diagnosis, ...]], None], every_s: float = EVERY_S) -> None:
    """Examine now and every `every_s`, log what changed, and `tell` what is not well, until cancelled."""
    unwell: tuple[Diagnosis, ...] = ()
    while True:
        # Not a broad except: what a mistake of ours raised in there is returned, and our own cancellation goes through.
        (found,) = await asyncio.gather(asyncio.to_thread(examine), return_exceptions=True)
        found = (_broken(found),) if isinstance(found, BaseException) else found
        now_unwell = without_the_well(found)
        _log_changes(unwell, now_unwell)
        unwell = now_unwell
        tell(unwell)
        await asyncio.sleep(every_s)


def _log_changes(before: tuple[Diagnosis, ...], now: tuple[Diagnosis, ...]) -> None:
    """One line for each finding that is new, one for each that is gone; ages and counts that move on are no news."""
    known, seen = {_key(each) for each in before}, {_key(each) for each in now}
    for each in now:
        if _key(each) not in known:
            say = log.error if each.level is Level.PROBLEM else log.warning
            say("doctor.found", check=each.check, said=each.said, fix=each.fix)
    for each in before:
        if _key(each) not in seen:
            log.info("doctor.cleared", check=each.check, said=each.said)


def _key(diagnosis: Diagnosis) -> tuple[str, Level, str]:
    """What makes it the same finding: numbers change from round to round (free space, ages), the finding does not."""
    return diagnosis.check, diagnosis.level, re.sub(r"\b\d+(\.\d+)?\b", "#", diagnosis.said)


def _broken(error: BaseException) -> Diagnosis:
    log.error("doctor.broke", exc_info=error)
    return Diagnosis(
        check=BROKEN,
        level=Level.WARNING,
        said=f"the examination itself broke: {error!r}",
        fix="make a bug report: station support",
    )

"""How each slot has done lately, from its last closed jobs: what a technician looks at before the hub is opened.

Reads one consistent moment of the records and cannot change them, so it may run beside the station.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import select

from station.adapters.records.proving import standing
from station.adapters.records.report import reading
from station.adapters.records.schema import job
from station.model import Outcome

LAST_JOBS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotHealth:
    """The last jobs of one slot that are closed, at most `LAST_JOBS`."""

    jobs: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    aborted: int = 0
    baud: int | None = None
    """The rate most of them were written at; None when nothing was written."""
    first_try: int = 0
    """So many were written at the first rate that was tried."""
    fell_back: int = 0
    """So many lost at least one rung of the ladder."""
    quarantine: str = ""
    """Why it makes no boards; empty where it may."""

    def __str__(self) -> str:
        quarantined = f"quarantined: {self.quarantine}" if self.quarantine else ""
        return "; ".join(part for part in (quarantined, self._lately()) if part)

    def _lately(self) -> str:
        if not self.jobs:
            return "no records"
        counts = ((self.passed, "PASS"), (self.failed, "FAIL"), (self.errors, "ERROR"), (self.aborted, "ABORTED"))
        said = ", ".join(f"{count} {word}" for count, word in counts if count)
        link = f"; {self.baud} baud, {self.first_try} at the first try, {self.fell_back} fell back" if self.baud else ""
        return f"last {self.jobs}: {said}{link}"


def slots_health(url: str, labels: Iterable[str]) -> dict[str, SlotHealth]:
    """Return label -> health. Raises `ConfigurationError` (no such records, another schema) and `RecordsUnwritable`."""
    columns = (job.c.outcome, job.c.baud_used, job.c.baud_fallbacks)
    closed = select(*columns).where(job.c.outcome.is_not(None)).order_by(job.c.sequence.desc()).limit(LAST_JOBS)
    with reading(url) as connection:
        found = {label: connection.execute(closed.where(job.c.slot == label)).all() for label in labels}
        barred = {label: standing(connection, label, "", None).quarantine for label in found}
    return {
        label: replace(
            _health([(row.outcome, row.baud_used, row.baud_fallbacks) for row in rows]), quarantine=barred[label]
        )
        for label, rows in found.items()
    }


def _health(jobs: list[tuple[str, int | None, int]]) -> SlotHealth:
    outcomes = Counter(outcome for outcome, _, _ in jobs)
    written = [(baud, fallbacks) for _, baud, fallbacks in jobs if baud is not None]
    return SlotHealth(
        jobs=len(jobs),
        passed=outcomes[Outcome.PASS],
        failed=outcomes[Outcome.FAIL],
        errors=outcomes[Outcome.ERROR],
        aborted=outcomes[Outcome.ABORTED],
        baud=Counter(baud for baud, _ in written).most_common(1)[0][0] if written else None,
        first_try=sum(not fallbacks for _, fallbacks in written),
        fell_back=sum(bool(fallbacks) for _, fallbacks in written),
    )

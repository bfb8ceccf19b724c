"""What the records get of a board that `station qualify` measures: a visit, and a job that can be nobody's PASS.

Its flash is written, so the job row is there before the first byte, as for every job; it ends as stopped by request, in a work
order and under a recipe row of its own. A board that passed before is shown by it as flashed again since then. Promises to let
no board through that a person marked, and none that passed or waits for its test unless that is asked for.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import msgspec

from station.adapters.records import Database, LotRequest, RecipeRow, new_id, utc_now
from station.admission import refuse_marked
from station.config import Config
from station.errors import JobEnded
from station.link import Evidence
from station.model import (
    FlashChip,
    HostFacts,
    Identity,
    JobEnd,
    JobStart,
    JobState,
    Lot,
    Measurement,
    Outcome,
    Plug,
    VisitEnd,
)
from station.orders import image_rows
from station.qualification import BoardResult
from station.qualifying.probelink import ProbeLink
from station.qualifying.probing import BoardProbe
from station.reasons import Reason
from station.recipe import Recipe
from station.verdict import Verdict

TRANSCRIPT_CAP_BYTES = 64 << 10
PRODUCT = "qualification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What all boards of one qualification have in common."""

    recipe: Recipe
    lot: Lot
    operator: str
    facts: HostFacts
    again: bool
    """Also boards that passed, that wait for their test or that were returned or scrapped."""


class ProbeEntry:
    """What the records get of one plug: a visit, and a job from the moment on at which flash is about to be written."""

    def __init__(self, books: Database, order: Order, plug: Plug) -> None:
        self.evidence = Evidence()
        self.begun = False
        """Whether there is a job row, and flash may have been touched."""
        self._books, self._order, self._plug = books, order, plug
        self._visit_id, self._job_id = new_id(), new_id()
        self._began, self._started_at = time.monotonic(), utc_now()
        self._attempt, self._transcript, self._mac = 1, b"", ""

    def open(self) -> None:
        """Write the visit row; raises `RecordsUnwritable`."""
        self._books.begin_visit(self._visit_id, self._plug)

    def measure(self, probe: BoardProbe, link: ProbeLink) -> None:
        """Measure, and release the port whatever ends it."""
        try:
            probe.measure()
        finally:
            self._transcript = link.transcript[-TRANSCRIPT_CAP_BYTES:] if not probe.seen.complete else b""
            link.close()

    def admit(self, identity: Identity) -> None:
        """Raise `JobEnded` for a board that must not be written."""
        self._mac = identity.mac
        known = self._books.known_board(identity.mac)
        refuse_marked(known, again=self._order.again)
        self._attempt = 1 + (known.attempts if known is not None else 0)
        if self._order.again:
            return
        if known is not None and known.passes:
            passed = known.passes[0]
            said = f"{identity.mac} passed as {passed.product} on {passed.ended_at:%Y-%m-%d %H:%M} UTC"
            raise JobEnded(Reason.INSPECTED, f"{said}; it is not measured without --again")
        if self._books.pending_job(identity.mac) is not None:
            said = f"{identity.mac} is flashed and waits for its test"
            raise JobEnded(Reason.INSPECTED, f"{said}; it is not measured without --again")

    def begin(self, identity: Identity, chip: FlashChip) -> None:
        """Write the job row: durable before the first byte of flash is touched."""
        start = JobStart(
            id=self._job_id,
            visit_id=self._visit_id,
            started_at=self._started_at,
            plug=self._plug,
            lot=self._order.lot,
            identity=identity,
            observed_mac=identity.mac,
            flash=chip,
            firmware_sha256=self._order.recipe.for_flash(chip.size_bytes or 0).firmware_sha256,
            operator=self._order.operator,
            host=self._order.facts,
            attempt=self._attempt,
        )
        self._books.begin_job(start)
        self.begun = True

    def close(self, result: BoardResult, verdict: Verdict | None) -> None:
        """End visit and job; raises `RecordsUnwritable`, and the job is found unfinished at the next start."""
        job_id, finding, detail = self._job_id, "", ""
        if self.begun:
            self._books.finish_job(job_id, self._end(result))
        elif verdict is not None:
            finding, detail = verdict.reason or Reason.STATION_BUG, verdict.detail
        self._books.end_visit(
            self._visit_id,
            VisitEnd(
                ended_at=utc_now(),
                job_id=job_id if self.begun else None,
                finding=finding,
                detail=detail,
                transcript=b"" if self.begun else self._transcript,
                mac=self._mac,
            ),
        )

    def _end(self, result: BoardResult) -> JobEnd:
        said = result.ended or "measured to the end"
        measured = [Measurement(name=f"qualify_{name}", value=value) for name, value in result.values.items()]
        measured.append(Measurement(name="qualify_clean_baud", value=result.clean_baud))
        return JobEnd(
            state=JobState.CLOSED,
            outcome=Outcome.ABORTED,
            reason=Reason.STOPPED_BY_REQUEST,
            detail="\n".join((f"the qualification of {self._plug.slot}: {said}", *self.evidence.notes)),
            ended_at=utc_now(),
            duration_s=time.monotonic() - self._began,
            phases=(),
            measurements=tuple(measured),
            baud_used=self.evidence.baud_used,
            baud_fallbacks=self.evidence.baud_fallbacks,
            boot_evidence=None,
            flash_touched=self.evidence.flash_touched,
            flash_mode=self._order.recipe.flash_mode,
            bytes_flashed=self.evidence.bytes_flashed,
            transcript=self._transcript,
        )


def work_order(config: Config, books: Database, recipe: Recipe) -> Lot:
    """The work order of what is no production: by a recipe row of its own, so that no yield but its own has these boards."""
    text = msgspec.json.encode({PRODUCT: recipe.hash}).decode()
    order = hashlib.sha256(text.encode()).hexdigest()
    books.ensure_recipe(
        RecipeRow(
            hash=order,
            name=PRODUCT,
            version=recipe.version,
            text=text,
            firmware_sha256=recipe.firmware_sha256,
            firmware_version=recipe.firmware_version,
            firmware_size_bytes=len(recipe.image),
            images=image_rows(recipe),
        )
    )
    person = config.station.operator or config.station_id
    return books.standing_lot(LotRequest(recipe_hash=order, product=PRODUCT, person=person))

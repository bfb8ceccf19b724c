"""One visit while it runs: its link, its evidence, its clock, the job it works on, and how all of that gets on record.

A visit begins a job of its own, or goes on with one that waits for it (`resume`). `put_on_record` leaves exactly one of: a
job read back after its commit, a finding, or rows that the records could not take yet. In a later visit only PASS and FAIL
close a job; whatever else ends that visit leaves the board flashed and not tested.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from station import selftest
from station.admission import refuse_reused_mac
from station.errors import JobEnded, LineStopped, RecordsUnwritable, StationError
from station.flashing import BoardLink
from station.link import Evidence
from station.model import (
    FlashChip,
    JobEnd,
    JobStart,
    JobState,
    KnownBoard,
    Outcome,
    PendingJob,
    Phase,
    PhaseOutcome,
    PhaseRecord,
    VisitEnd,
)
from station.properties import Learned, Role
from station.reasons import Reason
from station.recipe import Recipe, demands_cold_boot
from station.verdict import (
    DETAIL_CAP_CHARACTERS,
    Verdict,
    is_cut_off,
    may_be_the_hubs,
    never_flashed,
    on_a_disturbed_hub,
    phase_outcome,
    pulled_after_all,
    same_in_two_slots,
    verdict_of,
    verdict_of_stop,
)
from station.views import Progress
from station.visit import Finding, Held, JobRow, Tools, Visit, VisitResult, write_down

TRANSCRIPT_CAP_BYTES = 64 << 10
_LOOK_S = 0.05
_FLASHED = ("flash_md5", "flash_real_size", "flash_rest_blank", "mac_after_write")


def required_evidence(recipe: Recipe, *, flashed: bool = True) -> tuple[str, ...]:
    """Return the names of the measurements without which there is no PASS; `flashed`: by this job, in any of its visits."""
    return (*(_FLASHED if flashed else ()), "boot_to_prompt", *selftest.required_measurements(recipe))


class JobRun:
    """One visit while it runs. Used from its slot's thread."""

    def __init__(self, visit: Visit, tools: Tools) -> None:
        self.visit = visit
        self.tools = tools
        self.evidence = Evidence()
        self.transcript = b""
        self.begun = False
        """Whether there is a job row: this visit's own, or that of the job it resumed."""
        self.pending: PendingJob | None = None
        """The job that waited for this visit; None when the visit began its own."""
        self._job_id = tools.new_id()
        self._known: KnownBoard | None = None
        self._mac = ""
        self._began = tools.clock()
        self._started_at = tools.now()
        ladder = tools.allowed_rates(visit.plug, tools.settings.baud_ladder)
        self.link = BoardLink(
            programmer=visit.plug.programmer,
            opener=tools.opener,
            flasher=tools.flasher,
            stop=visit.stop,
            settings=msgspec.structs.replace(tools.settings, baud_ladder=ladder),
            evidence=self.evidence,
            clock=tools.clock,
            tell=self.tell,
            properties=visit.properties,
            learn=self.learn,
        )

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Time one phase and keep how it ended, whatever ends it."""
        self._stop_if_asked_before(phase)
        began = self.tools.clock()
        outcome, detail = PhaseOutcome.ERROR, ""
        self.tell(Progress(phase=phase))
        try:
            yield
            outcome = PhaseOutcome.PASS
        except LineStopped as stopped:
            outcome, detail = phase_outcome(verdict_of_stop(stopped.cause)), str(stopped.cause)
            raise
        except StationError as error:
            outcome, detail = phase_outcome(verdict_of(error)), str(error)[:DETAIL_CAP_CHARACTERS]
            raise
        finally:
            took = self.tools.clock() - began
            self.evidence.phases.append(PhaseRecord(phase=phase, outcome=outcome, duration_s=took, detail=detail))
        if self.visit.until is phase:
            raise JobEnded(Reason.STOPPED_BY_REQUEST, phase)

    def skip(self, phase: Phase) -> None:
        """Record a phase that has nothing to do."""
        self._stop_if_asked_before(phase)
        self.evidence.phases.append(PhaseRecord(phase=phase, outcome=PhaseOutcome.SKIPPED, duration_s=0.0))
        if self.visit.until is phase:
            raise JobEnded(Reason.STOPPED_BY_REQUEST, phase)

    def _stop_if_asked_before(self, phase: Phase) -> None:
        """A visit that goes on with a job may be past the phase after which it shall stop: then it does nothing more."""
        until, order = self.visit.until, tuple(Phase)
        if until is not None and order.index(phase) > order.index(until):
            raise JobEnded(Reason.STOPPED_BY_REQUEST, until)

    def claim(self, mac: str) -> None:
        """Say that this board is alive in this slot; raises `JobEnded` when it is alive in another one as well."""
        self._mac = mac
        self.tools.claims.claim(mac, self.visit.plug.slot, self.visit.stop)
        self.tell(Progress(phase=Phase.CONNECT, note="who it is, is known"))

    def look_up(self, mac: str) -> KnownBoard | None:
        """Ask the records what they know about this board."""
        self._known = self.tools.recorder.known_board(mac)
        return self._known

    def refuse_reused_mac(self, chip: FlashChip) -> None:
        """Raise `JobEnded` when the records know this MAC on another flash chip."""
        refuse_reused_mac(self._known, chip)

    def learn(self, learned: Learned) -> None:
        """Keep what was found out about the slot, for this visit and for those to come."""
        self.link.properties = self.link.properties.learned(reset=learned.reset, gpio0=learned.gpio0)
        self.tools.learn(self.visit.plug.slot, learned)

    def begin(self) -> None:
        """Write the job row: durable before the first byte of flash is touched."""
        self.tools.recorder.begin_job(self._start())
        self.begun = True

    def resume(self) -> bool:
        """Go on with the job that waits for this board; False when none does, or a person asked to make it again.

        Raises `JobEnded` where it may not be tested here or under the recipe that is loaded.
        """
        pending = self.tools.recorder.pending_job(self._mac)
        if pending is None or self.visit.again:
            return False
        if pending.lot.recipe_hash != self.visit.recipe.hash:
            raise JobEnded(Reason.PENDING_ELSEWHERE, pending.lot.product)
        self.pending, self._job_id, self.begun = pending, pending.id, True
        if not self.link.properties.tests:
            raise self.awaits()
        evidence = self.evidence
        evidence.identity, evidence.observed_mac = pending.identity, pending.identity.mac
        evidence.flash, evidence.flash_mode = pending.flash, pending.flash_mode
        self.visit = replace(self.visit, lot=pending.lot)
        return True

    def awaits(self) -> JobEnded:
        """Return what ends this visit of a flashed board that cannot be tested here and now."""
        properties = self.link.properties
        if properties.tests and properties.hand_frees_gpio0:
            return JobEnded(Reason.AWAITS_RUN_MODE)
        return JobEnded(Reason.AWAITS_TEST_SLOT, " or ".join(self.visit.test_slots) or "of another bench")

    def demands_cold_boot(self) -> bool:
        """Whether the recipe wants a hardware start of this very board before its PASS."""
        policy = self.visit.recipe.policy
        if policy.cold_boot in ("never", "all"):
            return policy.cold_boot == "all"
        return demands_cold_boot(policy, self.tools.recorder.number_in_lot(self._job_id))

    def require_evidence(self) -> None:
        """Raise `JobEnded` unless every required measurement was made and is within its limits."""
        earlier = self.pending.measurements if self.pending is not None else ()
        within = {measurement.name for measurement in (*earlier, *self.evidence.measurements) if measurement.within}
        flashed = self.evidence.flash_touched or self.pending is not None
        missing = [name for name in required_evidence(self.visit.recipe, flashed=flashed) if name not in within]
        if missing:
            raise JobEnded(Reason.EVIDENCE_MISSING, ", ".join(missing))

    def tell_the_hub(self, verdict: Verdict) -> float:
        """Tell the hub that this line was lost, where it was, and return since when the answer is wanted.

        Before the port is closed: a close that drains blocks for 31 s, and the neighbours ask meanwhile.
        """
        since_s = self.tools.clock()
        if is_cut_off(verdict):
            self.tools.hubs.broke(self.visit.plug.programmer.place)
        return since_s

    def blame_the_hub(self, verdict: Verdict, since_s: float) -> Verdict:
        """Return the verdict, or that the hub was disturbed since then; call it with the port released: it may take 2 s.

        It waits only where the loss of this slot, or of others of its hub a moment ago, may still turn out to be one event.
        """
        if not may_be_the_hubs(verdict):
            return verdict
        hubs, place = self.tools.hubs, self.visit.plug.programmer.place
        while (disturbed := hubs.verdict(place, since_s)) is None:
            time.sleep(_LOOK_S)
        return on_a_disturbed_hub(verdict) if disturbed else pulled_after_all(verdict, self.visit.stop.cause)

    def put_on_record(self, verdict: Verdict) -> VisitResult:
        """Write how the visit ended and return it as read back; a result the records cannot take is handed back as held."""
        verdict = same_in_two_slots(verdict, self.visit.plug.slot, self._known.errors if self._known else ())
        if verdict.state is JobState.PENDING and self.pending is None and not self.evidence.flash_touched:
            verdict = never_flashed(verdict)
        if self.pending is not None and verdict.outcome not in (Outcome.PASS, Outcome.FAIL):
            return self._record_interruption(verdict)
        if not self._is_job(verdict):
            return self._record_finding(verdict.reason or Reason.STATION_BUG, verdict.detail)
        rows = [JobRow(start=self._start(), end=self._end(verdict), begun=self.begun)]
        if verdict.reason is Reason.IDENTITY_MISMATCH and verdict.state is JobState.PENDING:
            rows.append(self._row_of_the_other_board(rows[0].end))
        visit_end = VisitEnd(ended_at=self.tools.now(), job_id=self._job_id, finding="", detail="")
        finished = Held(rows=tuple(rows), visit_end=visit_end)
        try:
            return write_down(finished, self.tools.recorder, self.tools.on_record)
        except RecordsUnwritable:
            return finished

    def tell(self, progress: Progress) -> None:
        """Say how far the visit is; raises `JobEnded` when this board's MAC turned up in another slot."""
        self.tools.claims.check(self.visit.plug.slot)
        identity = self.evidence.identity
        if identity is not None:
            progress = replace(progress, mac=identity.mac, chip_id=identity.chip_id)
        self.visit.tell(progress)

    def _is_job(self, verdict: Verdict) -> bool:
        if self.visit.properties.role is Role.INSPECT:
            return False
        if verdict.reason is Reason.HUB_DISTURBED:
            return self.begun
        if self.begun or verdict.outcome in (Outcome.PASS, Outcome.FAIL):
            return True
        return verdict.outcome is Outcome.ERROR and (
            self.evidence.identity is not None or verdict.reason is Reason.STATION_BUG
        )

    def _record_interruption(self, verdict: Verdict) -> Finding:
        """A later visit that neither passed nor failed: its job waits on, as it did before."""
        reason = verdict.reason or Reason.STATION_BUG
        if verdict.outcome is Outcome.ABORTED and reason is not Reason.STOPPED_BY_REQUEST:
            return self._record_finding(Reason.TEST_INTERRUPTED, reason)
        return self._record_finding(reason, verdict.detail)

    def _record_finding(self, reason: Reason, detail: str) -> Finding:
        end = VisitEnd(
            ended_at=self.tools.now(),
            job_id=self.pending.id if self.pending is not None else None,
            finding=reason,
            detail=detail,
            transcript=self.transcript,
            mac=self._mac,
        )
        try:
            self.tools.recorder.end_visit(self.visit.id, end)
        except RecordsUnwritable as error:
            reason, detail = Reason.RECORDS_UNWRITABLE, str(error)
        return Finding(visit_id=self.visit.id, reason=reason, detail=detail, mac=self._mac)

    def _row_of_the_other_board(self, swapped: JobEnd) -> JobRow:
        """The board that was flashed stays pending; the one that answered in its place gets an ERROR row of its own."""
        other = next((m.value for m in self.evidence.measurements if m.name == "mac"), "")
        start = replace(
            self._start(), id=self.tools.new_id(), identity=None, observed_mac=str(other or ""), flash=None, attempt=1
        )
        end = replace(
            swapped, state=JobState.CLOSED, outcome=Outcome.ERROR, flash_touched=False, bytes_flashed=0, baud_used=None
        )
        return JobRow(start=start, end=end, begun=False)

    def _start(self) -> JobStart:
        return JobStart(
            id=self._job_id,
            visit_id=self.visit.id,
            started_at=self._started_at,
            plug=self.visit.plug,
            lot=self.visit.lot,
            identity=self.evidence.identity,
            observed_mac=self.evidence.observed_mac,
            flash=self.evidence.flash,
            firmware_sha256=self.visit.recipe.firmware_sha256,
            operator=self.tools.operator,
            host=self.tools.host(),
            attempt=self.pending.attempt if self.pending else 1 + (self._known.attempts if self._known else 0),
        )

    def _end(self, verdict: Verdict) -> JobEnd:
        closed = verdict.state is JobState.CLOSED
        evidence = self.evidence
        return JobEnd(
            state=verdict.state,
            outcome=(verdict.outcome or Outcome.ERROR) if closed else None,
            reason=verdict.reason or "",
            detail="\n".join((verdict.detail, *evidence.notes) if verdict.reason else evidence.notes)[
                :TRANSCRIPT_CAP_BYTES
            ],
            ended_at=self.tools.now(),
            duration_s=self.tools.clock() - self._began,
            phases=tuple(evidence.phases),
            measurements=tuple(evidence.measurements),
            baud_used=evidence.baud_used,
            baud_fallbacks=evidence.baud_fallbacks,
            boot_evidence=evidence.boot_evidence,
            flash_touched=evidence.flash_touched or self.pending is not None,
            flash_mode=evidence.flash_mode,
            bytes_flashed=evidence.bytes_flashed,
            transcript=self.transcript,
        )

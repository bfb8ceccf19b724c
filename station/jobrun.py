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
import structlog

from station import selftest, upload
from station.admission import refuse_reused_mac
from station.boarddata import NO_DATA, BoardData
from station.errors import JobEnded, LineStopped, RecordsUnwritable, StationError
from station.flashing import BoardLink
from station.layouts import Layout
from station.link import Evidence
from station.model import (
    FlashChip,
    JobEnd,
    JobStart,
    JobState,
    KnownBoard,
    Measurement,
    Outcome,
    PendingJob,
    Phase,
    PhaseOutcome,
    PhaseRecord,
    VisitEnd,
)
from station.network import files_of
from station.ports import Repl
from station.properties import Learned, Role
from station.proving import Sample
from station.reasons import Reason
from station.recipe import Recipe, demands_cold_boot
from station.secrets import Secrets
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

log = structlog.get_logger()
TRANSCRIPT_CAP_BYTES = 64 << 10
_LOOK_S = 0.05
_FLASHED = ("flash_md5", "flash_real_size", "flash_rest_blank", "mac_after_write")


def required_evidence(
    recipe: Recipe, *, flashed: bool = True, chip: FlashChip | None = None, made: bool = True
) -> tuple[str, ...]:
    """Return the names of the measurements without which there is no PASS of a board with this flash chip.

    `flashed`: by this job, in any of its visits. `made`: a golden or red board is judged without its files being asked for.
    """
    return (
        *(_FLASHED if flashed else ()),
        "boot_to_prompt",
        *selftest.required_measurements(recipe, chip),
        *(upload.required_measurements(files_of(recipe)) if made else ()),
    )


class JobRun:
    """One visit while it runs. Used from its slot's thread."""

    def __init__(self, visit: Visit, tools: Tools) -> None:
        self.visit = visit
        self.tools = tools
        self.evidence = Evidence()
        self.transcript = b""
        self.blinks = False
        """Whether the board itself is to show the result: then its line stays open until that is on record."""
        self.begun = False
        """Whether there is a job row: this visit's own, or that of the job it resumed."""
        self.pending: PendingJob | None = None
        """The job that waited for this visit; None when the visit began its own."""
        self.proving: Sample | None = None
        """The known board that is judged in this visit instead of made; None for every other."""
        self.programs = False
        """Whether the recipe's main.py lies on the board under its name: then it is interrupted after each start."""
        self.repl: Repl | None = None
        """The prompt that answered last; whether it still does is for who asks to find out."""
        self.layout: Layout | None = None
        """Where the firmware says that its filesystem lies."""
        self.board_data: BoardData = NO_DATA
        """What is this board's own: known from `begin` or `resume` on."""
        self._job_id = tools.new_id()
        self._known: KnownBoard | None = None
        self.mac = ""
        """Whose board it is, as soon as that is known."""
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

    @property
    def recipe(self) -> Recipe:
        """What is made of this board: the visit's recipe, with the image for this board's flash once that is known."""
        chip = self.evidence.flash
        return self.visit.recipe.for_flash(chip.size_bytes) if chip and chip.size_bytes else self.visit.recipe

    @property
    def is_to_be_made(self) -> bool:
        """Whether a board in its loader is to be flashed now: nothing waits for its test, and it proves nothing."""
        return self.pending is None and self.proving is None and self.link.properties.flashes

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
        self.mac = mac
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
        """Get the board's own data, and write the job row: durable before the first byte of flash is touched."""
        self._fetch_board_data()
        self.tools.recorder.begin_job(self._start())
        self.begun = True

    def resume(self) -> bool:
        """Go on with the job that waits for this board; False when none does, or a person asked to make it again.

        Raises `JobEnded` where it may not be tested here or under the recipe that is loaded.
        """
        pending = self.tools.recorder.pending_job(self.mac)
        if pending is None or self.visit.again:
            return False
        recipe = self._recipe_of(pending)
        self.pending, self._job_id, self.begun = pending, pending.id, True
        if not self.link.properties.tests:
            raise self.awaits()
        evidence = self.evidence
        evidence.identity, evidence.observed_mac = pending.identity, pending.identity.mac
        evidence.flash, evidence.flash_mode = pending.flash, pending.flash_mode
        self.visit = replace(self.visit, lot=pending.lot, recipe=recipe)
        self._fetch_board_data()
        return True

    def _recipe_of(self, pending: PendingJob) -> Recipe:
        """Return what this board was flashed with: the recipe that is loaded, or that of a lot whose boards are finished.

        Raises `JobEnded` where neither is it.
        """
        if pending.lot.recipe_hash == self.visit.recipe.hash:
            return self.visit.recipe
        kept = self.tools.kept_recipe(pending.lot)
        if kept is None:
            raise JobEnded(Reason.PENDING_ELSEWHERE, pending.lot.product)
        return kept

    def _fetch_board_data(self) -> None:
        """Ask for all that the recipe gives this board, itself known by now; raises `JobEnded` when something is missing."""
        identity = self.evidence.identity
        if identity is not None and self.proving is None:
            self.board_data = self.tools.board_data.data_for(self.recipe, identity, self._job_id)

    def clean(self) -> Secrets:
        """Return what must be in nothing that this visit leaves: the board's secrets, and all others of the recipe."""
        return self.board_data.secrets | self.tools.board_data.secrets_around(self.visit.recipe)

    def awaits(self) -> JobEnded:
        """Return what ends this visit of a flashed board that cannot be tested here and now."""
        properties = self.link.properties
        if properties.tests and properties.hand_frees_gpio0:
            return JobEnded(Reason.AWAITS_RUN_MODE)
        return JobEnded(Reason.AWAITS_TEST_SLOT, " or ".join(self.visit.test_slots) or "of another bench")

    def demands_cold_boot(self) -> bool:
        """Whether the recipe wants a hardware start of this very board before its PASS."""
        if self.proving is not None:
            return False
        policy = self.recipe.policy
        if policy.cold_boot in ("never", "all"):
            return policy.cold_boot == "all"
        return demands_cold_boot(policy, self.tools.recorder.number_in_lot(self._job_id))

    def require_evidence(self) -> None:
        """Raise `JobEnded` unless every required measurement was made and is within its limits."""
        earlier = self.pending.measurements if self.pending is not None else ()
        within = {measurement.name for measurement in (*earlier, *self.evidence.measurements) if measurement.within}
        flashed = self.evidence.flash_touched or self.pending is not None
        chip, made = self.evidence.flash, self.proving is None
        required = required_evidence(self.recipe, flashed=flashed, chip=chip, made=made)
        missing = [name for name in required if name not in within]
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
        """Return the verdict, or that the hub was disturbed since then; it may take two seconds, and the port is released.

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
            return self.record_finding(verdict.reason or Reason.STATION_BUG, verdict.detail)
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
        if progress.note:
            progress = replace(progress, note=self.board_data.secrets.text(progress.note, cut=True))
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
            return self.record_finding(Reason.TEST_INTERRUPTED, reason)
        return self.record_finding(reason, verdict.detail)

    def record_finding(self, reason: Reason, detail: str) -> Finding:
        """End the visit on record without a result of its own; what the records cannot take is said instead."""
        clean = self.clean()
        detail = clean.text(detail, cut=True)
        end = VisitEnd(
            ended_at=self.tools.now(),
            job_id=self.pending.id if self.pending is not None else None,
            finding=reason,
            detail=detail,
            transcript=clean.data(self.transcript, cut=True),
            mac=self.mac,
        )
        try:
            self.tools.recorder.end_visit(self.visit.id, end)
        except RecordsUnwritable as error:
            reason, detail = Reason.RECORDS_UNWRITABLE, str(error)
        return Finding(visit_id=self.visit.id, reason=reason, detail=detail, mac=self.mac)

    def _row_of_the_other_board(self, swapped: JobEnd) -> JobRow:
        """The board that was flashed stays pending; the one that answered in its place gets an ERROR row of its own."""
        other = next((m.value for m in self.evidence.measurements if m.name == "mac"), "")
        start = replace(
            self._start(),
            id=self.tools.new_id(),
            identity=None,
            observed_mac=self.clean().text(str(other or "")),
            flash=None,
            attempt=1,
        )
        end = replace(
            swapped,
            state=JobState.CLOSED,
            outcome=Outcome.ERROR,
            flash_touched=False,
            bytes_flashed=0,
            baud_used=None,
            values=(),
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
            firmware_sha256=self.recipe.firmware_sha256,
            operator=self.tools.operator,
            host=self.tools.host(),
            attempt=self.pending.attempt if self.pending else 1 + (self._known.attempts if self._known else 0),
        )

    def _end(self, verdict: Verdict) -> JobEnd:
        closed = verdict.state is JobState.CLOSED
        evidence, clean = self.evidence, self.clean()
        lines = [clean.text(line, cut=True) for line in ([verdict.detail] if verdict.reason else []) + evidence.notes]
        beyond_connect = any(
            phase.phase is not Phase.CONNECT and phase.outcome is not PhaseOutcome.SKIPPED for phase in evidence.phases
        )
        flash_touched = evidence.flash_touched or self.pending is not None
        # Until a phase after CONNECT began nothing was sent that carries the board's numbers.
        used = flash_touched or beyond_connect or verdict.outcome is Outcome.PASS
        return JobEnd(
            state=verdict.state,
            outcome=(verdict.outcome or Outcome.ERROR) if closed else None,
            reason=verdict.reason or "",
            detail="\n".join(lines)[:TRANSCRIPT_CAP_BYTES],
            ended_at=self.tools.now(),
            duration_s=self.tools.clock() - self._began,
            phases=tuple(replace(phase, detail=clean.text(phase.detail, cut=True)) for phase in evidence.phases),
            measurements=tuple(without_secrets(clean, measured) for measured in evidence.measurements),
            baud_used=evidence.baud_used,
            baud_fallbacks=evidence.baud_fallbacks,
            boot_evidence=evidence.boot_evidence,
            flash_touched=flash_touched,
            flash_mode=evidence.flash_mode,
            bytes_flashed=evidence.bytes_flashed,
            transcript=clean.data(self.transcript, cut=True),
            values=tuple((name, clean.text(value)) for name, value in self.board_data.public) if used else (),
            number_used=used,
        )


def say_slip(event: str, slip: Verdict) -> None:
    """Log what went wrong after a result was on record, and changes nothing about it."""
    tell = log.error if slip.reason is Reason.STATION_BUG else log.info
    tell(event, reason=slip.reason, problem=slip.detail)


def without_secrets(secrets: Secrets, measured: Measurement) -> Measurement:
    """The measurement as it may be kept: a check of the recipe's own may have read back what it must not tell."""
    return replace(measured, name=secrets.text(measured.name), value=secrets.value(measured.value))

"""What happens to one board: `run_job` reads top to bottom like the work instruction on the bench wall.

It runs in the slot's own thread, for one visit (one plug of one slot), and returns what is on record at its end: a
committed job, a finding of a visit that never became a job, or a result that the records could not take yet. It holds the
only broad `except` of the program; what an exception means is said in `station.verdict`. It must never report a PASS that
is not a conjunction of the evidence listed in `required_evidence`, and never one that was not read back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from station import selftest
from station.errors import (
    BootLooping,
    CheckRaised,
    FilesystemCorrupt,
    JobEnded,
    LineStopped,
    NothingBoots,
    RecordsUnwritable,
    StationError,
)
from station.flashing import BoardLink, Evidence, image_for
from station.model import (
    BootEvidence,
    BootInto,
    FlashChip,
    JobEnd,
    JobStart,
    JobState,
    KnownBoard,
    Measurement,
    Outcome,
    Phase,
    PhaseOutcome,
    PhaseRecord,
    Progress,
    VisitEnd,
)
from station.ports import Line, Repl
from station.reasons import Reason
from station.recipe import Recipe, check_unchanged
from station.verdict import (
    DETAIL_CAP_CHARACTERS,
    PASSED,
    Verdict,
    over_a_bad_line,
    phase_outcome,
    same_in_two_slots,
    verdict_of,
    verdict_of_bug,
    verdict_of_stop,
)
from station.visit import Finding, Held, JobRow, Tools, Visit, VisitResult, write_down

TRANSCRIPT_CAP_BYTES = 64 << 10
# A board that has power shows its first byte within a second; without reset lines only a person can restart it.
SIGN_OF_LIFE_S = 2.0
BOOT_SLACK_S = 30.0
"""What entering the prompt and asking a silent board may take beyond the boot deadline itself."""


def run_visit(visit: Visit, tools: Tools) -> VisitResult:
    """Run one visit from its row to its end; every way out releases the port first and then leaves a record."""
    try:
        tools.recorder.begin_visit(visit.id, visit.plug)
    except RecordsUnwritable as error:
        return Finding(visit_id=visit.id, reason=Reason.RECORDS_UNWRITABLE, detail=str(error))
    run = _Run(visit, tools)
    verdict = run_job(run)
    run.transcript = run.link.transcript[-TRANSCRIPT_CAP_BYTES:] if verdict is not PASSED else b""
    run.link.close()
    return run.put_on_record(verdict)


def run_job(run: _Run) -> Verdict:
    """Do to the board what the recipe says, phase by phase, and return the verdict."""
    try:
        with run.phase(Phase.CONNECT):
            check_unchanged(run.visit.recipe)
            identity = run.link.connect()
            run.tools.claims.claim(identity.mac, run.visit.plug.slot)
            run.look_up(identity.mac)
            chip = run.link.read_chip(run.visit.recipe)
            run.refuse_reused_mac(chip)
            run.begin()
        repl = _flash_until_it_boots(run, chip)
        run.skip(Phase.PROVISION)
        with run.phase(Phase.SELF_TEST):
            _self_test(run, repl, chip).leave()
        run.require_evidence()
        run.tools.claims.check(run.visit.plug.slot)
    except LineStopped as stopped:
        return verdict_of_stop(stopped.cause)
    except StationError as error:
        verdict = verdict_of(error, in_run_mode=run.evidence.boot_evidence is not None)
        return over_a_bad_line(verdict) if run.link.saw_corruption else verdict
    except Exception as error:  # noqa: BLE001 - the one broad except: a bug of ours must cost one job, not the station
        return verdict_of_bug(error)
    return PASSED


def _flash_until_it_boots(run: _Run, chip: FlashChip) -> Repl:
    """FLASH, VERIFY and BOOT; once more with flash mode dout or a fresh erase where that is known to help (D-1, D-13)."""
    mode = run.visit.recipe.flash_mode
    for second_try in (False, True):
        # Until it boots again the board is not in run mode: who answers in its place now is not a board that was verified.
        run.evidence.flash_mode, run.evidence.boot_evidence = mode, None
        image = image_for(run.visit.recipe, chip, mode)
        with run.phase(Phase.FLASH):
            run.link.write(image)
        with run.phase(Phase.VERIFY):
            run.link.verify(image, chip)
        try:
            with run.phase(Phase.BOOT):
                return _boot(run)
        except FilesystemCorrupt:
            if second_try:
                raise
            run.evidence.notes.append("filesystem reported corrupt: erased and written again")
        except (NothingBoots, BootLooping) as error:
            if second_try or mode == "dout":
                raise
            run.evidence.notes.append(f"{type(error).__name__} with flash mode {mode}: written again with dout")
            mode = "dout"
    raise AssertionError("the second try returns or raises")


def _boot(run: _Run, phase: Phase = Phase.BOOT) -> Repl:
    """Start the firmware by whatever this slot's wiring allows and wait for its prompt."""
    run.tell(Progress(phase=phase, note="starting", allow_s=run.tools.settings.boot_deadline_s + BOOT_SLACK_S))
    if run.link.leave_loader(BootInto.FIRMWARE):
        run.evidence.boot_evidence = BootEvidence.RESET_LINE
    else:
        # Without reset lines only a loss of power restarts the board; where the port is a pty, closing it is one.
        run.link.close()
        if not _shows_life(run.link.line):
            raise JobEnded(Reason.AWAITS_RUN_MODE)
        run.evidence.boot_evidence = BootEvidence.COLD
    repl = run.tools.make_repl(run.link.line, run.visit.stop)
    began = run.tools.clock()
    try:
        repl.await_prompt(run.tools.settings.boot_deadline_s)
    except NothingBoots:
        if run.link.loader_still_answers():
            raise JobEnded(Reason.AWAITS_RUN_MODE) from None
        raise
    run.evidence.measure(Measurement(name="boot_to_prompt", value=round(run.tools.clock() - began, 3), unit="s"))
    return repl


def _shows_life(line: Line) -> bool:
    """Whether anything comes from a board that was started by its power, by itself or after an empty line."""
    if line.read_some(SIGN_OF_LIFE_S):
        return True
    line.send(b"\r\n")
    return bool(line.read_some(SIGN_OF_LIFE_S))


def _self_test(run: _Run, repl: Repl, chip: FlashChip) -> Repl:
    """Run every check and keep every measurement; raises `JobEnded` when they do not add up to a pass.

    Returns the REPL in which the last check ran: the board is reset once, between writing a file and reading it back.
    """
    recipe, identity = run.visit.recipe, run.evidence.identity
    assert identity is not None  # noqa: S101 - CONNECT read it
    checks = selftest.checks_for(recipe, identity, chip)
    stored = selftest.filesystem_checks(recipe, secrets.randbits(64))
    for check in (*checks, *stored[:1]):
        _check(run, repl, check)
    for check in stored[1:]:
        repl.leave()
        repl = _boot(run, Phase.SELF_TEST)
        _check(run, repl, check)
    failure = selftest.judge(recipe, run.evidence.measurements)
    if failure is not None:
        raise JobEnded(failure.reason, failure.detail)
    return repl


def _check(run: _Run, repl: Repl, check: selftest.Check) -> None:
    run.tell(Progress(phase=Phase.SELF_TEST, note=check.name))
    try:
        payload = repl.run(check.code, run.tools.settings.check_deadline_s)
    except CheckRaised as error:
        run.evidence.notes.append(error.traceback)
        raise JobEnded(Reason.CHECK_RAISED, check.name) from error
    for measurement in selftest.parse(check, payload):
        run.evidence.measure(measurement)
    # Another board's values are nobody's: stop at the first sign of it.
    failure = selftest.first_failure(run.evidence.measurements)
    if failure is not None and failure.reason is Reason.IDENTITY_MISMATCH:
        raise JobEnded(failure.reason, failure.detail)


def required_evidence(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the measurements without which there is no PASS."""
    flashed = ("flash_md5", "flash_real_size", "flash_rest_blank", "mac_after_write", "boot_to_prompt")
    return flashed + selftest.required_measurements(recipe)


class _Run:
    """One visit while it runs: its link, its evidence, its clock, and whether its job row exists."""

    def __init__(self, visit: Visit, tools: Tools) -> None:
        self.visit = visit
        self.tools = tools
        self.evidence = Evidence()
        self.transcript = b""
        self.begun = False
        self._job_id = tools.new_id()
        self._known: KnownBoard | None = None
        self._began = tools.clock()
        self._started_at = tools.now()
        self.link = BoardLink(
            programmer=visit.plug.programmer,
            opener=tools.opener,
            flasher=tools.flasher,
            stop=visit.stop,
            settings=tools.settings,
            evidence=self.evidence,
            clock=tools.clock,
            tell=self.tell,
        )

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Time one phase and keep how it ended, whatever ends it."""
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
        self.evidence.phases.append(PhaseRecord(phase=phase, outcome=PhaseOutcome.SKIPPED, duration_s=0.0))
        if self.visit.until is phase:
            raise JobEnded(Reason.STOPPED_BY_REQUEST, phase)

    def look_up(self, mac: str) -> None:
        """Ask the records what they know about this board."""
        self._known = self.tools.recorder.known_board(mac)

    def refuse_reused_mac(self, chip: FlashChip) -> None:
        """Raise `JobEnded` when the records know this MAC on another flash chip (G-3)."""
        known = self._known
        if known is not None and known.flash_id is not None and known.flash_id != chip.jedec_id:
            raise JobEnded(Reason.MAC_REUSED, f"flash {chip} here, {known.flash_id:06x} before")

    def begin(self) -> None:
        """Write the job row: durable before the first byte of flash is touched."""
        self.tools.recorder.begin_job(self._start())
        self.begun = True

    def require_evidence(self) -> None:
        """Raise `JobEnded` unless every required measurement was made and is within its limits."""
        within = {measurement.name for measurement in self.evidence.measurements if measurement.within}
        missing = [name for name in required_evidence(self.visit.recipe) if name not in within]
        if missing:
            raise JobEnded(Reason.EVIDENCE_MISSING, ", ".join(missing))

    def put_on_record(self, verdict: Verdict) -> VisitResult:
        """Write how the visit ended and return it as read back; a result the records cannot take is handed back as held."""
        verdict = same_in_two_slots(verdict, self.visit.plug.slot, self._known.errors if self._known else ())
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
        if self.begun or verdict.outcome in (Outcome.PASS, Outcome.FAIL):
            return True
        return verdict.outcome is Outcome.ERROR and (
            self.evidence.identity is not None or verdict.reason is Reason.STATION_BUG
        )

    def _record_finding(self, reason: Reason, detail: str) -> Finding:
        end = VisitEnd(
            ended_at=self.tools.now(), job_id=None, finding=reason, detail=detail, transcript=self.transcript
        )
        try:
            self.tools.recorder.end_visit(self.visit.id, end)
        except RecordsUnwritable as error:
            reason, detail = Reason.RECORDS_UNWRITABLE, str(error)
        return Finding(visit_id=self.visit.id, reason=reason, detail=detail)

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
            attempt=1 + (self._known.attempts if self._known else 0),
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
            flash_touched=evidence.flash_touched,
            flash_mode=evidence.flash_mode,
            bytes_flashed=evidence.bytes_flashed,
            transcript=self.transcript,
        )

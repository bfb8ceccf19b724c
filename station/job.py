"""What happens to one board: `run_job` reads top to bottom like the work instruction on the bench wall.

It runs in the slot's own thread, for one visit (one plug of one slot), and returns what is on record at its end: a
committed job, a finding of a visit that never became a job, or a result that the records could not take yet. It holds the
only broad `except` of the program; what an exception means is said in `station.verdict`. It must never report a PASS that
is not a conjunction of the evidence listed in `required_evidence`, and never one that was not read back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from station import blinking, proofs, provisioning, testing
from station.admission import admit, refuse_marked
from station.booting import boot, meet_firmware
from station.errors import (
    BootLooping,
    FilesystemCorrupt,
    FirmwareAnswers,
    JobEnded,
    LineError,
    LineStopped,
    LinkError,
    LinkSilent,
    NothingBoots,
    RecordsUnwritable,
    StationError,
)
from station.flashing import image_for
from station.inspection import inspect
from station.jobrun import TRANSCRIPT_CAP_BYTES, JobRun, say_slip
from station.model import FlashChip, Identity, Outcome, Phase
from station.ports import Repl
from station.properties import Role
from station.reasons import Reason
from station.recipe import check_unchanged
from station.selftest import refuse_rejected
from station.verdict import (
    PASSED,
    SILENCES,
    Verdict,
    over_a_bad_line,
    verdict_of,
    verdict_of_bug,
    verdict_of_stop,
)
from station.visit import Finding, Tools, Visit, VisitResult

T = TypeVar("T")
RETURNS = 2
"""So often a flashed board may come back with GPIO0 at GND before somebody is called."""


def run_visit(visit: Visit, tools: Tools) -> VisitResult:
    """Run one visit from its row to its end: whatever happens, it leaves a result, and its port is released.

    The port is released before the result goes on record; only where the board itself shows that result, after it.
    """
    try:
        tools.recorder.begin_visit(visit.id, visit.plug)
    except RecordsUnwritable as error:
        return Finding(visit_id=visit.id, reason=Reason.RECORDS_UNWRITABLE, detail=str(error))
    run = JobRun(visit, tools)
    result = _on_record(run, run_job(run))
    if run.blinks:
        _afterwards("board.does_not_blink", lambda: blinking.show(run, result))
    _afterwards("port.not_released", run.link.close)
    _afterwards("slot.not_judged", lambda: proofs.watch_slot(run, result))
    return result


def _on_record(run: JobRun, verdict: Verdict) -> VisitResult:
    """Bring a verdict to its record; a mistake of ours on the way is what goes on record then, and is said at the least."""
    result = _guarded(lambda: _written(run, _settled(run, verdict)))
    if isinstance(result, Verdict):
        slip = result
        result = _guarded(lambda: _written(run, slip))
    if isinstance(result, Verdict):
        reason = result.reason or Reason.STATION_BUG
        return Finding(visit_id=run.visit.id, reason=reason, detail=result.detail, mac=run.mac)
    return result


def _settled(run: JobRun, verdict: Verdict) -> Verdict:
    """Release the port, unless the board is to show the result, and return the verdict that the hub leaves."""
    run.transcript = run.link.transcript[-TRANSCRIPT_CAP_BYTES:] if verdict is not PASSED else b""
    run.blinks = blinking.has_light(run, verdict)
    since_s = run.tell_the_hub(verdict)
    if not run.blinks:
        run.link.close()
    return run.blame_the_hub(verdict, since_s)


def _written(run: JobRun, verdict: Verdict) -> VisitResult:
    """Write what the visit made of its board: a proof of the slot, or a job, or a finding."""
    if run.proving is not None:
        return proofs.put_on_record(run, run.proving, verdict)
    return run.put_on_record(proofs.blame_the_supply(run, verdict))


def _afterwards(event: str, work: Callable[[], None]) -> None:
    """Do what changes nothing about a result that is on record, even where it goes wrong."""
    slip = _guarded(work)
    if slip is not None:
        say_slip(event, slip)


def run_job(run: JobRun) -> Verdict:
    """Do to the board what the recipe says, phase by phase, and return the verdict."""

    def made_or_judged() -> Verdict:
        try:
            _make(run)
        except StationError as error:
            return _judge(run, error)
        return PASSED

    return _guarded(made_or_judged)


def _guarded(work: Callable[[], T]) -> T | Verdict:
    """Do this; what took the line away, or a mistake of ours, comes back as its verdict."""
    try:
        return work()
    except LineStopped as stopped:
        return verdict_of_stop(stopped.cause)
    except Exception as error:  # noqa: BLE001 - the one broad except: a bug of ours must cost one job, not the station
        return verdict_of_bug(error)


def _make(run: JobRun) -> None:
    """Every phase in its order; returns when there is evidence for a PASS, and raises what came in between."""
    with run.phase(Phase.CONNECT):
        repl = _connect(run)
    if repl is None and run.is_to_be_made:
        repl = _flash_until_it_boots(run)
    elif repl is None:
        with run.phase(Phase.BOOT):
            repl = boot(run)
    if provisioning.has_work(run):
        with run.phase(Phase.PROVISION):
            provisioning.provision(run, repl)
    else:
        run.skip(Phase.PROVISION)
    with run.phase(Phase.SELF_TEST):
        repl = testing.prove(run, repl)
        if not blinking.is_wanted(run):
            repl.leave()
    run.require_evidence()
    provisioning.learn_layout(run)
    run.tools.claims.check(run.visit.plug.slot)


def _judge(run: JobRun, error: StationError) -> Verdict:
    """Return what `error` means; nothing is held against a board that is not there any more."""
    verdict = verdict_of(error, in_run_mode=run.evidence.boot_evidence is not None)
    try:
        if verdict.reason in SILENCES and run.link.was_lifted():
            return verdict_of(JobEnded(Reason.BOARD_REMOVED))
        if verdict.outcome is Outcome.FAIL and run.link.was_exchanged():
            return verdict_of(JobEnded(Reason.BOARD_REMOVED, "another board is in its place"))
    except LineError as gone:
        return verdict_of(gone)
    except LinkError:
        pass  # nobody could tell whether it is there: what it did before stands
    return over_a_bad_line(verdict) if run.link.saw_corruption else verdict


def _connect(run: JobRun) -> Repl | None:
    """Find out who is there and what is to be done; the prompt of a board that runs its firmware already, else None."""
    if run.visit.properties.role is Role.INSPECT:
        raise JobEnded(Reason.INSPECTED, inspect(run))
    check_unchanged(run.recipe)
    try:
        identity = run.link.connect()
    except (FirmwareAnswers, LinkSilent) as answered:
        return meet_firmware(run, answered)
    _meet_loader(run, identity)
    return None


def _meet_loader(run: JobRun, identity: Identity) -> None:
    """A board is in its loader: go on with the job that waits for it, or begin one, or say why neither."""
    run.claim(identity.mac)
    known, again, recipe = run.look_up(identity.mac), run.visit.again, run.recipe
    if proofs.meet(run, known):
        run.refuse_reused_mac(run.link.read_chip(recipe))
        return
    refuse_marked(known, again=again)
    if run.resume():
        if not run.link.properties.starts_firmware_by_lines:
            raise _still_at_ground(run)
        _refuse_other_flash(run, run.link.read_chip(run.recipe))
        return
    if not run.link.properties.flashes:
        _judge_loader_in_test_slot(run)
    # Another flash chip under a known MAC is another board: what the first one passed says nothing about it.
    chip = run.link.read_chip(recipe)
    run.refuse_reused_mac(chip)
    refuse_rejected(recipe.checks.flash_policy, chip)
    admit(known, recipe, again=again)
    run.begin()


def _still_at_ground(run: JobRun) -> JobEnded:
    """A flashed board is in its loader again: the hand forgot the jumper, or came back because nothing starts without it.

    Nobody can tell the two apart, for a board that does not start has no name. So it is never judged, but called for.
    """
    assert run.pending is not None  # noqa: S101 - resumed
    returns = run.tools.recorder.returns_at_ground(run.pending.id)
    if returns >= RETURNS:
        return JobEnded(Reason.NEVER_STARTED, str(returns + 1))
    return run.awaits()


def _judge_loader_in_test_slot(run: JobRun) -> None:
    """No job waits for this board: raises `JobEnded` unless it can be started here and the recipe wants it tested."""
    policy = run.recipe.policy.run_mode_board
    if not run.link.properties.starts_firmware_by_lines:
        raise JobEnded(Reason.IN_DOWNLOAD_MODE)
    if policy != "test":
        raise JobEnded(Reason.NOT_FLASHED_HERE if policy == "refuse" else Reason.NO_PENDING_JOB)


def _refuse_other_flash(run: JobRun, chip: FlashChip) -> None:
    """Raise `JobEnded` when the board that came back carries another flash chip than the one that was flashed."""
    if run.pending is not None and chip.jedec_id != run.pending.flash.jedec_id:
        raise JobEnded(Reason.IDENTITY_MISMATCH, f"flash {chip} instead of {run.pending.flash}")


def _flash_until_it_boots(run: JobRun) -> Repl:
    """FLASH, VERIFY and BOOT; once more with flash mode dout or a fresh erase where that is known to help (D-1, D-13)."""
    mode, chip = run.recipe.flash_mode, run.evidence.flash
    assert chip is not None  # noqa: S101 - CONNECT read it
    ready_filesystem = True
    for second_try in (False, True):
        # Until it boots again the board is not in run mode: who answers in its place now is not a board that was verified.
        run.evidence.flash_mode, run.evidence.boot_evidence = mode, None
        image = image_for(run.recipe, chip, mode)
        areas = provisioning.areas_for(run, len(image)) if ready_filesystem else ()
        with run.phase(Phase.FLASH):
            run.link.write(image, areas)
        with run.phase(Phase.VERIFY):
            run.link.verify(image, chip, areas)
        run.programs = bool(areas) and provisioning.starts_a_program(run)
        if not run.link.properties.tests:
            raise run.awaits()
        try:
            with run.phase(Phase.BOOT):
                return boot(run)
        except FilesystemCorrupt:
            if second_try:
                raise
            ready_filesystem = False
            run.evidence.notes.append("filesystem reported corrupt: erased and written again")
        except (NothingBoots, BootLooping) as error:
            if second_try or mode == "dout":
                raise
            run.evidence.notes.append(f"{type(error).__name__} with flash mode {mode}: written again with dout")
            mode = "dout"
    raise AssertionError("the second try returns or raises")

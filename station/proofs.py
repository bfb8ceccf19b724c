"""A visit and what its slot has to prove: who is judged instead of made, who is turned away, and what goes on record.

Asked of the records in every visit, when the board is known and before its first write: a release by a person holds at once, a
restart forgets nothing. A golden or red board is judged by the self-test alone. It must never get a job row, count in a yield,
or be written; and no other board may be made in a slot that is barred.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from station.errors import ConfigurationError, JobEnded, RecordsUnwritable
from station.hubs import hubs_of
from station.jobrun import JobRun, without_secrets
from station.model import BoardMark, CommittedJob, KnownBoard, Outcome
from station.proving import Golden, Proof, Sample, SlotEvent, SlotWord, after, bad_run, bar_of, finding_of
from station.reasons import Reason
from station.verdict import Verdict, by_the_supply
from station.visit import Finding, VisitResult

log = structlog.get_logger()

# Of a board that is not made nothing is pending, and nothing half-flashed: what is said then is what the hand can do.
_SAID_OF_A_SAMPLE = {
    Reason.AWAITS_RUN_MODE: Reason.IN_DOWNLOAD_MODE,
    Reason.AWAITS_TEST_SLOT: Reason.IN_DOWNLOAD_MODE,
    Reason.BOARD_REMOVED: Reason.UNPLUGGED,
    Reason.STATION_STOPPED: Reason.TEST_INTERRUPTED,
}


def meet(run: JobRun, known: KnownBoard | None) -> bool:
    """Whether the board that was just recognised is to be judged here, and not made.

    Raises `JobEnded` for any other board where the slot may make none now.
    """
    proofs, visit = run.tools.proofs, run.visit
    if proofs is None:
        return False
    sample = _sample(known)
    if sample is not None and run.link.properties.tests:
        run.proving = sample
        return True
    standing = proofs.standing(visit.plug.slot, visit.lot.id, visit.shift_began)
    bar = bar_of(standing, visit.recipe.policy.prove if run.link.properties.tests else ())
    if bar is not None:
        raise JobEnded(*bar)
    if visit.for_proofs_only:
        # It was let in beside the first article because it had to prove itself, and has done so since.
        raise JobEnded(Reason.FIRST_ARTICLE_RUNS, "of another board")
    return False


def put_on_record(run: JobRun, sample: Sample, verdict: Verdict) -> VisitResult:
    """Write what the slot made of a known board, and what that changes for the slot; a proof that is not on record is none."""
    found = finding_of(sample, verdict.outcome, verdict.reason, verdict.detail)
    if found is None:
        reason = verdict.reason or Reason.STATION_BUG
        return run.record_finding(_SAID_OF_A_SAMPLE.get(reason, reason), verdict.detail)
    finding, detail = found
    # What a board says may be what it was given: the key of a network, the password of its WebREPL.
    clean = run.clean()
    detail = clean.text(detail, cut=True)
    observed = "" if verdict.outcome is Outcome.PASS else f"{verdict.reason}: {verdict.detail}"
    proof = Proof(
        id=run.tools.new_id(),
        visit_id=run.visit.id,
        slot=run.visit.plug.slot,
        mac=run.mac,
        sample=sample,
        observed=clean.text(observed, cut=True),
        finding=finding,
        recipe_hash=run.visit.recipe.hash,
        lot_id=run.visit.lot.id,
        measurements=[without_secrets(clean, each) for each in run.evidence.measurements],
    )
    proofs = run.tools.proofs
    assert proofs is not None  # noqa: S101 - `meet` made it a sample
    try:
        standing = proofs.standing(proof.slot, proof.lot_id, run.visit.shift_began)
        event = after(proof, standing, detail, run.tools.new_id())
        proofs.put(proof, event)
    except RecordsUnwritable as error:
        return Finding(visit_id=run.visit.id, reason=Reason.RECORDS_UNWRITABLE, detail=str(error), mac=run.mac)
    if event is not None:
        _say(event)
    return run.record_finding(finding, detail)


def blame_the_supply(run: JobRun, verdict: Verdict) -> Verdict:
    """Return the verdict, or that slot or hub are too weak: then a golden board had restarted under load there as well."""
    proofs, plug = run.tools.proofs, run.visit.plug
    if proofs is None or verdict.reason is not Reason.BROWNOUT:
        return verdict
    try:
        weak = weak_supply(plug.slot, plug.programmer.place, proofs.goldens())
    except RecordsUnwritable as error:
        log.error("slot.not_judged", slot=plug.slot, problem=str(error))  # noqa: TRY400 - no traceback
        return verdict
    if not weak:
        return verdict
    run.evidence.notes.append(f"{verdict.reason}: {verdict.detail}")
    return by_the_supply(verdict, weak)


def weak_supply(slot: str, place: str, goldens: Iterable[Golden]) -> str:
    """Return the slot where a golden board restarted under load, as a board at `place` did now; empty when none did.

    `goldens`: newest first. The last one of this slot and the last one behind its hub count: who passed since speaks for the
    supply (E-1).
    """
    hub, looked_at = hubs_of(place)[0], set[str]()
    for golden in goldens:
        near = {"slot"} if golden.slot == slot else set()
        near |= {"hub"} if hubs_of(golden.place)[0] == hub else set()
        if near - looked_at and golden.observed.partition(":")[0] == Reason.BROWNOUT:
            return golden.slot
        looked_at |= near
    return ""


def watch_slot(run: JobRun, result: VisitResult) -> None:
    """After a job: quarantine the slot where it belongs to a bad run of its own."""
    proofs, boards, slot = run.tools.proofs, run.visit.quarantine_after, run.visit.plug.slot
    if not isinstance(result, CommittedJob) or result.outcome not in (Outcome.FAIL, Outcome.ERROR):
        return
    if proofs is None or not boards:
        return
    try:
        why = bad_run(slot, run.visit.siblings, proofs.lately(slot), boards)
        standing = proofs.standing(slot, run.visit.lot.id, None)
        if why and not standing.quarantine:
            event = SlotEvent(id=run.tools.new_id(), slot=slot, word=SlotWord.QUARANTINE, cause=why)
            proofs.say(event)
            _say(event)
    except (RecordsUnwritable, ConfigurationError) as error:
        # The next bad board of this slot asks again; or a person was faster, and it is in quarantine already.
        log.error("slot.not_judged", slot=slot, problem=str(error))  # noqa: TRY400 - no traceback


def _sample(known: KnownBoard | None) -> Sample | None:
    """What this board proves; None for one that is not golden, nor red with a reason that somebody enrolled."""
    if known is not None and BoardMark.GOLDEN in known.marks:
        return Sample(mark=BoardMark.GOLDEN)
    if known is not None and BoardMark.RED in known.marks and known.enrolled:
        return Sample(mark=BoardMark.RED, enrolled=known.enrolled)
    return None


def _say(event: SlotEvent) -> None:
    tell = log.error if event.word is SlotWord.QUARANTINE else log.info
    tell(f"slot.{event.word}", slot=event.slot, cause=event.cause)

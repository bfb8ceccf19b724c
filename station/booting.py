"""From loader to firmware, and who answers there: BOOT, and the meeting with a board that runs its firmware already.

A board is brought into its firmware by whatever its slot allows: a reset by the lines, or run user code by software although
GPIO0 is at GND. Evidence is the prompt of the REPL, nothing less; where it does not come after a software start, the job
waits for another visit. After a software start the chip is never reset by software: its boot latch still holds GPIO0 low.
"""

from __future__ import annotations

import re
from contextlib import suppress

from station import proofs, selftest, upload
from station.admission import admit, refuse_marked
from station.errors import (
    BoardRestartedInTest,
    BootLooping,
    FirmwareAnswers,
    JobEnded,
    LinkError,
    LinkSilent,
    NothingBoots,
    ReplError,
    ReplGarbage,
    ReplSilent,
)
from station.jobrun import JobRun
from station.model import BootEvidence, FlashChip, Identity, KnownBoard, Measurement, Phase
from station.ports import Repl
from station.properties import Gpio0, Learned, Reset
from station.reasons import Reason
from station.views import Progress

BOOT_SLACK_S = 30.0
"""What entering the prompt and asking a silent board may take beyond the boot deadline itself."""
SIGN_OF_LIFE_S = 3.0
"""A firmware that was started says its first byte within half a second."""
SPARES_THE_FILESYSTEM = (1, 21)
"""The first release in which Ctrl-C does not stop the making of the filesystem (micropython#10833)."""
FIRST_BOOT_S = 2.0
"""A board that makes its filesystem at its very first start is silent for a while (F-1)."""
LAST_WORDS_BYTES = 2048
"""In so much before a prompt stands what was interrupted for it."""
_BOOT_PY_WAS_CUT = re.compile(rb'File "boot\.py", line \d+[^\n]*\n(?:  [^\n]*\n)*KeyboardInterrupt')


def boot(run: JobRun, phase: Phase = Phase.BOOT) -> Repl:
    """Start the firmware of a board that is in its loader, and wait for its prompt; raises `JobEnded` when it must wait."""
    run.tell(Progress(phase=phase, note="starting", allow_s=run.tools.settings.boot_deadline_s + BOOT_SLACK_S))
    if run.link.properties.starts_firmware_by_lines and run.link.reset_into_firmware():
        run.evidence.boot_evidence = BootEvidence.RESET_LINE
        try:
            return _await_prompt(run)
        except NothingBoots:
            if not run.link.loader_still_answers():
                raise
            run.learn(Learned(gpio0=Gpio0.HAND, evidence="the loader answered after a reset with GPIO0 released"))
            run.evidence.boot_evidence = None
    return _boot_by_software(run)


def restart(run: JobRun, repl: Repl) -> Repl:
    """Restart a board in its firmware by the strongest means this slot allows, and return its new prompt.

    Raises `JobEnded` where the interpreter that answers is still the one from before: nothing is proven by that.
    """
    settings = run.tools.settings
    allow_s = settings.boot_deadline_s + 2 * settings.check_deadline_s + BOOT_SLACK_S
    run.tell(Progress(phase=Phase.SELF_TEST, note="restarting", allow_s=allow_s))
    repl.run(selftest.MARK_CODE, settings.check_deadline_s)
    again = _restart(run, repl)
    if again.run(selftest.MARKED_CODE, settings.check_deadline_s).strip() != b"false":
        raise JobEnded(Reason.EVIDENCE_MISSING, "the restart (the memory of before is still there)")
    by_software = run.evidence.boot_evidence is BootEvidence.SOFT
    if run.programs and not by_software and _BOOT_PY_WAS_CUT.search(run.link.transcript[-LAST_WORDS_BYTES:]):
        # Every board with this recipe would lack what its boot.py does last: that is no fault of a board.
        raise JobEnded(
            Reason.EVIDENCE_MISSING, "what boot.py does: it was interrupted with main.py, which must be held"
        )
    return again


def _restart(run: JobRun, repl: Repl) -> Repl:
    match run.evidence.boot_evidence:
        case BootEvidence.RESET_LINE:
            repl.leave()
            if run.link.properties.starts_firmware_by_lines:
                return boot(run, Phase.SELF_TEST)
            # A hand keeps GPIO0 free, or this board would not run its firmware: the line to EN alone restarts it.
            run.link.reset_into_firmware()
            return _await_prompt(run)
        case BootEvidence.COLD:
            # GPIO0 was free at the last power-up, so the latch leads into the firmware again.
            # A program that starts by itself and says nothing hides that the board restarted; not for long.
            with suppress(BoardRestartedInTest, ReplSilent, ReplGarbage):
                repl.run(selftest.RESTART_CODE, min(SIGN_OF_LIFE_S, run.tools.settings.check_deadline_s))
            try:
                return _await_prompt(run)
            except NothingBoots as error:
                if not run.link.loader_still_answers():
                    raise
                # The latch says loader: GPIO0 is at GND, and what answered here was started by software before.
                raise run.awaits() from error
        case BootEvidence.SOFT | None:
            repl.run(selftest.UNMOUNT_CODE, run.tools.settings.check_deadline_s)
            repl.soft_reset(run.tools.settings.boot_deadline_s)
            return repl


def meet_firmware(run: JobRun, answered: FirmwareAnswers | LinkSilent) -> Repl:
    """Find out which board runs its firmware here, and go on with the job that waits for it; its prompt is returned.

    Raises `answered` where no firmware of ours can be expected, `JobEnded` where nothing waits for this board.
    """
    repl, identity, chip = _name_of_stranger(run, answered)
    run.claim(identity.mac)
    known = run.look_up(identity.mac)
    judged = proofs.meet(run, known)
    if not judged:
        refuse_marked(known, again=run.visit.again)
    if run.link.properties.reset is Reset.LINES:
        run.evidence.boot_evidence = BootEvidence.RESET_LINE
        if run.link.properties.gpio0 is None:
            evidence = "the firmware answered after a reset with GPIO0 held by the line"
            run.learn(Learned(gpio0=Gpio0.HAND, evidence=evidence))
    else:
        run.evidence.boot_evidence = BootEvidence.COLD
    if not judged and run.resume():
        return repl
    run.evidence.observed_mac = identity.mac
    if not judged:
        _judge_stranger(run, known, chip)
    run.evidence.identity, run.evidence.flash = identity, chip
    run.refuse_reused_mac(chip)
    if not judged:
        run.begin()
    return repl


def _boot_by_software(run: JobRun) -> Repl:
    """Start the firmware with GPIO0 at GND; whatever does not bring the prompt makes the job wait for another visit."""
    if run.demands_cold_boot():
        raise run.awaits()
    try:
        run.link.start_firmware_by_software()
        run.evidence.boot_evidence = BootEvidence.SOFT
        _expect_life(run)
        return _await_prompt(run)
    except (NothingBoots, BootLooping, ReplSilent, ReplGarbage, LinkError) as error:
        run.evidence.boot_evidence = None
        run.evidence.notes.append(f"no prompt after a start by software ({type(error).__name__}: {error})")
        raise run.awaits() from error


def _expect_life(run: JobRun) -> None:
    """Raise `NothingBoots` at once where the start by software was ignored: not a byte, and the loader still answers."""
    if not run.link.line.read_some(SIGN_OF_LIFE_S) and run.link.loader_still_answers():
        raise NothingBoots("run user code was ignored")


def look_at_files(run: JobRun, repl: Repl) -> dict[str, bool] | None:
    """Return what is in the board's filesystem, path -> whether it is a directory; None when none is mounted.

    A Ctrl-C that came before the mount leaves a prompt without a filesystem: a soft reset mounts it.
    """
    deadline_s = run.tools.settings.check_deadline_s
    there = upload.listing(repl.run(upload.LIST_CODE, deadline_s))
    if there is None:
        repl.soft_reset(run.tools.settings.boot_deadline_s)
        there = upload.listing(repl.run(upload.LIST_CODE, deadline_s))
    return there


def _await_prompt(run: JobRun, *, programs: bool = False) -> Repl:
    repl = run.tools.make_repl(run.link.line, run.visit.stop)
    ours = run.programs or (run.pending is not None and _may_carry_programs(run))
    began = run.tools.clock()
    repl.await_prompt(run.tools.settings.boot_deadline_s, programs=programs or ours)
    run.evidence.measure(Measurement(name="boot_to_prompt", value=round(run.tools.clock() - began, 3), unit="s"))
    run.repl = repl
    if ours:
        look_at_files(run, repl)
    return repl


def _name_of_stranger(run: JobRun, answered: FirmwareAnswers | LinkSilent) -> tuple[Repl, Identity, FlashChip]:
    """Prompt and name of a board that was not started by us; what tells no name has nothing held against it."""
    worth_waiting = run.visit.some_pending or not run.link.properties.flashes
    shows_prompt = isinstance(answered, FirmwareAnswers) and answered.micropython
    if not shows_prompt and not worth_waiting:
        raise answered
    note, deadline_s = "a firmware runs: who is it?", run.tools.settings.check_deadline_s
    run.tell(Progress(phase=Phase.CONNECT, note=note, allow_s=run.tools.settings.boot_deadline_s + BOOT_SLACK_S))
    if isinstance(answered, LinkSilent) and not run.link.line.read_some(FIRST_BOOT_S):
        raise answered
    try:
        repl = _await_prompt(run, programs=worth_waiting and _may_carry_programs(run))
        identity = repl.run(selftest.IDENTITY_CODE, deadline_s)
        return repl, *selftest.board_that_answers(identity, repl.run(selftest.FLASH_CODE, deadline_s))
    except ReplError as error:
        if run.link.properties.flashes:
            raise answered from error
        raise JobEnded(Reason.NO_ANSWER, f"a firmware runs and gives no name ({type(error).__name__})") from error


def _may_carry_programs(run: JobRun) -> bool:
    """Whether a board that was made before may run the recipe's main.py, and bears a Ctrl-C at its very first start."""
    numbers = run.recipe.firmware_version.split(".")[:2]
    spared = all(number.isdigit() for number in numbers) and tuple(map(int, numbers)) >= SPARES_THE_FILESYSTEM
    return spared and any(file.path == "main.py" for file in run.recipe.files.files)


def _judge_stranger(run: JobRun, known: KnownBoard | None, chip: FlashChip) -> None:
    """Raise `JobEnded` for a board that nobody waits for, unless the recipe wants such boards tested."""
    policy = run.recipe.policy
    half_flashed = known is not None and known.attempts_since_pass > 0
    if known is None or known.flash_id in (None, chip.jedec_id) or chip.jedec_id in known.accepted_flash_ids:
        admit(known, run.recipe, again=run.visit.again)
    if policy.run_mode_board == "refuse":
        raise JobEnded(Reason.NOT_FLASHED_HERE)
    if policy.run_mode_board == "ignore" or half_flashed or not run.link.properties.tests:
        flashes = run.link.properties.flashes
        raise JobEnded(Reason.NOT_IN_DOWNLOAD_MODE if flashes else Reason.NO_PENDING_JOB)

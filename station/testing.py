"""SELF_TEST: every check of the recipe is run on the board, every measurement kept, and the whole judged.

`prove` is what `run_job` calls with a board that answers; `station.selftest` says what is asked and what the answers mean.
The board is restarted exactly once, by the strongest means its slot allows: what was written before it must be there after
it. It must never let a measurement fall away, nor hold another board's values against this one.
"""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager, nullcontext

from station import network, provisioning, selftest
from station.booting import BOOT_SLACK_S, restart
from station.errors import BoardRestartedInTest, CheckRaised, JobEnded, ReplSilent
from station.hubs import hubs_of
from station.jobrun import JobRun
from station.model import BootEvidence, FlashChip, Measurement, Phase
from station.ports import Repl
from station.reasons import Reason
from station.views import Progress


def prove(run: JobRun, repl: Repl) -> Repl:
    """Run every check and keep every measurement; raises `JobEnded` when they do not add up to a pass.

    Returns the REPL in which the last check ran.
    """
    return _SelfTest(run, repl).prove()


class _SelfTest:
    """One self-test of one board, from the first check to the verdict."""

    def __init__(self, run: JobRun, repl: Repl) -> None:
        self._run, self._repl, self._recipe = run, repl, run.recipe
        self._boots = 0
        """Starts in the middle of a check, which nobody ordered."""

    def prove(self) -> Repl:
        run, recipe, identity, chip = self._run, self._recipe, self._run.evidence.identity, self._run.evidence.flash
        assert identity is not None  # noqa: S101 - CONNECT read it
        assert chip is not None  # noqa: S101 - likewise
        gpio0_held = run.evidence.boot_evidence is BootEvidence.SOFT
        for check in selftest.checks_for(recipe, identity, chip, gpio0_held=gpio0_held):
            self._check(check)
        after_restart = self._store(chip)
        names = run.board_data.names
        # A golden or a red board is judged as it is.
        for check in network.set_up_checks(recipe.network, names) if run.proving is None else ():
            self._check(check)
        # Last before the restart: what they leave behind in the interpreter is gone after it.
        for check in selftest.own_checks(recipe):
            self._check(check)
        self._repl = restart(run, self._repl)
        if recipe.checks.boot is not None:
            self._check(selftest.reset_cause_check("reset_cause_after_restart"))
        for check in (*after_restart, *network.proof_checks(recipe.network, names)):
            self._check(check)
        provisioning.prove_files(run, self._repl)
        self._measure_starts()
        failure = selftest.judge(recipe, run.evidence.measurements, chip)
        if failure is not None:
            raise JobEnded(failure.reason, failure.detail)
        provisioning.name_held(run, self._repl)
        return self._repl

    def _store(self, chip: FlashChip) -> tuple[selftest.Check, ...]:
        """Write what must survive the restart, and return what reads it back."""
        stored = selftest.filesystem_checks(self._recipe, secrets.randbits(64))
        share = selftest.fill_share(self._recipe, chip.jedec_id)
        for check in stored[:1]:
            self._check(check)
        if not share:
            return stored[1:]
        free = self._check(selftest.free_check(share))[0]
        if not free.within or not isinstance(free.value, int):
            return stored[1:]
        fill, fill_read = selftest.fill_checks(free.value, share, secrets.randbits(64))
        self._check(fill)
        return (*stored[1:], fill_read)

    def _measure_starts(self) -> None:
        evidence = self._run.evidence
        to_prompt = next((taken.value for taken in evidence.measurements if taken.name == "boot_to_prompt"), None)
        for measurement in selftest.start_measurements(self._recipe, boots=self._boots, to_prompt=to_prompt):
            evidence.measure(measurement)

    def _check(self, check: selftest.Check) -> tuple[Measurement, ...]:
        """Run one check, again where it restarted the board and the recipe allows for that, and keep what it measured."""
        run = self._run
        with self._turn(check):
            payload = self._ask(check)
        taken = selftest.parse(check, payload)
        for measurement in taken:
            run.evidence.measure(measurement)
        # Another board's values are nobody's: stop at the first sign of it.
        failure = selftest.first_failure(run.evidence.measurements)
        if failure is not None and failure.reason is Reason.IDENTITY_MISMATCH:
            raise JobEnded(failure.reason, failure.detail)
        return taken

    def _turn(self, check: selftest.Check) -> AbstractContextManager[None]:
        """Not too many radios at once behind one hub: their current is what makes a hub sag (E-3)."""
        if not check.radio:
            return nullcontext()
        run, scan = self._run, self._recipe.checks.wifi_scan
        at_once = scan.at_once_per_hub if scan is not None else selftest.RADIO_AT_ONCE_PER_HUB
        hub = hubs_of(run.visit.plug.programmer.place)[0]
        waits = Progress(phase=Phase.SELF_TEST, note="waiting for its turn at the radio")
        return run.tools.radios.turn(hub, at_once, run.visit.stop, lambda: run.tell(waits))

    def _ask(self, check: selftest.Check) -> bytes:
        run, allowed = self._run, self._recipe.checks.boot
        timeout_s = check.timeout_s or run.tools.settings.check_deadline_s
        while True:
            patience_s = None if check.timeout_s is None else timeout_s + run.tools.settings.progress_deadline_s
            run.tell(Progress(phase=Phase.SELF_TEST, note=check.name, allow_s=patience_s))
            try:
                return self._answer(check, timeout_s)
            except BoardRestartedInTest:
                self._boots += 1
                soft = run.evidence.boot_evidence is BootEvidence.SOFT
                if soft or allowed is None or self._boots > allowed.unexpected_boots:
                    raise
                run.evidence.notes.append(f"restarted by itself in check {check.name}: tested on, as the recipe allows")
                boot_s = run.tools.settings.boot_deadline_s
                run.tell(Progress(phase=Phase.SELF_TEST, note="restarted by itself", allow_s=boot_s + BOOT_SLACK_S))
                self._repl.await_prompt(boot_s, programs=run.programs)

    def _answer(self, check: selftest.Check, timeout_s: float) -> bytes:
        run = self._run
        try:
            return self._repl.run(check.code, timeout_s)
        except ReplSilent as error:
            # After a start by software GPIO0 is still at GND: a board that restarts by itself ends in its loader, silent.
            if run.evidence.boot_evidence is BootEvidence.SOFT and run.link.loader_still_answers():
                raise BoardRestartedInTest(f"check {check.name}: the loader answers") from error
            if check.own:
                raise JobEnded(Reason.CHECK_HUNG, check.name) from error
            raise
        except BoardRestartedInTest as error:
            raise BoardRestartedInTest(f"check {check.name}: {error}") from error
        except CheckRaised as error:
            traceback = selftest.with_own_lines(check, error.traceback) if check.own else error.traceback
            run.evidence.notes.append(traceback)
            raise JobEnded(Reason.CHECK_RAISED, check.name) from error

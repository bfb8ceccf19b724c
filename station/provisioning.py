"""PROVISION: the recipe's files get onto the board, and the proof that they are there after a restart.

Files lie on the board by the flash pass where its image's layout is known (`areas_for`), and through the REPL otherwise;
`provision` makes true whatever is not true yet, so that it may be run again in any later visit. `prove_files` believes nothing
but hashes that the board computed after its restart. It must never give a file its name before its content was read back,
write anything to a board that is not the one of this job, nor let a board pass whose files were not proven.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import msgspec

from station import selftest, upload
from station.booting import BOOT_SLACK_S, look_at_files
from station.errors import BoardRestartedInTest, CheckRaised, JobEnded, RecordsUnwritable, ReplGarbage, ReplSilent
from station.flashing import Area
from station.jobrun import JobRun
from station.layouts import LAYOUT_CODE, Layout, layout_that_answers
from station.model import BootEvidence, Measurement, Phase
from station.network import files_of
from station.ports import Repl
from station.reasons import Reason
from station.recipe import FilesPlan
from station.recipe.template import fill
from station.upload import Target, target_of
from station.views import Progress

TRIES = 2
"""So often one file is written before anybody is blamed (fault F-4)."""
NAMES_PER_RUN = 32
MAIN = "main.py"
"""The program that a firmware starts by itself; boot.py comes to its end before the prompt, or nothing does."""


def plan_for(run: JobRun) -> FilesPlan:
    """Return what shall lie on this very board, its own data filled in; the one place that says so.

    Nothing is asked of a golden or red board: it is judged as it is.
    """
    if run.proving is not None:
        return FilesPlan()
    plan = files_of(run.recipe)
    files = (
        msgspec.structs.replace(file, content=fill(file.content, run.board_data.names)) if file.fill_in else file
        for file in plan.files
    )
    return msgspec.structs.replace(plan, files=tuple(files))


def areas_for(run: JobRun, image_bytes: int) -> tuple[Area, ...]:
    """Return what the flash pass writes besides the image; nothing where the REPL has to do it.

    A ready filesystem means that the firmware's own first-start set-up never runs: so this way is taken only where the recipe
    says what becomes of `boot.py`, and does not want the access point that this set-up names and gives its password.
    """
    plan, chip = plan_for(run), run.evidence.flash
    target = target_of(plan)
    speaks_of_boot = target.only_these or "boot.py" in target.files or "boot.py" in target.absent
    if plan.by_repl or not target.files or not speaks_of_boot or run.recipe.network.access_point == "keep":
        return ()
    layout = _known_layout(run)
    if layout is None or chip is None or chip.size_bytes is None:
        return ()
    if not layout.fits(image_bytes=image_bytes, flash_bytes=chip.size_bytes):
        return ()
    content = run.tools.make_filesystem(layout, dict(target.files), target.directories)
    return (Area(offset=layout.start_bytes, content=content),) if content is not None else ()


def starts_a_program(run: JobRun) -> bool:
    """Whether the recipe's main.py gets its name with the other files, so that it runs at every start of a test."""
    return MAIN in target_of(plan_for(run)).files


def has_work(run: JobRun) -> bool:
    """Whether PROVISION has anything to do: a board that was never flashed here is judged as it is."""
    flashed = run.evidence.flash_touched or run.pending is not None
    return flashed and not target_of(plan_for(run)).empty


def provision(run: JobRun, repl: Repl) -> None:
    """Make the board's filesystem what the recipe says; raises `JobEnded` and what the REPL raises."""
    board = _Board(run=run, repl=repl, phase=Phase.PROVISION)
    board.refuse_another()
    target = target_of(plan_for(run))
    there = board.listing()
    gone = target.removals(there)
    for start in range(0, len(gone), NAMES_PER_RUN):
        upload.done(board.ask("removing files", upload.remove_code(gone[start : start + NAMES_PER_RUN])))
    kept = {path: kind for path, kind in there.items() if (path, kind) not in gone}
    missing = target.missing_directories(kept)
    for start in range(0, len(missing), NAMES_PER_RUN):
        upload.done(board.ask("making directories", upload.mkdir_code(missing[start : start + NAMES_PER_RUN])))
    found = board.hashes(target, [path for path in target.files if path in kept])
    wrong = [path for path, digest in target.hashes.items() if found.get(path) != digest]
    for number, path in enumerate(wrong):
        board.upload(target, path, number / len(wrong))
    count = len(target.files)
    run.evidence.measure(selftest.exactly("files_written", count, count))
    run.evidence.measure(selftest.recorded("files_by_repl", len(wrong)))
    run.programs = MAIN in target.files


def prove_files(run: JobRun, repl: Repl) -> None:
    """SELF_TEST, after the restart: what lies on the board, by hashes that it computes now, and where its filesystem lies.

    Raises `JobEnded` for the first thing that is not as the recipe says.
    """
    target = target_of(plan_for(run))
    if target.empty:
        return
    board = _Board(run=run, repl=repl, phase=Phase.SELF_TEST)
    board.check_layout()
    board.prove("files_hash", target)


def name_held(run: JobRun, repl: Repl) -> None:
    """After the last check: give the held files their names, and prove them once more from a filesystem mounted anew."""
    target = target_of(plan_for(run))
    if not target.held:
        return
    board = _Board(run=run, repl=repl, phase=Phase.SELF_TEST)
    for waiting, path in target.held.items():
        upload.done(board.ask(f"naming {path}", upload.name_code(waiting, path)))
    upload.done(board.ask("mounting again", upload.REMOUNT_CODE))
    board.prove("files_named", target.named())


def learn_layout(run: JobRun) -> None:
    """Keep where this image has its filesystem, as a board showed it that was flashed here and has passed."""
    chip, layout = run.evidence.flash, run.layout
    flashed = run.evidence.flash_touched or run.pending is not None
    if layout is None or not flashed or chip is None or chip.size_bytes is None:
        return
    if layout.fits(image_bytes=len(run.recipe.image), flash_bytes=chip.size_bytes):
        # It only saves time: a record that cannot be written now is no reason to blame anything.
        with suppress(RecordsUnwritable):
            run.tools.recorder.learn_layout(run.recipe.firmware_sha256, chip.size_bytes, layout)


def _known_layout(run: JobRun) -> Layout | None:
    chip = run.evidence.flash
    if chip is None or chip.size_bytes is None or not run.recipe.has_filesystem:
        return None
    with suppress(RecordsUnwritable):
        return run.tools.recorder.known_layout(run.recipe.firmware_sha256, chip.size_bytes)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Board:
    """A board at its prompt, as far as its files are concerned."""

    run: JobRun
    repl: Repl
    phase: Phase

    def ask(self, what: str, code: str, fraction: float | None = None) -> bytes:
        """Run code and return what it printed; an exception on the board ends the job."""
        try:
            return self._run_code(what, code, fraction)
        except CheckRaised as error:
            self.run.evidence.notes.append(error.traceback)
            raise JobEnded(Reason.CHECK_RAISED, what) from error

    def refuse_another(self) -> None:
        """Raise `JobEnded` unless this is the board of the job: nobody else's may get its files."""
        identity, chip = self.run.evidence.identity, self.run.evidence.flash
        assert identity is not None  # noqa: S101 - CONNECT read it
        assert chip is not None  # noqa: S101 - likewise
        check = next(each for each in selftest.checks_for(self.run.recipe, identity, chip) if each.name == "identity")
        for measurement in selftest.parse(check, self.ask(check.name, check.code)):
            self.run.evidence.measure(measurement)
        failure = selftest.first_failure(self.run.evidence.measurements)
        if failure is not None:
            raise JobEnded(failure.reason, failure.detail)

    def listing(self) -> dict[str, bool]:
        """Return what is there, path -> whether it is a directory; raises `JobEnded` where there is no filesystem."""
        boot_s = self.run.tools.settings.boot_deadline_s
        self.run.tell(Progress(phase=self.phase, note="looking at its files", allow_s=boot_s + BOOT_SLACK_S))
        there = look_at_files(self.run, self.repl)
        if there is None:
            raise JobEnded(Reason.FILESYSTEM_CORRUPT, "no filesystem is mounted")
        return there

    def hashes(self, target: Target, paths: list[str]) -> dict[str, str | None]:
        """Return path -> sha256 as the board computes it now, None for what is no file."""
        found: dict[str, str | None] = {}
        for some, code in upload.hash_runs(target, paths):
            found |= upload.hashes(some, self.ask(f"hash of {some[0]}", code))
        return found

    def upload(self, target: Target, path: str, fraction: float) -> None:
        """Write one file, read it back, and give it its name; raises `JobEnded` when that does not come true twice."""
        runs = upload.write_runs(path, target.files[path], target.salt(path))
        expected, received, stored = target.hashes[path], "", ""
        for tries_left in reversed(range(TRIES)):
            try:
                for code in runs:
                    said = self._run_code(path, code, fraction)
                received, stored = upload.received_and_stored(said)
            except (CheckRaised, ReplGarbage) as error:
                self.run.evidence.notes.append(f"{path}: {error}")
                if tries_left:
                    continue
                if isinstance(error, ReplGarbage):
                    raise
                raise JobEnded(Reason.CHECK_RAISED, f"writing {path}") from error
            if stored == expected:
                upload.done(self.ask(f"naming {path}", upload.name_code(f"{path}{upload.PART_SUFFIX}", path)))
                return
            self.run.evidence.notes.append(f"{path}: not what was sent")
        if received == expected:
            raise JobEnded(Reason.FILESYSTEM_LOST_DATA, f"{path}: not what was written")
        raise JobEnded(Reason.LINK_UNRELIABLE, f"{path} arrives damaged")

    def prove(self, name: str, target: Target) -> None:
        """Measure whether the filesystem is what it shall be; raises `JobEnded` when it is not."""
        there = self.listing()
        found = self.hashes(target, list(target.files))
        expected = target.hashes
        extra = [path for path, _ in target.removals(there)]
        missing = target.missing_directories(there)
        value = upload.fingerprint(found | dict.fromkeys(extra, "too much") | dict.fromkeys(missing))
        self.run.evidence.measure(selftest.exactly(name, value, upload.fingerprint(expected)))
        wrong = [path for path, digest in expected.items() if found[path] != digest]
        for words, paths in (("not what was written", wrong), ("not there", missing), ("still there", extra)):
            if paths:
                raise JobEnded(Reason.FILESYSTEM_LOST_DATA, f"{', '.join(paths)}: {words}")

    def check_layout(self) -> None:
        """Measure where the filesystem lies; raises `JobEnded` where this image had it elsewhere before."""
        known = _known_layout(self.run)
        found = layout_that_answers(self.ask("layout of the filesystem", LAYOUT_CODE))
        within = known is None or found == known
        self.run.evidence.measure(
            Measurement(
                name="filesystem_layout",
                value=str(found or "unknown"),
                low=str(known) if known else None,
                high=str(known) if known else None,
                within=within,
            )
        )
        if not within:
            raise JobEnded(Reason.LAYOUT_MISMATCH, f"{found or 'unknown'} instead of {known}")
        self.run.layout = found

    def _run_code(self, what: str, code: str, fraction: float | None) -> bytes:
        self.run.tell(Progress(phase=self.phase, fraction=fraction, note=what))
        try:
            return self.repl.run(code, self.run.tools.settings.check_deadline_s)
        except ReplSilent as error:
            # After a start by software GPIO0 is still at GND: a board that restarts by itself ends in its loader, silent.
            if self.run.evidence.boot_evidence is BootEvidence.SOFT and self.run.link.loader_still_answers():
                raise BoardRestartedInTest(f"{what}: the loader answers") from error
            raise

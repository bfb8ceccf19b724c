"""Whatever happens to a station and its records, in any order: no number is ever on two boards, and a board keeps its own."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Drawn
from hypothesis.stateful import (
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from station.adapters.records import HIGH_WATER, Database, Span, burn_since_backup, copy_records
from station.errors import ConfigurationError
from station.model import JobState, Lot, Outcome
from tests.adapters.records.samples import PASSED, PLUG, T0, board, make_lot, start_of, url_of

POOL, RANGE = "sensors", 4
MACS = st.integers(1, 5)
MEMORY = Path("/dev/shm")  # noqa: S108 - hundreds of small databases, each synced many times
_KEEP = contextlib.ExitStack()


@functools.cache
def template() -> tuple[Path, Lot]:
    """Records with a lot in them, made once."""
    file = Path(_KEEP.enter_context(tempfile.TemporaryDirectory())) / "template.db"
    with Database.open(url_of(file), now=lambda: T0) as database:
        return file, make_lot(database)


class Killed(Exception):
    """The power goes between the high-water file and the commit."""


@dataclass(slots=True)
class Job:
    """A job under way: its number, and whether the board carries it."""

    id: str
    number: int
    written: bool = False
    pending: bool = False


class Numbers(RuleBasedStateMachine):
    """A station, the boards that were in it, and a person with backups of it."""

    backups = Drawn("backups")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="numbers-", dir=MEMORY if MEMORY.is_dir() else None))
        self.file = self.directory / "station.db"
        shutil.copy(template()[0], self.file)
        self.serial = 0
        self.granted = 0
        self.jobs: dict[int, Job] = {}
        self.on: dict[int, set[int]] = {}
        """Number -> boards that it was ever written to."""
        self.bound: dict[int, int] = {}
        """Board -> the number it carries, as long as nothing was lost that says so."""
        self.database = self.opened()
        self.grant()

    def opened(self) -> Database:
        """The station's records."""
        return Database.open(url_of(self.file), station_id="bench-1", now=lambda: T0)

    def teardown(self) -> None:
        """Take everything down."""
        self.database.close()
        shutil.rmtree(self.directory)

    @rule()
    def grant(self) -> None:
        """A person grants the next range; ranges are never granted twice."""
        self.database.numbers.grant(Span(pool=POOL, first=self.granted + 1, last=self.granted + RANGE), "Ada", "more")
        self.granted += RANGE

    @rule(board_number=MACS)
    def begin(self, board_number: int) -> None:
        """A board is plugged in and admitted; one whose job waits goes on with it."""
        job = self.jobs.get(board_number)
        if job is not None and not job.pending:
            return
        self.serial += 1
        job_id = job.id if job is not None else f"job-{self.serial}"
        issued = self.database.numbers.reserve_number(POOL, board(board_number).mac, job_id)
        if issued is None:
            assert board_number not in self.bound, "its own number is gone"
            return
        assert self.bound.get(board_number, issued.number) == issued.number, "it has another number"
        if job is not None:
            job.pending = False
            return
        self.jobs[board_number] = Job(job_id, issued.number)
        self.database.begin_visit(f"visit-{job_id}", PLUG)
        self.database.begin_job(start_of(job_id, template()[1], identity=board(board_number)))

    @rule(board_number=MACS, unused=st.booleans())
    def whole_job(self, board_number: int, *, unused: bool) -> None:
        """A board from plug to end: made, or stopped before anything was sent."""
        self.begin(board_number)
        at = sorted(self.jobs).index(board_number) if board_number in self.jobs else -1
        if at >= 0 and not unused:
            self.write(at)
        if at >= 0:
            self.end(at, Outcome.FAIL if unused else Outcome.PASS)

    @rule(board_number=MACS)
    def killed_while_reserving(self, board_number: int) -> None:
        """The process dies when the high-water file is written and the records are not."""
        if board_number in self.jobs:
            return

        def dying(connection) -> None:
            self.database.numbers.ledger(connection).reserve(POOL, board(board_number).mac, "job-dead", (), T0)
            raise Killed

        with contextlib.suppress(Killed):
            self.database._write(dying)
        self.crash()

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 9))
    def write(self, which: int) -> None:
        """The number reaches the board."""
        board_number, job = self.chosen(which)
        if job.pending:
            return
        job.written = True
        self.on.setdefault(job.number, set()).add(board_number)
        self.bound[board_number] = job.number

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 9), outcome=st.sampled_from([Outcome.PASS, Outcome.FAIL, Outcome.ABORTED, None]))
    def end(self, which: int, outcome: Outcome | None) -> None:
        """The job ends, or, flashed, waits for another visit; what was never written may go to another board."""
        board_number, job = self.chosen(which)
        if job.pending or (not job.written and outcome in (Outcome.PASS, None)):
            return
        state = JobState.CLOSED if outcome is not None else JobState.PENDING
        self.serial += 1
        end = {
            "state": state,
            "outcome": outcome,
            "reason": "" if outcome is Outcome.PASS else "no_boot",
            "ended_at": T0 + timedelta(seconds=self.serial),
            "number_used": job.written,
            "flash_touched": job.written,
        }
        self.database.finish_job(
            job.id, PASSED.__class__(**{name: getattr(PASSED, name) for name in PASSED.__slots__} | end)
        )
        if state is JobState.CLOSED:
            del self.jobs[board_number]
        else:
            job.pending = True

    @rule()
    def crash(self) -> None:
        """The process dies and starts anew: running jobs are nobody's pass, those that wait stay."""
        self.database.close()
        self.database = self.opened()
        self.database.recover_running(T0)
        self.jobs = {number: job for number, job in self.jobs.items() if job.pending}

    @rule()
    def lose_the_file(self) -> None:
        """Somebody deletes the high-water file."""
        (self.directory / HIGH_WATER).unlink(missing_ok=True)

    @rule(number=st.integers(1, 3 * RANGE))
    def burn(self, number: int) -> None:
        """A person burns a number: the board that has it, if any, will get another one."""
        with contextlib.suppress(ConfigurationError):
            self.database.numbers.burn(Span(pool=POOL, first=number, last=number), "Ada", "label torn")
            self.bound = {mac: bound for mac, bound in self.bound.items() if bound != number}

    @rule(number=st.integers(1, 3 * RANGE))
    def release(self, number: int) -> None:
        """A person answers for it that no board ever had this burned number."""
        if number not in self.on:
            with contextlib.suppress(ConfigurationError):
                self.database.numbers.release(Span(pool=POOL, first=number, last=number), "Ada", "looked at them all")

    @rule(target=backups)
    def back_up(self) -> Path:
        """A backup beside the running station."""
        self.serial += 1
        backup = self.directory / f"backup-{self.serial}.db"
        copy_records(self.file, backup)
        return backup

    @rule(
        backup=consumes(backups),
        records=st.sampled_from(["kept", "lost", "damaged"]),
        high_water=st.sampled_from(["kept", "lost", "torn", "damaged"]),
    )
    def restore(self, backup: Path, records: str, high_water: str) -> None:
        """The backup is put back, with whatever is left of what stood there."""
        self.database.close()
        file = self.directory / HIGH_WATER
        if high_water == "lost" and file.exists():
            file.unlink()
        elif high_water == "torn" and file.exists():
            with file.open("ab") as torn:
                torn.write(b'{"sha256":"00')
        elif high_water == "damaged" and file.exists() and file.stat().st_size:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        if records == "lost":
            self.file.unlink()
        elif records == "damaged":
            self.file.write_bytes(b"\0" * 4096)
        burned = burn_since_backup(backup, standing=self.file, station_id="bench-1", now=T0)
        for suffix in ("", "-wal", "-shm"):
            self.file.with_name(self.file.name + suffix).unlink(missing_ok=True)
        shutil.move(backup, self.file)
        if not burned.exact:
            self.bound = {}
        self.jobs = {}
        self.database = self.opened()
        self.database.recover_running(T0)

    @invariant()
    def no_number_is_on_two_boards(self) -> None:
        """What all of it is for."""
        assert all(len(boards) == 1 for boards in self.on.values()), self.on

    def chosen(self, which: int) -> tuple[int, Job]:
        """One of the jobs under way."""
        jobs = sorted(self.jobs.items())
        return jobs[which % len(jobs)]


def test_no_number_is_ever_on_two_boards() -> None:
    """Boards, crashes, kills, persons, backups and restores in any order: one number, one board; one board, its number."""
    run_state_machine_as_test(
        Numbers,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

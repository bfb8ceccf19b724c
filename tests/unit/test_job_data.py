"""A job and its board's own data: there before the first write or nothing happens, on record, and clean everywhere."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from station.boarddata import BoardData
from station.errors import CheckRaised, JobEnded, RecordsUnwritable
from station.job import run_visit
from station.jobrun import TRANSCRIPT_CAP_BYTES
from station.link import LoaderLink
from station.model import CommittedJob, Identity, JobState, Outcome, Phase
from station.properties import Gpio0, Reset, Role, SlotProperties
from station.reasons import Reason
from station.recipe import Recipe
from station.secrets import NO_SECRETS, REDACTED, Secrets
from station.views import Progress
from station.visit import Finding, VisitResult
from tests.unit.job_rig import flashed_board, recipe_for, writes
from tests.unit.memory_records import STICK, MemoryRecords, tools_for, visit_for
from tests.unit.scripted_board import ScriptedBoard
from tests.unit.scripted_talk import ScriptedRepl

KEY = "hunter-green-77"
FLASH_ONLY = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW, role=Role.FLASH)
PUBLIC = (("serial", "SN17"), ("place", "Küche"))


@dataclass
class Source:
    """Gives every board the same, and remembers who asked when."""

    board: ScriptedBoard
    refuses: Exception | None = None
    around: Secrets = NO_SECRETS
    asked: list[tuple[str, str]] = field(default_factory=list)

    def data_for(self, recipe: Recipe, identity: Identity, job_id: str) -> BoardData:
        """Its data."""
        self.board.note("data asked for")
        self.asked.append((identity.mac, job_id))
        if self.refuses is not None:
            raise self.refuses
        return BoardData(names={"secret.key": KEY}, secrets=Secrets([KEY]), public=PUBLIC)

    def secrets_around(self, recipe: Recipe) -> Secrets:
        """What other boards of the recipe have."""
        return self.around


def made(board: ScriptedBoard, source: Source, records: MemoryRecords | None = None, **asked) -> VisitResult:
    """One visit of this board."""
    records = records or MemoryRecords(board)
    records.board = board
    named = {name: asked.pop(name) for name in ("properties", "visit_id", "slot") if name in asked}
    visit = visit_for(board, asked.pop("recipe", recipe_for()), **named)
    return run_visit(replace(visit, **asked), replace(tools_for(board, records), board_data=source))


def test_the_data_is_there_before_the_job_row_and_the_first_write() -> None:
    """Asked for once, for this MAC and this job, after the board was admitted."""
    board = ScriptedBoard()
    source = Source(board)
    job = made(board, source)
    assert isinstance(job, CommittedJob)
    assert job.outcome is Outcome.PASS
    first_write = next(at for at, event in enumerate(board.journal) if event.startswith(("erase", "write")))
    assert board.journal.index("looked up") < board.journal.index("data asked for")
    assert board.journal.index("data asked for") < board.journal.index("job row running") < first_write
    assert source.asked == [(job.mac, job.id)]


@pytest.mark.parametrize("reason", [Reason.NUMBERS_USED_UP, Reason.NO_VALUES, Reason.SECRET_MISSING])
def test_without_its_data_nothing_happens_to_a_board(reason: Reason) -> None:
    """No job, no write: a finding that names what is missing."""
    board = ScriptedBoard()
    result = made(board, Source(board, refuses=JobEnded(reason, "sensors")))
    assert isinstance(result, Finding)
    assert (result.reason, result.detail, result.mac) == (reason, "sensors", "5c:cf:7f:dd:c1:42")
    assert writes(board) == 0
    assert "job row running" not in board.journal


def test_records_that_give_no_number_stop_the_visit() -> None:
    """A number that is not on record is none."""
    board = ScriptedBoard()
    result = made(board, Source(board, refuses=RecordsUnwritable("the disk is full")))
    assert isinstance(result, Finding)
    assert result.reason is Reason.RECORDS_UNWRITABLE
    assert writes(board) == 0


def test_what_a_board_was_given_is_on_its_record() -> None:
    """Number and public values stand in the row; the number counts as used."""
    board = ScriptedBoard()
    records = MemoryRecords(board)
    made(board, Source(board), records)
    assert records.ends["job-1"].values == PUBLIC
    assert records.ends["job-1"].number_used


def test_a_job_that_ends_before_the_first_phase_beyond_connect_used_no_number() -> None:
    """It was stopped when its row was there and nothing was sent: the number may go to another board, and is not on record."""
    board = ScriptedBoard()
    records = MemoryRecords(board)
    made(board, Source(board), records, until=Phase.CONNECT)
    assert not records.ends["job-1"].number_used
    assert records.ends["job-1"].values == ()


@pytest.mark.parametrize("phase", [Phase.FLASH, Phase.VERIFY])
def test_from_the_first_phase_on_the_number_is_used(phase: Phase) -> None:
    """Whatever was sent may be in the board."""
    board = ScriptedBoard()
    records = MemoryRecords(board)
    made(board, Source(board), records, until=phase)
    assert records.ends["job-1"].number_used
    assert records.ends["job-1"].values == PUBLIC


def test_a_test_without_flashing_uses_the_number_as_well() -> None:
    """A board that is only tested gets its files through the REPL: from there on the number may be in it."""
    board = flashed_board(lines=False).plug_in("free", lines=False)
    records = MemoryRecords(board)
    board.version = "0.0.1"
    result = made(
        board, Source(board), records, recipe=recipe_for('[policy]\nrun_mode_board = "test"\n'), properties=STICK
    )
    assert isinstance(result, CommittedJob)
    assert (result.outcome, records.ends["job-1"].flash_touched) == (Outcome.FAIL, False)
    assert records.ends["job-1"].number_used


def test_the_second_visit_asks_for_the_same_job() -> None:
    """A board that was flashed and comes back gets what its job gave it; what is missing leaves the job waiting."""
    board = ScriptedBoard(lines=False)
    records, slot = MemoryRecords(board), {"slot": "F1", "properties": FLASH_ONLY}
    first = made(board, Source(board), records, **slot)
    assert isinstance(first, CommittedJob)
    assert first.state is JobState.PENDING
    for number, refuses in ((2, JobEnded(Reason.SECRET_MISSING, "key")), (3, None)):
        source = Source(board, refuses=refuses)
        board.plug_in("free", lines=False)
        result = made(board, source, records, properties=STICK, visit_id=f"visit-{number}", some_pending=True)
        assert source.asked == [(board.mac, first.id)]
        if refuses is not None:
            assert isinstance(result, Finding)
            assert result.reason is Reason.SECRET_MISSING
            assert records.ends[first.id].state is JobState.PENDING
    assert isinstance(result, CommittedJob)
    assert (result.id, result.outcome) == (first.id, Outcome.PASS)
    assert records.ends[first.id].values == PUBLIC


def test_nothing_that_is_kept_says_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that crashes with it, phases, notes, detail and transcript: all of them are clean."""
    board = ScriptedBoard()
    records = MemoryRecords(board)

    def crash(_repl: ScriptedRepl, _code: str, _timeout_s: float) -> bytes:
        raise CheckRaised(f"Traceback: ValueError: {KEY}")

    monkeypatch.setattr(ScriptedRepl, "run", crash)
    told: list[Progress] = []
    result = made(board, Source(board), records, tell=told.append)
    assert isinstance(result, CommittedJob)
    assert KEY not in repr(records.ends)
    assert KEY not in repr(told)
    assert f"ValueError: {REDACTED}" in records.ends["job-1"].detail


def test_what_an_earlier_life_says_is_clean_before_anybody_knows_the_board() -> None:
    """A visit without a job: the secrets around the recipe are taken out of its transcript and its detail as well."""
    board = ScriptedBoard()
    records = MemoryRecords(board)
    source = Source(board, refuses=JobEnded(Reason.NO_VALUES, f"row {KEY} is gone"), around=Secrets([KEY]))
    result = made(board, source, records)
    assert isinstance(result, Finding)
    assert result.detail == f"row {REDACTED} is gone"
    assert KEY not in repr(records.visits)


def test_a_transcript_is_clean_wherever_it_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last 64 KiB of what a board said may begin in the middle of a secret."""
    said = (
        KEY[5:].encode()
        + b"\r\n"
        + b"." * (TRANSCRIPT_CAP_BYTES - 60)
        + b"\r\n"
        + KEY.encode().hex().encode()
        + KEY[:9].encode()
    )
    monkeypatch.setattr(LoaderLink, "transcript", property(lambda _link: said))
    board = ScriptedBoard()
    records = MemoryRecords(board)
    board.checks["identity"] = CheckRaised("no")
    made(board, Source(board), records)
    kept = records.ends["job-1"].transcript
    assert kept.startswith(REDACTED.encode() + b"\r\n....")
    assert kept.endswith(f"...\r\n{REDACTED}{REDACTED}".encode())


def test_a_measurement_never_carries_the_secret() -> None:
    """What a check reads back of the board is measured, judged, and kept without it."""
    board = ScriptedBoard()
    records = MemoryRecords(board)
    board.version = KEY
    result = made(board, Source(board), records)
    assert isinstance(result, CommittedJob)
    assert result.reason == Reason.OUT_OF_LIMITS
    assert KEY not in repr(records.ends)
    measured = {each.name: each.value for each in records.ends["job-1"].measurements}
    assert measured["firmware_version"] == REDACTED

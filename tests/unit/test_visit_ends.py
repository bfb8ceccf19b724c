"""However a visit goes wrong after its board was done: it leaves a result, its port is released, and nothing gets better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from station.errors import ConfigurationError
from station.hubs import Hubs
from station.job import run_visit
from station.model import BoardMark, CommittedJob, KnownBoard, Outcome
from station.proving import Golden, Lately, Proof, SlotEvent, Standing
from station.reasons import Reason
from station.visit import Finding, VisitResult
from tests.unit.job_rig import flashed_board, recipe_for, writes
from tests.unit.memory_records import MemoryRecords, tools_for, visit_for
from tests.unit.scripted_board import MAC, ScriptedBoard

LIT = recipe_for('[signal]\nled = "gpio2"\n')
WRONG = {"cpu_frequency": b"52000000"}
OURS = TypeError("ours")
GOLDEN = KnownBoard(mac=MAC, flash_id=None, attempts=0, marks=frozenset({BoardMark.GOLDEN}))
ELSEWHERE = (
    Lately(slot="A1", mac=MAC, passed=False),
    Lately(slot="B1", mac="another", passed=True),
    Lately(slot="A1", mac="a third", passed=False),
)


@dataclass(slots=True)
class Proofs:
    """What slots have proven; the calls in `wrong` raise, `standing` only after the board was let in."""

    wrong: dict[str, Exception] = field(default_factory=dict)
    put_down: list[Proof] = field(default_factory=list)
    said: list[SlotEvent] = field(default_factory=list)
    asked: int = 0

    def _may(self, call: str) -> None:
        if call in self.wrong:
            raise self.wrong[call]

    def standing(self, slot, lot_id, since) -> Standing:
        """Nothing was said."""
        self.asked += 1
        if self.asked > 1:
            self._may("standing")
        return Standing()

    def standings(self, slots, lot_id, since) -> dict[str, Standing]:
        """Nor of any other."""
        return {slot: Standing() for slot in slots}

    def lately(self, slot) -> tuple[Lately, ...]:
        """A bad run here, and a sibling that does well."""
        self._may("lately")
        return ELSEWHERE

    def goldens(self) -> tuple[Golden, ...]:
        """No golden board was ever judged."""
        self._may("goldens")
        return ()

    def has_pass(self, lot_id, since) -> bool:
        """None yet."""
        return False

    def put(self, made, event) -> None:
        """Keep it."""
        self._may("put")
        self.put_down.append(made)

    def say(self, event) -> None:
        """Keep it."""
        self._may("say")
        self.said.append(event)


class Wrong(MemoryRecords):
    """Records with a mistake in these calls: not that they cannot be written."""

    mistakes: tuple[str, ...] = ()

    def _may(self, call: str) -> None:
        if call in self.mistakes:
            raise OURS


def visit(
    board: ScriptedBoard,
    proofs: Proofs,
    *,
    known: KnownBoard | None = None,
    mistakes: tuple[str, ...] = (),
    hubs: Hubs | None = None,
) -> tuple[VisitResult, MemoryRecords]:
    """Visit this board in a slot that is watched."""
    records = Wrong(board, known=known)
    records.mistakes = mistakes
    tools = replace(tools_for(board, records), proofs=proofs, hubs=hubs or Hubs())
    asked = replace(visit_for(board, LIT), siblings=("B1",), quarantine_after=2)
    return run_visit(asked, tools), records


def released(board: ScriptedBoard) -> bool:
    """Whether what was opened last was closed again."""
    opened = [event for event in board.journal if event in ("open", "close")]
    return bool(opened) and opened[-1] == "close"


@pytest.mark.parametrize("call", ["lately", "standing", "say"])
@pytest.mark.parametrize("error", [OURS, ConfigurationError(file="slot A1", problem="in quarantine already", fix="-")])
def test_what_follows_for_the_slot_changes_nothing_about_a_job_on_record(call: str, error: Exception) -> None:
    """A mistake there, or a person who was faster: the job stands, the board shows it, and the port is released."""
    board = ScriptedBoard(checks=dict(WRONG))
    proofs = Proofs(wrong={call: error})
    result, records = visit(board, proofs)
    assert isinstance(result, CommittedJob)
    assert (result.outcome, result.reason) == (Outcome.FAIL, "out_of_limits")
    assert [event for event in board.journal if event.startswith("blinks")] == ["blinks at 8 Hz"]
    assert released(board)
    assert records.visits["visit-1"] is not None


def test_a_proof_that_our_own_mistake_kept_from_the_records_is_none() -> None:
    """A golden board judged good, and a mistake on the way to its record: a finding that says so, and nothing is proven."""
    board, proofs = flashed_board(), Proofs(wrong={"put": OURS})
    result, records = visit(board, proofs, known=GOLDEN)
    assert isinstance(result, Finding)
    assert (result.reason, result.detail) == (Reason.STATION_BUG, "TypeError: ours")
    ended = records.visits["visit-1"]
    assert ended is not None
    assert ended.finding == "station_bug"
    assert (proofs.put_down, records.starts) == ([], {})
    assert released(board)


@pytest.mark.parametrize("gpio0", ["low", "free"])
def test_another_flash_under_the_mac_of_a_golden_board_proves_nothing(gpio0) -> None:
    """Somebody else's board: neither good nor bad for the slot, and as little written as the golden one."""
    board = flashed_board(lines=False, gpio0=gpio0)
    proofs = Proofs()
    result, records = visit(board, proofs, known=replace(GOLDEN, flash_id=0x123456))
    assert isinstance(result, Finding)
    assert result.reason is Reason.MAC_REUSED
    assert (proofs.put_down, proofs.said, records.starts, writes(board)) == ([], [], {}, 0)


@pytest.mark.parametrize("checks", [{}, WRONG], ids=["pass", "fail"])
@pytest.mark.parametrize("mistakes", [("finish_job",), ("end_visit",), ("finish_job", "end_visit")])
def test_a_job_that_our_own_mistake_kept_from_the_records_ends_as_one(mistakes, checks: dict[str, bytes]) -> None:
    """Whatever the board was: the technician is called, it is never shown as PASS, and the port is released."""
    board = ScriptedBoard(checks=dict(checks))
    result, _ = visit(board, Proofs(), mistakes=mistakes)
    assert isinstance(result, Finding)
    assert (result.reason, result.detail, result.mac) == (Reason.STATION_BUG, "TypeError: ours", MAC)
    assert not [event for event in board.journal if event.startswith("blinks")]
    assert released(board)


def test_a_mistake_about_the_hub_is_an_error_on_record() -> None:
    """Between the verdict and its record: what would have been a FAIL is ERROR, on record, and blames no board."""
    board, hubs = ScriptedBoard(checks=dict(WRONG)), Hubs()
    ask: Callable[..., bool | None] = _raises
    hubs.verdict = ask
    result, records = visit(board, Proofs(), hubs=hubs)
    assert isinstance(result, CommittedJob)
    assert (result.outcome, result.reason) == (Outcome.ERROR, "station_bug")
    assert records.ends["job-1"].outcome is Outcome.ERROR
    assert released(board)


def _raises(*_asked) -> bool | None:
    raise OURS

"""Whole shifts: every kind of programmer with every kind of operator, judged from the records alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from station.bench.faults import Fault, parse_fault
from station.bench.operator import Manner
from station.demo import DemoRequest, DemoResult, Wiring, run_demo

WIRINGS: tuple[Wiring, ...] = get_args(Wiring)


def shift(
    tmp_path: Path,
    wiring: Wiring,
    manner: Manner,
    *,
    boards: int = 6,
    seed: int = 1,
    faults: Sequence[tuple[str, str]] = (),
) -> DemoResult:
    """A shift at three slots, to its end."""
    parsed: list[tuple[str, Fault]] = [(slot, parse_fault(fault)) for slot, fault in faults]
    request = DemoRequest(
        slots=3,
        boards=boards,
        seed=seed,
        pace=0.0,
        faults=parsed,
        database_url=f"sqlite:///{tmp_path / 'demo.db'}",
        state_dir=tmp_path,
        port=0,
        once=True,
        wiring=wiring,
        manner=manner,
    )

    async def work() -> DemoResult:
        return await run_demo(request, finish=asyncio.Event())

    return asyncio.run(work())


def evidences(result: DemoResult) -> list[object]:
    """By what each job's firmware was brought up, those that passed only."""
    return [job["boot_evidence"] for job in result.jobs if job["outcome"] == "PASS"]


def findings(result: DemoResult) -> list[object]:
    """What visits found that closed no job."""
    return [visit["finding"] for visit in result.visits if visit["finding"]]


@pytest.mark.parametrize("manner", Manner)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_shift_ends_with_every_healthy_board_passed_once(tmp_path: Path, wiring: Wiring, manner: Manner) -> None:
    """Whoever works at whatever bench: each board has exactly one PASS, and no healthy board was ever held responsible."""
    result = shift(tmp_path, wiring, manner)
    assert result.problems == []
    assert len([job for job in result.jobs if job["outcome"] == "PASS"]) == 6


def test_a_jumper_bench_needs_one_plug_per_board_and_two_where_the_recipe_wants_a_cold_start(tmp_path: Path) -> None:
    """The demo's recipe wants every third board cold: those have a second visit, the others none."""
    result = shift(tmp_path, "manual", Manner.CAREFUL)
    assert sorted(map(str, evidences(result))) == ["cold"] * 2 + ["soft"] * 4
    assert len(result.visits) == 6 + 2


@pytest.mark.parametrize("wiring", ["auto", "fixture"])
def test_lines_that_reach_both_pins_are_found_out_and_used(tmp_path: Path, wiring: Wiring) -> None:
    """Nobody tells the station about its lines; every board is started by them, in one visit."""
    result = shift(tmp_path, wiring, Manner.CAREFUL)
    assert evidences(result) == ["reset_line"] * 6
    assert len(result.visits) == 6


def test_a_hasty_operator_leaves_aborted_rows_and_a_second_attempt(tmp_path: Path) -> None:
    """A board that was pulled in mid-job has its ABORTED row, and its PASS is attempt 2: no first pass yield from it."""
    result = shift(tmp_path, "auto", Manner.HASTY, boards=9, seed=3)
    pulled = [job["mac"] for job in result.jobs if job["outcome"] == "ABORTED"]
    assert result.problems == []
    assert pulled
    for mac in pulled:
        mine = [job for job in result.jobs if job["mac"] == mac]
        assert [job["outcome"] for job in mine][-1] == "PASS"
        assert mine[-1]["attempt"] in (1, 2)  # 1 where it was pulled before its flash was touched


def test_a_confused_operator_costs_findings_and_no_board(tmp_path: Path) -> None:
    """Empty programmers and forgotten jumpers are findings of visits; no FAIL and no ERROR comes of them."""
    result = shift(tmp_path, "manual", Manner.CONFUSED, boards=9, seed=2)
    assert result.problems == []
    assert {"no_answer"} <= set(findings(result))
    assert {job["outcome"] for job in result.jobs} == {"PASS"}


@pytest.mark.parametrize("manner", Manner)
def test_boards_that_do_not_start_by_software_get_there_by_a_second_plug(tmp_path: Path, manner: Manner) -> None:
    """no_soft_start falls back to the two-visit flow by itself; soft_reset_hangs is never reset by software."""
    faults = [("A1", "no_soft_start"), ("A2", "soft_reset_hangs")]
    result = shift(tmp_path, "manual", manner, boards=3, seed=4, faults=faults)
    assert result.problems == []


def test_a_board_that_never_starts_waits_for_a_person_on_a_jumper_bench(tmp_path: Path) -> None:
    """Without reset lines nothing proves that a silent board is the one that was flashed: pending, and somebody is called."""
    result = shift(tmp_path, "manual", Manner.CAREFUL, boards=2, faults=[("A1", "no_boot")])
    assert result.problems == []
    assert findings(result)[-1] == "never_started"


@pytest.mark.parametrize("token", ["bad_md5", "fake_flash", "traceback", "puya_loses", "brownout_wifi"])
@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_bad_board_is_bad_on_every_bench(tmp_path: Path, wiring: Wiring, token: str) -> None:
    """What is the board's fault is found also after a start by software, with the same reason."""
    assert shift(tmp_path, wiring, Manner.CAREFUL, boards=2, faults=[("A1", token)]).problems == []

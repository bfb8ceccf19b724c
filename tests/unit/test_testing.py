"""The order of the self-test around its one restart, and the turns that boards behind one hub take at their radios."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from station.hubs import hubs_of
from station.job import run_visit
from station.model import Outcome
from station.ports import Stop
from station.recipe import Recipe
from station.turns import Turns
from station.views import Progress
from station.visit import VisitResult
from tests.unit.job_rig import recipe_for, visited
from tests.unit.memory_records import MemoryRecords, tools_for, visit_for
from tests.unit.scripted_board import PROGRAMMER, ScriptedBoard
from tests.unit.small_image import small_recipe

HUB = hubs_of(PROGRAMMER.place)[0]


def visited_with(radios: Turns, recipe: Recipe, told: list[Progress]) -> VisitResult:
    """A visit of a good board, with these turns at the radio."""
    board = ScriptedBoard()
    records = MemoryRecords(board)
    visit = replace(visit_for(board, recipe), tell=told.append)
    return run_visit(visit, replace(tools_for(board, records), radios=radios))


@pytest.mark.parametrize(
    ("taken", "more", "waits"), [(1, "", False), (2, "", True), (2, "at_once_per_hub = 3\n", False)]
)
def test_a_radio_waits_while_enough_of_them_are_on(tmp_path: Path, *, taken: int, more: str, waits: bool) -> None:
    """Two radios behind one hub at most, or as many as the recipe says; who waits shows it, and its deadline goes on."""
    scan = f'[checks.wifi_scan]\nssid = "x"\n{more}' if more else ""
    recipe, told, radios = small_recipe(tmp_path, scan), list[Progress](), Turns()
    with ExitStack() as others:
        for _ in range(taken):
            others.enter_context(radios.turn(HUB, taken, Stop(), lambda: None))
        result = visited_with(radios, recipe, told)
    waited = [progress for progress in told if "turn" in progress.note]
    assert bool(waited) is waits
    if waits:
        assert getattr(result, "outcome", None) is Outcome.ERROR
        assert getattr(result, "reason", None) == "deadline"


def test_a_radio_behind_another_hub_waits_for_nobody() -> None:
    """Turns are counted for each hub by itself, and given back: the next board finds none taken."""
    radios, told = Turns(), list[Progress]()
    with radios.turn("another hub", 1, Stop(), lambda: None):
        for _ in range(3):
            assert getattr(visited_with(radios, recipe_for(), told), "outcome", None) is Outcome.PASS
    assert not any("turn" in progress.note for progress in told)


@pytest.mark.parametrize("variant", ["512K", "1M"])
def test_a_board_is_restarted_once_and_no_more(variant: str) -> None:
    """Between what is written and what is proven there is one restart, also of a firmware that has no filesystem."""
    shown = visited(recipe=recipe_for(variant=variant))
    assert shown.job.outcome is Outcome.PASS
    after_verify = shown.board.journal[shown.board.journal.index("prompt") :]
    assert after_verify.count("prompt") == 2


def test_who_it_is_comes_before_anything_is_done_to_a_board() -> None:
    """Another board's radio is not touched: the first answer ends it."""
    board = ScriptedBoard(run_mac="5c:cf:7f:00:00:07")
    shown = visited(board)
    assert shown.end.reason == "identity_mismatch"
    assert board.access_point
    assert "file written" not in board.journal

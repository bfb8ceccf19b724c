"""A hub that goes, on the virtual bench: one event, nobody blamed, no new job until it is still, then all boards are made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from station.config import Config
from station.floor import TICK_S
from station.model import Light
from station.recipe import Recipe
from station.transitions import SlotState
from tests.e2e.workbench import Workbench, a_board, at_work, config_for

STILL_S = 3.0
ON_ONE_HUB = [f"A{number}" for number in range(1, 9)]
ELSEWHERE = "B1"
SAMPLE = "station_hub_disturbed_total "


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits ten seconds here."""
    monkeypatch.setattr("station.hubs.STILL_S", STILL_S)


@pytest.fixture
def config(recipe_of_the_bench: Recipe, tmp_path: Path) -> Config:
    """Eight sockets of one hub, and one of the next."""
    return config_for(tmp_path, Path(recipe_of_the_bench.file), slots=9)


async def plug_all(work: Workbench, labels: Iterable[str]) -> None:
    """Plug a board into each of these."""
    for label in labels:
        await work.plug(label, a_board())


async def pull_at_once(work: Workbench, labels: Iterable[str]) -> None:
    """As a hub does it: before anybody looks."""
    await asyncio.gather(*(work.unplug(label) for label in labels))


async def writing(work: Workbench, labels: Iterable[str]) -> None:
    """Wait until all of these have written their first bytes."""
    for label in labels:
        await work.until_flashing(label)


def endings(work: Workbench) -> dict[str, list[tuple[str, str]]]:
    """Outcome and reason of every job, by slot, oldest first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for slot, _, outcome, reason in work.rows():
        found.setdefault(slot, []).append((outcome, reason))
    return found


def test_a_hub_that_goes_is_one_event_and_all_its_boards_are_made_afterwards(config: Config) -> None:
    """Eight pulled in mid-write: one event, eight ERRORs of nobody, nothing begins until it is still; then eight passes."""

    async def main() -> None:
        async with at_work(config, pace=1.0) as work:
            await plug_all(work, ON_ONE_HUB)
            await writing(work, ON_ONE_HUB)
            work.bench.pace = 0.2
            await work.plug(ELSEWHERE, a_board())
            await work.until_flashing(ELSEWHERE)
            with capture_logs() as logs:
                await pull_at_once(work, ON_ONE_HUB)
                await work.until(lambda: all(work.view(label).reason == "hub_disturbed" for label in ON_ONE_HUB))
                await asyncio.sleep(2 * TICK_S)
            assert endings(work) == {ELSEWHERE: [(None, "")]} | {
                label: [("ERROR", "hub_disturbed")] for label in ON_ONE_HUB
            }
            events = [line for line in logs if line["event"] == "hub.disturbed"]
            assert [line["log_level"] for line in events] == ["error"]
            assert set(events[0]["slots"]) <= set(ON_ONE_HUB)
            assert len(events[0]["slots"]) >= 3
            assert SAMPLE + "1.0" in (await work.get("/metrics"))[1]
            assert [
                notice for notice in work.floor.view().notices if "hub 1 disturbed (A1, A2, A3 and 5 more)" in notice
            ]
            assert {(work.view(label).light, work.view(label).headline) for label in ON_ONE_HUB} == {
                (Light.ACTION, "AGAIN")
            }
            await come_back(work)
            await work.until_light(ELSEWHERE, Light.PASS)
            for label in ON_ONE_HUB:
                await work.until_light(label, Light.PASS)
            assert not any("disturbed" in notice for notice in work.floor.view().notices)
        assert {label: [outcome for outcome, _ in ends] for label, ends in endings(work).items()} == {
            ELSEWHERE: ["PASS"]
        } | {label: ["ERROR", "PASS"] for label in ON_ONE_HUB}

    asyncio.run(main())


async def come_back(work: Workbench) -> None:
    """The hub is there again: every programmer waits until nothing was plugged for long enough."""
    work.bench.pace = 0.0
    for label in ON_ONE_HUB:
        await work.plug(label, a_board())
    await work.until(lambda: all(work.floor.slots[label].state is SlotState.WAITING for label in ON_ONE_HUB))
    assert {work.view(label).words for label in ON_ONE_HUB} == {"hub disturbed, wait"}
    assert work.view(ELSEWHERE).light in (Light.BUSY, Light.PASS)


def test_two_at_once_are_two_pulls(config: Config) -> None:
    """Two of eight pulled in mid-write: ABORTED unplugged, each; the six beside them go on and pass."""

    async def main() -> None:
        async with at_work(config, pace=1.0) as work:
            await plug_all(work, ON_ONE_HUB[:2])
            await writing(work, ON_ONE_HUB[:2])
            work.bench.pace = 0.0
            await plug_all(work, ON_ONE_HUB[2:4])
            await pull_at_once(work, ON_ONE_HUB[:2])
            await work.until(lambda: all(work.floor.slots[label].state is SlotState.PULLED for label in ON_ONE_HUB[:2]))
            for label in ON_ONE_HUB[2:4]:
                await work.until_light(label, Light.PASS)
            assert SAMPLE + "0.0" in (await work.get("/metrics"))[1]
        assert endings(work) == {label: [("ABORTED", "unplugged")] for label in ON_ONE_HUB[:2]} | {
            label: [("PASS", "")] for label in ON_ONE_HUB[2:4]
        }

    asyncio.run(main())


def test_fast_hands_disturb_no_hub(config: Config) -> None:
    """Three finished boards pulled together with one that is made: it was pulled too early, and the next one begins at once."""

    async def main() -> None:
        async with at_work(config) as work:
            await plug_all(work, ON_ONE_HUB[:3])
            for label in ON_ONE_HUB[:3]:
                await work.until_light(label, Light.PASS)
            work.bench.pace = 0.5
            await work.plug(ON_ONE_HUB[3], a_board())
            await work.until_flashing(ON_ONE_HUB[3])
            with capture_logs() as logs:
                await pull_at_once(work, ON_ONE_HUB[:4])
                await work.plug(ON_ONE_HUB[0], a_board())
                await work.until(lambda: work.floor.slots["A1"].busy)
                await work.until(lambda: work.floor.slots["A4"].state is SlotState.PULLED)
            assert not [line for line in logs if line["event"].startswith("hub.")]
            assert endings(work)["A4"] == [("ABORTED", "unplugged")]
            assert SAMPLE + "0.0" in (await work.get("/metrics"))[1]

    asyncio.run(main())

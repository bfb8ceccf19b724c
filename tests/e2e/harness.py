"""Runs the real daemon on the virtual bench inside a test and keeps everything a person could have seen meanwhile."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from station.bench.faults import parse_slot_fault
from station.bench.scenario import Plan
from station.demo import DemoRequest, DemoResult, run_demo
from station.floor import Floor
from station.model import Light
from station.panel.server import Address
from station.views import SlotView


@dataclass(slots=True, kw_only=True)
class Shift:
    """What one run of the bench left behind."""

    result: DemoResult
    history: dict[str, list[SlotView]] = field(default_factory=dict)
    """Every view of every slot, in order, whenever it changed."""
    pages: dict[str, Any] = field(default_factory=dict)
    """What the HTTP API answered when all boards were done and still in their slots."""

    def jobs(self, slot: str) -> list[dict[str, Any]]:
        """The rows of one slot, in the order in which they began."""
        return [job for job in self.result.jobs if job["slot"] == slot]

    def visits(self, slot: str) -> list[dict[str, Any]]:
        """The visits of one slot, in the order in which they began."""
        return [visit for visit in self.result.visits if visit["slot"] == slot]

    def lights(self, slot: str) -> list[Light]:
        """The lights of one slot in order, without repetitions."""
        shown: list[Light] = []
        for view in self.history.get(slot, []):
            if shown[-1:] != [view.light]:
                shown.append(view.light)
        return shown

    def last_view(self, slot: str) -> SlotView:
        """What the slot showed when all boards were done."""
        return self.history[slot][-1]

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of the scrape at the end."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.pages["/metrics"].splitlines():
            sample, _, value = line.rpartition(" ")
            found, _, inside = sample.rstrip("}").partition("{")
            if found == name and set(filter(None, inside.split(","))) == wanted:
                return float(value)
        raise LookupError(f"no sample {name} {wanted}")


def request_for(
    tmp_path: Path, *, slots: int, faults: Sequence[str] = (), boards: int | None = None, seed: int = 1
) -> DemoRequest:
    """A run as fast as possible on a database of its own."""
    return DemoRequest(
        slots=slots,
        boards=boards or slots,
        seed=seed,
        pace=0.0,
        faults=[parse_slot_fault(fault) for fault in faults],
        database_url=f"sqlite:///{tmp_path / 'station.db'}",
        state_dir=tmp_path / "state",
        port=0,
        once=False,
    )


def work_a_shift(request: DemoRequest, *, meddle: Callable[[Floor], None] | None = None) -> Shift:
    """Run until all boards are done, look at every page, stop the daemon, read the records."""

    async def main() -> Shift:
        finish = asyncio.Event()
        history: dict[str, list[SlotView]] = {}
        pages: dict[str, Any] = {}
        tasks: list[asyncio.Task[None]] = []

        def show(floor: Floor, address: Address, the_plan: Plan) -> None:
            tasks.append(asyncio.create_task(_note_views(floor, history)))
            tasks.append(asyncio.create_task(_finish_when_done(floor, address, the_plan, pages, finish)))
            if meddle is not None:
                meddle(floor)

        try:
            result = await run_demo(request, finish=finish, show=show)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Shift(result=result, history=history, pages=pages)

    return asyncio.run(main())


def get(address: Address, path: str) -> tuple[int, str]:
    """Status and body of one GET on loopback."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def _note_views(floor: Floor, history: dict[str, list[SlotView]]) -> None:
    seen = -1
    while True:
        for view in floor.view().slots:
            if history.setdefault(view.slot, [])[-1:] != [view]:
                history[view.slot].append(view)
        seen = await floor.wait_change(seen)


async def _finish_when_done(
    floor: Floor, address: Address, the_plan: Plan, pages: dict[str, Any], finish: asyncio.Event
) -> None:
    seen = -1
    while any(floor.slots[label].visits_ended < len(boards) for label, boards in the_plan.boards.items()):
        seen = await floor.wait_change(seen)
    for path in ("/api/slots", "/api/jobs", "/readyz", "/healthz"):
        status, body = await asyncio.to_thread(get, address, path)
        pages[path] = (status, json.loads(body) if body.startswith(("{", "[")) else body)
    pages["/metrics"] = (await asyncio.to_thread(get, address, "/metrics"))[1]
    finish.set()

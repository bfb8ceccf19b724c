"""What the page's tests share: views in every state, a bench that shows them, and the real server in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from station.adapters.metrics import Metrics
from station.errors import RecordsUnwritable
from station.model import HostFacts, Light, Outcome, Phase
from station.panel.app import make_app
from station.panel.server import Address, serve
from station.properties import ANY_SLOT, SlotProperties, in_words
from station.reasons import MEANINGS, Reason, cause_of, deed_for, headline_for, words_for
from station.views import PENDING_SHOWN, PendingView, SlotView, StationView

HOST = HostFacts(
    station_id="bench-1",
    station_version="0.1.0",
    esptool_version="5.6.0",
    kernel_version="6.1.0",
    boot_id="b",
    clock_synchronised=True,
)


def slot_view(slot: str, light: Light = Light.EMPTY, headline: str = "", **more) -> SlotView:
    """Return one slot; an empty one when nothing else is said."""
    empty: dict[str, Any] = {"headline": "EMPTY", "words": "", "deed": ""} if light is Light.EMPTY else {}
    known: dict[str, Any] = {"place": f"pci-0000:00:14.0-usb-0:{slot}:1.0", "known": True, "words": "", "deed": ""}
    return SlotView(slot=slot, light=light, **(known | {"headline": headline} | empty | more))


def ended(
    slot: str,
    reason: Reason,
    detail: str = "",
    mac: str = "5c:cf:7f:dd:c1:42",
    properties: SlotProperties = ANY_SLOT,
    **more,
) -> SlotView:
    """Return a slot with such properties that shows `reason` in the words of the closed list."""
    meaning = MEANINGS[reason]
    usual: dict[str, Any] = {
        "words": words_for(reason, detail, properties),
        "deed": deed_for(reason, detail, properties),
        "cause": cause_of(reason, detail),
        "outcome": meaning.outcome,
        "reason": reason.value,
        "mac": mac,
        "chip_id": "0x00ddc142" if mac else "",
        "properties": in_words(properties),
    }
    return slot_view(slot, meaning.light, headline_for(reason), **(usual | more))


def passed(slot: str, mac: str = "5c:cf:7f:dd:c1:42", **more) -> SlotView:
    """Return a slot with a committed PASS."""
    usual: dict[str, Any] = {
        "words": "passed",
        "deed": "unplug, put the board into GOOD",
        "outcome": Outcome.PASS,
        "mac": mac,
        "chip_id": "0x00ddc142",
    }
    return slot_view(slot, Light.PASS, "GOOD", **(usual | more))


def ago(**age: float) -> str:
    """Return the moment that long ago, as the view gives times: UTC, ISO 8601."""
    return (datetime.now(UTC) - timedelta(**age)).isoformat(timespec="milliseconds")


def waiting(number: int, *, since: str = "", slot: str = "A1", reason: Reason = Reason.AWAITS_RUN_MODE) -> PendingView:
    """Return a board that was flashed and waits for its test."""
    return PendingView(
        mac=f"5c:cf:7f:a1:00:{number:02x}",
        chip_id=f"{0xA10000 + number:#010x}",
        slot=slot,
        product="Lamp controller",
        since=since or ago(minutes=number),
        words=words_for(reason, "T1"),
    )


def busy(slot: str, phase: Phase, fraction: float | None = None, note: str = "") -> SlotView:
    """Return a slot whose job is running."""
    return slot_view(
        slot,
        Light.BUSY,
        "BUSY",
        phase=phase,
        fraction=fraction,
        note=note,
        mac="5c:cf:7f:a1:02:9e",
        chip_id="0x00a1029e",
    )


def station_view(*slots: SlotView, pending: Sequence[PendingView] = (), **more) -> StationView:
    """Return a station that is ready, with these slots, on which these boards wait."""
    usual: dict[str, Any] = {
        "station_id": "bench-1",
        "product": "Lamp controller",
        "recipe_version": "v1.4.2",
        "recipe_hash": "3fa91c0e",
        "lot_state": "open",
        "lot_person": "Anna",
        "notices": (),
        "ready": True,
        "udev_heard": True,
        "database_writable": True,
        "recipe_loaded": True,
        "pending": tuple(pending[:PENDING_SHOWN]),
        "pending_count": len(pending),
        "rejected_count": 0,
    }
    return StationView(slots=slots, **(usual | more))


class FakeBench:
    """What the daemon will be to the page; `show` may be called from any thread."""

    def __init__(self, view: StationView) -> None:
        self._view = view
        self._revision = 0
        self._changed = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.rows: list[dict[str, object]] = []
        self.waiting: list[PendingView] = []
        self.records_fail = False
        self.read_in: list[threading.Thread] = []

    def view(self) -> StationView:
        """Return what the test set last."""
        return self._view

    def jobs(self, limit: int) -> list[dict[str, object]]:
        """Return the test's rows, and note the thread that asked."""
        self.read_in.append(threading.current_thread())
        if self.records_fail:
            raise RecordsUnwritable("disk I/O error")
        return self.rows[:limit]

    def pending(self) -> list[PendingView]:
        """Return the test's boards, and note the thread that asked."""
        self.read_in.append(threading.current_thread())
        if self.records_fail:
            raise RecordsUnwritable("disk I/O error")
        return self.waiting

    async def wait_change(self, seen: int) -> int:
        """Wait for a later revision."""
        while self._revision <= seen:
            await self._changed.wait()
        return self._revision

    def show(self, view: StationView) -> None:
        """Replace the view."""
        if self.loop is None:
            self._replace(view)
        else:
            self.loop.call_soon_threadsafe(self._replace, view)

    def change(self, slot: SlotView) -> None:
        """Replace one slot of the view."""
        kept = tuple(slot if each.slot == slot.slot else each for each in self._view.slots)
        self.show(replace(self._view, slots=kept))

    def _replace(self, view: StationView) -> None:
        self._view = view
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()


class RunningPanel:
    """The real application on a real port, in a thread with its own event loop; stopping it is part of some tests."""

    def __init__(self, bench: FakeBench, listen: str = "127.0.0.1:0") -> None:
        self.bench = bench
        self.metrics = Metrics(CollectorRegistry(), host=HOST, slots=["A1", "A2"])
        self.address = Address("", 0)
        self.left_over: set[asyncio.Task] = set()
        self._listen = listen
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="panel")

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.address}"

    def start(self) -> None:
        """Serve, and return when the port is open."""
        self._thread.start()
        assert self._started.wait(30)

    def stop(self) -> None:
        """End the server and join its thread."""
        if self._thread.is_alive():
            assert self.bench.loop is not None
            self.bench.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self.bench.loop = asyncio.get_running_loop()
        app = make_app(self.bench, self.metrics)
        async with serve(app, self._listen, key="http.listen", file="station.toml") as self.address:
            self._started.set()
            await self._stop.wait()
        self.left_over = asyncio.all_tasks() - {asyncio.current_task()}

"""The unmodified `station` command from a real uevent to the record: real libudev, real netlink messages, real ttys.

Every test runs a scenario in a child under umockdev (`tests/adapters/umockdev.py`) that starts `station` as a process of
its own and plugs programmers in and out. In the last one not even the seams of the virtual bench are left: the station
resets a virtual board by the ioctl of a real port and flashes it through that port. What stays untested here is the
kernel's own driver, and udev's rules (`tests/adapters/test_udev.py` has those).
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from station.adapters.records import Database
from station.bench.chip import make_chip
from station.bench.faults import parse_fault
from station.bench.firmware import MicroPythonHost
from station.bench.programmer import ProgrammerKind, VirtualProgrammer
from station.demo import write_demo_recipe
from tests.adapters.umockdev import Adapter, Testbed, in_testbed
from tests.e2e.command import Done, Running, get, wait_for
from tests.e2e.umockdev_station import plug_board, plug_silent, started

FIRST = Adapter(port="2.3", ttys=("ttyUSB0",))
SECOND = Adapter(port="2.4", ttys=("ttyUSB1",))
STRANGER = Adapter(port="4", ttys=("ttyUSB7",))
MAC, OTHER_MAC = bytes.fromhex("5ccf7fddc142"), bytes.fromhex("5ccf7fddc143")

pytestmark = pytest.mark.umockdev


def write_config(directory: Path, text: str = "", *, reconcile_s: float = 3600) -> Path:
    """Write a configuration whose station looks by itself once an hour only, so that what it sees came by uevents."""
    config = directory / "station.toml"
    lines = ["[station]", f'state_dir = "{directory / "state"}"', "[http]", 'listen = "127.0.0.1:0"']
    config.write_text("\n".join([*lines, "[usb]", f"reconcile_s = {reconcile_s}", text]))
    return config


def in_temporary_directory(work: Callable[[Testbed, Path], Any], testbed: Testbed) -> Any:
    """Do `work` with a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="real-udev-") as directory:
        return work(testbed, Path(directory))


# --- station slots ---------------------------------------------------------------------------------------------------


def teach(testbed: Testbed, directory: Path) -> Any:
    """Teach two slots, the first one twice, then list them."""
    config = write_config(directory)
    with started(testbed, directory, "slots", "teach", "--config", config, "--count", 2) as teaching:
        said(teaching, "plug a programmer into A1 now")
        testbed.plug(FIRST)
        said(teaching, "A1 is 2.3")
        testbed.unplug(FIRST)
        testbed.plug(FIRST)
        said(teaching, "that place is A1 already (2.3)")
        testbed.plug(SECOND)
        taught = teaching.ended()
    testbed.unplug(FIRST)
    testbed.plug(STRANGER)
    with started(testbed, directory, "slots", "list", "--json", "--config", config) as listing:
        as_json = listing.ended()
    with started(testbed, directory, "slots", "list", "--config", config) as listing:
        as_text = listing.ended()
    return {
        "codes": [taught.code, as_json.code, as_text.code],
        "taught": taught.out,
        "map": json.loads((directory / "state/slots.json").read_text()),
        "rows": as_json.json,
        "text": as_text.out,
    }


async def _teach(testbed: Testbed) -> Any:
    return await asyncio.to_thread(in_temporary_directory, teach, testbed)


def said(running: Running, text: str) -> None:
    """Wait until `text` is on its standard output."""
    wait_for(lambda: text in running.out, f"{text!r} in {running.out!r}, {running.err!r}", running)


def test_slots_are_taught_by_plugging_and_listed_with_what_is_in_them() -> None:
    """Each newly plugged place gets the next label by its ID_PATH, one it has already is said so; the list shows both."""
    result = in_testbed(_teach)
    assert result["codes"] == [0, 0, 0]
    assert result["map"] == {"A1": {"place": FIRST.right_id_path}, "A2": {"place": SECOND.right_id_path}}
    assert result["taught"].splitlines() == [
        "plug a programmer into A1 now (Ctrl-C ends)",
        f"A1 is 2.3 ({FIRST.right_id_path}); next: A2",
        "that place is A1 already (2.3)",
        f"A2 is 2.4 ({SECOND.right_id_path}); next: A3",
    ]
    unknown_yet = {
        "properties": {"reset": None, "gpio0": None, "moves": "programmer", "role": "make"},
        "evidence": {"moves": "default", "role": "default"},
        "health": None,
    }
    there = {"product": "USB Serial"}
    stranger: dict[str, object] = {"properties": {}, "evidence": {}, "position": "", "health": None}
    assert result["rows"] == [
        {
            "slot": "A1",
            "position": "row A, column 1",
            "place": FIRST.right_id_path,
            "hub_path": "2.3",
            "node": "",
            "product": "",
            **unknown_yet,
        },
        {
            "slot": "A2",
            "position": "row A, column 2",
            "place": SECOND.right_id_path,
            "hub_path": "2.4",
            "node": "/dev/ttyUSB1",
            **there,
            **unknown_yet,
        },
        {"slot": "", "place": STRANGER.right_id_path, "hub_path": "4", "node": "/dev/ttyUSB7", **there, **stranger},
    ]
    empty, _, lately, full, _, _, unknown = result["text"].splitlines()
    assert lately.strip() == "row A, column 1; no records"
    assert empty.startswith("A1 ")
    assert empty.endswith(" empty")
    assert full.startswith("A2 ")
    assert full.endswith("/dev/ttyUSB1 (USB Serial)")
    assert unknown.startswith("(unknown) ")


def teach_unheard(testbed: Testbed, directory: Path) -> Any:
    """Teach one slot by a plug of which no uevent tells, after one that was there before."""
    testbed.plug(FIRST)
    config = write_config(directory, reconcile_s=0.2)
    with started(testbed, directory, "slots", "teach", "--config", config, "--count", 1) as teaching:
        said(teaching, "1 programmers are plugged in already")
        said(teaching, "plug a programmer into A1 now")
        testbed.unplug(FIRST, announce=False)
        testbed.plug(FIRST, announce=False)
        return {"code": teaching.ended().code, "map": json.loads((directory / "state/slots.json").read_text())}


async def _teach_unheard(testbed: Testbed) -> Any:
    return await asyncio.to_thread(in_temporary_directory, teach_unheard, testbed)


def test_a_slot_is_taught_even_when_its_uevents_are_lost() -> None:
    """Teaching also looks by itself, and knows a programmer that was pulled and plugged in again between two looks."""
    assert in_testbed(_teach_unheard) == {"code": 0, "map": {"A1": {"place": FIRST.right_id_path}}}


# --- station run -----------------------------------------------------------------------------------------------------


def tile(page: str, slot: str) -> Any:
    """What the operator sees of one slot; None for a slot that is not on the page."""
    return next((shown for shown in get(page, "/api/slots")[1]["slots"] if shown["slot"] == slot), None)


def lit(page: str, slot: str, *lights: str) -> Any:
    """Wait until a slot shows one of these lights; return its tile."""

    def look() -> Any:
        shown = tile(page, slot)
        return shown if shown is not None and shown["light"] in lights else None

    return wait_for(look, f"{slot} {lights}, but {tile(page, slot)}")


def end(running: Running) -> dict[str, Any]:
    """End the station as systemd does."""
    done: Done = running.end()
    return {"code": done.code, "traceback": "Traceback" in done.err, "out": done.out, "err": done.err}


def run_idle(testbed: Testbed, directory: Path) -> Any:
    """Run without any recipe, with a programmer in a slot and one in no slot from the start."""
    slot, stranger = plug_silent(testbed, FIRST), plug_silent(testbed, STRANGER)
    config = write_config(directory, f'[slots]\nA1 = "{FIRST.right_id_path}"\nA2 = "{SECOND.right_id_path}"')
    with started(testbed, directory, "run", "--config", config) as station:
        page = station.address()
        pages = {path: get(page, path) for path in ("/healthz", "/readyz", "/api/slots")}
        return {"pages": pages, "opened": [bool(slot.tty.requests), bool(stranger.tty.requests)], "end": end(station)}


async def _run_idle(testbed: Testbed) -> Any:
    return await asyncio.to_thread(in_temporary_directory, run_idle, testbed)


def test_without_a_recipe_the_station_is_idle_and_says_what_to_do() -> None:
    """It lives but is not ready, shows slots and strangers, says what is missing, opens nothing, and ends with 0."""
    result = in_testbed(_run_idle)
    assert result["end"]["code"] == 0, result["end"]
    assert result["pages"]["/healthz"] == [200, {"alive": True}]
    status, ready = result["pages"]["/readyz"]
    assert (status, ready["ready"], ready["recipe_loaded"]) == (503, False, False)
    assert ready["udev_heard"]
    assert ready["database_writable"]
    assert any("set work.recipe" in notice for notice in ready["notices"])
    tiles = result["pages"]["/api/slots"][1]["slots"]
    assert [(shown["slot"], shown["known"], shown["light"], shown["reason"]) for shown in tiles] == [
        ("A1", True, "FAULT", "no_recipe"),
        ("A2", True, "EMPTY", ""),
        ("4", False, "ACTION", "unknown_place"),
    ]
    assert result["opened"] == [False, False]


def run_silent(testbed: Testbed, directory: Path) -> Any:
    """Run with a recipe, and with programmers that never answer."""
    recipe, _ = write_demo_recipe(directory)
    slots = f'[slots]\nA1 = "{FIRST.right_id_path}"\nA2 = "{SECOND.right_id_path}"'
    flashing = "[flashing]\nconnect_attempts = 1"
    config = write_config(directory, f'{slots}\n[work]\nrecipe = "{recipe}"\n{flashing}')
    first, stranger = plug_silent(testbed, FIRST), plug_silent(testbed, STRANGER)
    with started(testbed, directory, "run", "--config", config) as station:
        page = station.address()
        shown = {"present at start": lit(page, "A1", "ACTION", "FAULT", "FAIL")}
        second = plug_silent(testbed, SECOND)
        shown["plugged later"] = lit(page, "A2", "BUSY", "ACTION")
        first.unplug()
        shown["unplugged"] = lit(page, "A1", "EMPTY")
        shown["stranger"] = tile(page, "4")
        stranger.unplug()
        wait_for(lambda: tile(page, "4") is None, "the stranger's end")
        shown["later"] = lit(page, "A2", "ACTION", "FAULT", "FAIL")
        ready, opened = get(page, "/readyz"), [bool(each.tty.requests) for each in (first, second, stranger)]
        ended = end(station)
    with Database.open(f"sqlite:///{directory / 'state/station.db'}") as records:
        jobs, visits = records.jobs(10), records.visits(10)
    rows = [(visit.slot, visit.finding) for visit in reversed(visits)]
    return {"shown": shown, "ready": ready, "opened": opened, "end": ended, "jobs": len(jobs), "visits": rows}


async def _run_silent(testbed: Testbed) -> Any:
    return await asyncio.to_thread(in_temporary_directory, run_silent, testbed)


def test_programmers_that_never_answer_end_as_a_finding_and_make_way() -> None:
    """From start or by a uevent, each known place is visited and on record; the unknown one is shown and never opened."""
    result = in_testbed(_run_silent)
    assert result["end"]["code"] == 0, result["end"]
    assert not result["end"]["traceback"], result["end"]["err"]
    assert result["ready"][0] == 200, result["ready"]
    shown = result["shown"]
    for moment in ("present at start", "later"):
        assert (shown[moment]["light"], shown[moment]["reason"]) == ("ACTION", "no_answer")
        assert "re-seat the board" in shown[moment]["deed"]
    assert (shown["unplugged"]["reason"], shown["unplugged"]["words"]) == ("", "")
    assert (shown["stranger"]["known"], shown["stranger"]["reason"]) == (False, "unknown_place")
    assert result["opened"] == [True, True, False]
    assert result["visits"] == [["A1", "no_answer"], ["A2", "no_answer"]]
    assert result["jobs"] == 0


# --- the whole chain -------------------------------------------------------------------------------------------------

HEADER_BYTES = 8
"""Of the image's head, in which esptool writes the flash mode and size."""


def make_boards(testbed: Testbed, directory: Path, host: MicroPythonHost, loop: asyncio.AbstractEventLoop) -> Any:
    """Plug a fresh board into a waiting station and take it when it is done; then another one that hangs, in mid-flash."""
    recipe, image = write_demo_recipe(directory)
    config = write_config(directory, f'[slots]\nA1 = "{FIRST.right_id_path}"\n[work]\nrecipe = "{recipe}"')
    boards = make_chip(mac=MAC), make_chip(mac=OTHER_MAC, faults=(parse_fault("hang@50"),))
    good, pulled = (
        VirtualProgrammer(chip=chip, boot_firmware=host.boot, kind=ProgrammerKind(), pace=0.0, seed=1)
        for chip in boards
    )
    with started(testbed, directory, "run", "--config", config) as station:
        page = station.address()
        shown = {"before": tile(page, "A1")}
        plugged = plug_board(testbed, FIRST, good, loop)
        shown["made"] = lit(page, "A1", "PASS", "FAIL", "ACTION", "FAULT")
        plugged.unplug()
        shown["taken"] = lit(page, "A1", "EMPTY")
        plugged = plug_board(testbed, FIRST, pulled, loop)
        wait_for(lambda: flashing(tile(page, "A1")), "the second board's FLASH")
        plugged.unplug()
        wait_for(lambda: tile(page, "A1")["outcome"], "the record of the board that was pulled")
        shown["pulled"] = tile(page, "A1")
        api_jobs = get(page, "/api/jobs")[1]["jobs"]
        ended = end(station)
    return {
        "shown": shown,
        "api": [job["outcome"] for job in api_jobs],
        "rows": job_rows(directory / "state/station.db"),
        "resets": good.stats.resets,
        "flashed": boards[0].flash.read(HEADER_BYTES, len(image) - HEADER_BYTES) == image[HEADER_BYTES:],
        "end": ended,
    }


def flashing(shown: Any) -> bool:
    """Whether a slot has written a part of its board."""
    return shown["phase"] == "FLASH" and (shown["fraction"] or 0.0) > 0.0


def job_rows(database: Path) -> list[dict[str, Any]]:
    """What is on record of every job, oldest first, and what it says of the plug."""
    with closing(sqlite3.connect(database)) as records:
        records.row_factory = sqlite3.Row
        return [dict(row) for row in records.execute(ROWS)]


ROWS = """
    SELECT slot, state, outcome, reason, board_mac, boot_evidence, flash_touched, place, hub_path, usb_id,
    adapter_version, adapter_product FROM job ORDER BY sequence
"""


async def _make_boards(testbed: Testbed) -> Any:
    host = MicroPythonHost(pace=0.0)
    await host.start()
    try:
        work = partial(make_boards, host=host, loop=asyncio.get_running_loop())
        return await asyncio.to_thread(in_temporary_directory, work, testbed)
    finally:
        await host.close()


def test_from_uevent_to_green_without_any_seam() -> None:
    """udev, tty, DTR and RTS, esptool, REPL, records, light: one board passes, the next is pulled in mid-flash."""
    result = in_testbed(_make_boards)
    assert result["end"]["code"] == 0, result["end"]["err"]
    assert not result["end"]["traceback"], result["end"]["err"]
    shown = result["shown"]
    moments = {moment: (seen["light"], seen["outcome"], seen["mac"]) for moment, seen in shown.items()}
    assert moments == {
        "before": ("EMPTY", None, ""),
        "made": ("PASS", "PASS", "5c:cf:7f:dd:c1:42"),
        "taken": ("EMPTY", None, ""),
        "pulled": ("ACTION", "ABORTED", "5c:cf:7f:dd:c1:43"),
    }, result["end"]["err"]
    assert "half-flashed" in shown["pulled"]["words"]
    assert result["api"] == ["ABORTED", "PASS"]
    plug = {
        "slot": "A1",
        "state": "closed",
        "place": FIRST.right_id_path,
        "hub_path": "2.3",
        "usb_id": "1a86:7523",
        "adapter_version": "0262",
        "adapter_product": "USB Serial",
        "flash_touched": 1,
    }
    passed = {"outcome": "PASS", "reason": "", "board_mac": "5c:cf:7f:dd:c1:42", "boot_evidence": "reset_line"}
    aborted = {"outcome": "ABORTED", "reason": "unplugged", "board_mac": "5c:cf:7f:dd:c1:43", "boot_evidence": None}
    assert result["rows"] == [plug | passed, plug | aborted]
    assert result["flashed"]
    # Power, the loader, the firmware, and the firmware once more to see what the filesystem kept.
    assert result["resets"] >= 4

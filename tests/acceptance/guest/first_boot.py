"""The first boot: the package is installed on a Debian that knows nothing of it, and the bench works with it.

The groups follow each other: installing, a first board (the driver of its adapter was not loaded when the unit started),
adapters that misbehave, and at last a storm of plugs and eight boards at runtime.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.guest import page
from tests.acceptance.guest.bench import place
from tests.acceptance.guest.storm import storm
from tests.acceptance.guest.system import (
    holders,
    log_since,
    main_pid,
    module_loaded,
    run,
    tty_at,
    unit_facts,
    wait_for,
)
from tests.acceptance.guest.telling import Seen, check
from tests.acceptance.guest.world import BATCH_S, PACKAGES, World, configure, install

STUCK = {"A1": "usb_control_stuck", "A2": "usb_in_halted", "A3": "usb_out_stuck"}
CASE_OF = {"A1": "control_stuck", "A2": "deaf_after_epipe", "A3": "output_stuck"}
SHOWN_AS = {
    "A1": {("FAULT", "adapter_hung")},
    # From outside the two are the same: what is written is taken, and nothing ever comes back.
    "A2": {("FAULT", "adapter_deaf"), ("ACTION", "board_removed")},
    "A3": {("FAULT", "adapter_hung")},
}
"""Light and reason that fit the fault."""
NEIGHBOURS = ("A6", "A7", "A8")
OTHERS_AT_LEAST = 4
"""So many slots without a fault work beside the stuck ones: the neighbours, and A5."""


def installing(world: World) -> None:
    """Install the package on a Debian that knows nothing of it."""
    with world.tell.case("installed_idle") as seen:
        check(not module_loaded("usbserial"), "usbserial is loaded before anything was installed")
        said = install(PACKAGES / "first.deb")
        (world.kept / "install.txt").write_text(said, encoding="utf-8")
        wait_for("the page answers on loopback", page.answers, limit_s=60)
        facts = unit_facts("ActiveState", "SubState", "UnitFileState", "User")
        check(facts["ActiveState"] == "active" and facts["UnitFileState"] == "enabled", f"the unit is {facts}")
        uid = Path(f"/proc/{main_pid()}").stat().st_uid
        check(uid == pwd.getpwnam("station").pw_uid, f"the station runs as user {uid}")
        status, body = page.get("/")
        check(status == 200 and b"<html" in body, f"the page answers {status}")
        view = page.view()
        check(not view["slots"] and not view["recipe_loaded"], f"not idle: {view}")
        seen.note(f"{facts['SubState']}, {facts['UnitFileState']}, user {facts['User']}, usbserial was not loaded")


def configuring(world: World) -> None:
    """Write the configuration, and start the unit where nobody has loaded the driver of the adapters."""
    run("systemctl", "stop", "station")
    configure()
    run("modprobe", "--remove", "usbserial", "cdc_acm", check=False)
    world.driver_at_start = module_loaded("usbserial") or module_loaded("ch341")
    run("systemctl", "start", "station")


def first_board(world: World) -> None:
    """Plug in the first board that the unit sees since it was started without the driver."""
    with world.tell.case("first_plug_after_start") as seen:
        check(not world.driver_at_start, "usbserial was loaded when the unit started")
        page.wait_ready()
        bench = world.start_bench("--unplugged")
        bench.plug("A1")
        (job,) = page.wait_passed(["A1"], 0, BATCH_S)
        seen.note(
            f"usbserial was not loaded when the unit started; {job['board_mac']} passed in {job['duration_s']:.0f} s"
        )


def adapters_that_fail(world: World) -> None:
    """Three adapters get stuck, one board is pulled mid-write, one tty is renumbered; what is beside them goes on."""
    bench = world.the_bench
    names = [*CASE_OF.values(), "unplug_mid_write", "renumbered_replug"]
    with world.tell.together(*names):
        since, began, pid = page.newest_job(), time.time(), main_pid()
        for label in (*STUCK, "A4"):
            if label in bench.plugged:
                bench.unplug(label)
            bench.fresh(label, *([STUCK[label]] if label in STUCK else []))
        bench.plug("A5")
        before = wait_for("A5 has a tty", lambda: tty_at(place("A5")), limit_s=30)
        with _held(before):
            bench.unplug("A5")
            bench.plug("A4", "A5", *STUCK)
            with world.tell.case("unplug_mid_write") as seen:
                _unplug_mid_write(world, "A4", since, seen)
            bench.plug(*NEIGHBOURS)
            after = wait_for("A5 has a tty again", lambda: tty_at(place("A5")), limit_s=30)
        with world.tell.case("renumbered_replug") as seen:
            check(after != before, f"the tty is {before} again")
            page.wait_passed(["A5"], since, BATCH_S)
            seen.note(f"{before} became {after}; the job stands under A5")
        for label, name in CASE_OF.items():
            with world.tell.case(name) as seen:
                _costs_its_slot_only(world, label, since, began, seen)
                check(main_pid() == pid, "the station was restarted meanwhile")


def _costs_its_slot_only(world: World, label: str, since: int, began: float, seen: Seen) -> None:
    """This slot says what ails it, every slot without a fault is green, and both stand in the records."""
    good = sorted(world.the_bench.plugged - STUCK.keys())
    tile = wait_for(f"{label} ends", lambda: page.ended([label]), limit_s=BATCH_S)[label]
    passed = page.passed_macs(page.wait_passed(good, since, BATCH_S))
    shown = page.tiles()
    green = sorted(each for each, other in shown.items() if other["light"] == "PASS")
    check(green == good, f"green are {green}, and {good} are without a fault:\n{page.in_short(shown)}")
    check(len(set(passed.values())) == len(good) >= OTHERS_AT_LEAST, f"beside it passed {passed}")
    seen_as = (tile["light"], tile["reason"])
    check(seen_as in SHOWN_AS[label], f"{label} shows {seen_as}: {tile['words']}")
    rows = [(job["state"], job["outcome"], job["reason"]) for job in page.jobs_after(since) if job["slot"] == label]
    outcomes = {"FAULT": "ERROR", "ACTION": "ABORTED"}
    check(
        rows == [("closed", outcomes[tile["light"]], tile["reason"])],
        f"{label} shows {seen_as}, the records say {rows}",
    )
    check(not log_since(began, "hub.disturbed"), "its hub was said to be disturbed")
    page.check_greens()
    seen.note(f"{STUCK[label]}: {tile['light']} {tile['reason']}; {', '.join(good)} passed beside it")


class _held:  # noqa: N801 - used as a function
    """Holds a tty open while the context is: its programmer's next plug gets another number."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __enter__(self) -> None:
        self._descriptor = os.open(self._node, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _unplug_mid_write(world: World, label: str, since: int, seen: Seen) -> None:
    """Pull while bytes are written: the job is ABORTED and the tty is let go."""
    station, node = main_pid(), wait_for(f"{label} has a tty", lambda: tty_at(place(label)), limit_s=30)
    wait_for(f"{label} is being flashed", lambda: page.writing([label], 0.0), limit_s=BATCH_S)
    check(station in holders(node), f"the station does not hold {node} while it flashes {label}")
    world.the_bench.unplug(label)
    began = time.monotonic()
    wait_for(f"{node} is let go", lambda: not holders(node), limit_s=20)
    free_s = time.monotonic() - began
    (job,) = wait_for("its job ends", lambda: page.closed(since, [label]), limit_s=30)
    check(
        (job["outcome"], job["reason"]) == ("ABORTED", "unplugged"), f"{job['outcome']} {job['reason']} {job['detail']}"
    )
    flash = page.query("SELECT outcome FROM phase WHERE job_id = ? AND phase = 'FLASH'", job["id"])
    check([row["outcome"] for row in flash] == ["ABORTED"], f"its FLASH ended as {flash}")
    check(page.tiles()[label]["light"] != "PASS", "it is green")
    seen.note(f"ABORTED unplugged; {node} free within {free_s:.1f} s")


GROUPS: tuple[Callable[[World], None], ...] = (
    installing,
    configuring,
    first_board,
    adapters_that_fail,
    storm,
)

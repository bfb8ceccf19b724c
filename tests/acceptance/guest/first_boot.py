"""The first boot: the package is installed on a Debian that knows nothing of it, and the bench works with it.

The groups follow each other: installing, a first board (the driver of its adapter was not loaded when the unit started),
adapters that misbehave, a killed station and a disturbed hub, and at last a storm of plugs and eight boards at runtime.
"""

from __future__ import annotations

import os
import pwd
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.acceptance.guest import page
from tests.acceptance.guest.bench import SLOTS, place
from tests.acceptance.guest.system import (
    UNIT,
    holders,
    journal,
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
STORM_CYCLES = 20
STORM_SEED = 4
STORM_AT_ONCE = 6
STORM_LONGEST_S = 2.5
"""So long a programmer stays in; some are pulled before their driver is through, and the station never hears of them."""
STALE_AFTER_S = 3.0
"""A green tile may be shown so long after its programmer was pulled: what an emulated machine takes to say so."""


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
        since = page.newest_job()
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
            after = wait_for("A5 has a tty again", lambda: tty_at(place("A5")), limit_s=30)
        with world.tell.case("renumbered_replug") as seen:
            check(after != before, f"the tty is {before} again")
            page.wait_passed(["A5"], since, BATCH_S)
            seen.note(f"{before} became {after}; the job stands under A5")
        for label, name in CASE_OF.items():
            with world.tell.case(name) as seen:
                tile = wait_for(f"{label} ends", lambda label=label: _ended(label), limit_s=BATCH_S)  # type: ignore[misc]
                check(tile["light"] in ("FAULT", "ACTION"), f"{label} shows {tile['light']}: {tile['words']}")
                check(page.passed_macs(page.jobs_after(since)).keys() >= {"A5"}, "the slot beside it did not pass")
                seen.note(f"{STUCK[label]}: {tile['light']} {tile['reason']}; A5 passed meanwhile")


def killed_station(world: World) -> None:
    """Kill the station while it flashes; then disturb the hub of the station that came back."""
    bench, two, three = world.the_bench, SLOTS[:2], SLOTS[5:8]
    with world.tell.case("kill_9") as seen:
        bench.unplug(*bench.plugged)
        for label in (*two, *three):
            bench.fresh(label)
        since, restarts = page.newest_job(), int(unit_facts("NRestarts")["NRestarts"])
        bench.plug(*two)
        wait_for("a board is being flashed", lambda: _writing(two, 0.01), limit_s=BATCH_S)
        running = [job["id"] for job in page.jobs_after(since) if job["state"] == "running"]
        os.kill(main_pid(), signal.SIGKILL)
        wait_for("systemd restarts it", lambda: int(unit_facts("NRestarts")["NRestarts"]) > restarts, limit_s=30)
        page.wait_ready()
        books = {job["id"]: (job["state"], job["outcome"], job["reason"]) for job in page.jobs_after(since)}
        wrong = {books[each] for each in running} - {("closed", "ABORTED", "station_restarted")}
        check(running and not wrong, f"of {len(running)} running jobs some are {wrong}")
        page.check_greens()
        page.wait_passed(two, since, BATCH_S)
        seen.note(
            f"{len(running)} jobs ABORTED station_restarted, then both passed; {page.check_greens()} greens with rows"
        )
    with world.tell.case("hub_disturbed") as seen:
        since = page.newest_job()
        bench.plug(*three)
        wait_for("three boards are being flashed", lambda: _writing(three, 0.0, every=True), limit_s=BATCH_S)
        bench.unplug(*three)
        jobs = wait_for("three jobs end", lambda: _closed(since, three), limit_s=60)
        wrong = {(job["outcome"], job["reason"]) for job in jobs} - {("ERROR", "hub_disturbed")}
        check(not wrong, f"some jobs ended as {wrong}")
        seen.note(page.summary(jobs))


def storm(world: World) -> None:
    """Plug and pull at random in every slot; then every slot, also those that were stuck before, makes a board."""
    bench = world.the_bench
    with world.tell.together("storm", "runtime_8", "tower_light"):
        # What is green from before stays in: that is what could become stale.
        for label in set(SLOTS) - bench.plugged:
            bench.fresh(label)
        with world.tell.case("storm") as seen:
            _storm(world, seen)
        bench.unplug(*bench.plugged)
        for label in SLOTS:
            bench.fresh(label)
        since = page.newest_job()
        with world.tell.case("runtime_8") as seen:
            bench.plug(*SLOTS)
            passed = page.wait_passed(SLOTS, since, BATCH_S)
            check(len({job["board_mac"] for job in passed}) == len(SLOTS), "two slots made the same board")
            seen.note(f"{page.check_greens()} greens, each with its row; jobs took {_durations(passed)} s")
        with world.tell.case("tower_light") as seen:
            count = bench.stats()["tower_light"]["bytes_from_host"]
            check(count == 0, f"the tower light was sent {count} bytes")
            seen.note("0 bytes in all of it, by the count of its endpoint")


def _storm(world: World, seen: Seen) -> None:
    """Do the plugs; at the end every slot must be at rest, and none have been green without a board in it."""
    bench, since, began = world.the_bench, page.newest_job(), time.monotonic()
    dice = random.Random(STORM_SEED)
    deeds = [label for label in SLOTS for _ in range(STORM_CYCLES)]
    dice.shuffle(deeds)
    clock, due_at = time.time(), dict.fromkeys(bench.plugged, began)
    with _StaleGreen(world) as watch:
        while deeds or bench.plugged:
            now = time.monotonic()
            due = [label for label in sorted(bench.plugged) if due_at[label] <= now]
            if due:
                bench.unplug(dice.choice(due))
            elif deeds and len(bench.plugged) < STORM_AT_ONCE and deeds[-1] not in bench.plugged:
                due_at[deeds[-1]] = now + dice.uniform(0.0, STORM_LONGEST_S)
                bench.plug(deeds.pop())
            else:
                time.sleep(0.05)
        took_s = time.monotonic() - began
        wait_for("no tile is green or busy", lambda: _no_light("PASS", "BUSY"), limit_s=60)
    said = journal(f"--unit={UNIT}", f"--since=@{clock:.0f}")
    noticed = sum('"programmer.plugged"' in str(entry.get("MESSAGE")) for entry in said)
    check(noticed >= STORM_CYCLES, f"the station noticed only {noticed} plugs")
    check(not watch.stale, f"stale green: {watch.stale[:5]}")
    jobs = page.jobs_after(since)
    check(not [job for job in jobs if job["state"] == "running"], "jobs still run")
    stormy = page.summary(jobs) or "none"
    seen.note(
        f"{len(SLOTS) * STORM_CYCLES} plugs in {took_s:.0f} s, {noticed} of them longer than udev takes;"
        f" {watch.looks} looks at the lights; jobs: {stormy}"
    )


class _StaleGreen:
    """Looks at the page all the time: a green tile whose programmer was pulled some time ago is stale."""

    def __init__(self, world: World) -> None:
        self._bench = world.the_bench
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="stale green")
        self.stale: list[str] = []
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            began = time.monotonic()
            try:
                shown = page.tiles()
            except (OSError, ValueError):
                continue
            self.looks += 1
            for label, tile in shown.items():
                pulled, plugged = self._bench.pulled_at.get(label, 0.0), self._bench.plugged_at.get(label, 0.0)
                if tile["light"] == "PASS" and pulled > plugged and began - pulled > STALE_AFTER_S:
                    self.stale.append(f"{label} {began - pulled:.1f} s after it was pulled")


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
    wait_for(f"{label} is being flashed", lambda: _writing([label], 0.01), limit_s=BATCH_S)
    node, station = tty_at(place(label)), main_pid()
    check(station in holders(node), f"the station does not hold {node} while it flashes {label}")
    world.the_bench.unplug(label)
    began = time.monotonic()
    wait_for(f"{node} is let go", lambda: not holders(node), limit_s=20)
    free_s = time.monotonic() - began
    (job,) = wait_for("its job ends", lambda: _closed(since, [label]), limit_s=30)
    check(
        (job["outcome"], job["reason"]) == ("ABORTED", "unplugged"), f"{job['outcome']} {job['reason']} {job['detail']}"
    )
    check(page.tiles()[label]["light"] != "PASS", "it is green")
    seen.note(f"ABORTED unplugged; {node} free within {free_s:.1f} s")


def _writing(labels: tuple[str, ...] | list[str], fraction: float, *, every: bool = False) -> bool:
    """Whether one of these slots, or every one, is that far into FLASH."""
    shown = page.tiles()
    return (all if every else any)(
        shown[label]["phase"] == "FLASH" and (shown[label]["fraction"] or 0.0) >= fraction for label in labels
    )


def _closed(since: int, labels: tuple[str, ...] | list[str]) -> list[page.Job]:
    """The jobs begun since in these slots, when each slot has one and all are closed; else nothing."""
    jobs = [job for job in page.jobs_after(since) if job["slot"] in labels]
    return (
        jobs if {job["slot"] for job in jobs} == set(labels) and all(job["state"] == "closed" for job in jobs) else []
    )


def _ended(label: str) -> dict[str, object]:
    """The tile, when it shows an end; else nothing."""
    tile = page.tiles()[label]
    return dict(tile) if tile["light"] in page.END_LIGHTS else {}


def _no_light(*lights: str) -> bool:
    return not any(tile["light"] in lights for tile in page.tiles().values())


def _durations(jobs: list[page.Job]) -> str:
    took = sorted(float(job["duration_s"] or 0.0) for job in jobs)
    return f"{took[0]:.0f} to {took[-1]:.0f}"


GROUPS: tuple[Callable[[World], None], ...] = (
    installing,
    configuring,
    first_board,
    adapters_that_fail,
    killed_station,
    storm,
)

"""Boards that are cut off while they are made: a killed station, a disturbed hub, a station that hangs.

Each time what ran is read from the records in the moment before, and held against what became of it: ABORTED or ERROR with
the reason that fits, nothing green without its row, and the same boards good in the end.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from datetime import datetime

from tests.acceptance.guest import page
from tests.acceptance.guest.bench import SLOTS, Bench
from tests.acceptance.guest.system import ends_since, log_since, main_pid, run, unit_facts, wait_for
from tests.acceptance.guest.telling import Seen, check
from tests.acceptance.guest.world import BATCH_S, DROP_IN, World

KILLED, THREE = SLOTS[:4], SLOTS[5:8]
PHASES_AT_LEAST = 3
STILL_S = 10.0
"""So long a hub that was disturbed is left alone after the last plug or pull."""
CLOCKS_S = 0.5
"""Log lines are this much later or earlier than what they tell of, on a machine that is busy."""
WATCHDOG_S = 15
BY_RESTART = ("closed", "ABORTED", "station_restarted")


def killed_station(world: World) -> None:
    """Kill the station while it works at boards in several phases; then disturb the hub of the one that came back."""
    bench = world.the_bench
    with world.tell.case("kill_9") as seen:
        bench.unplug(*bench.plugged)
        for label in (*KILLED, *THREE):
            bench.fresh(label)
        _kill(bench, seen)
    bench.unplug(*bench.plugged)
    with world.tell.case("hub_disturbed") as seen:
        _disturb(bench, seen)
        count = bench.stats()["tower_light"]["bytes_from_host"]
        check(count == 0, f"the tower light was sent {count} bytes")
    bench.unplug(*bench.plugged)


def hung_station(world: World) -> None:
    """Hang the station while it makes boards: its watchdog ends it, and systemd starts it again."""
    bench, two = world.the_bench, SLOTS[:2]
    with world.tell.case("watchdog") as seen:
        DROP_IN.parent.mkdir(parents=True)
        DROP_IN.write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\n", encoding="utf-8")
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "station")
        page.wait_ready()
        bench.unplug(*bench.plugged)
        for label in two:
            bench.fresh(label)
        since, before, pid = page.newest_job(), int(unit_facts("NRestarts")["NRestarts"]), main_pid()
        check(before == 0, f"it was restarted {before} times before")
        bench.plug(*two)
        wait_for("two boards are being flashed", lambda: _busy_after("CONNECT", two), limit_s=BATCH_S)
        began_at = time.time()
        os.kill(pid, signal.SIGSTOP)
        running = _running(since, len(two))
        wait_for("systemd restarts it", lambda: _restarts() > before, limit_s=4 * WATCHDOG_S)
        page.wait_ready()
        check(ends_since(began_at) == ["watchdog"], f"systemd says it ended by {ends_since(began_at)}")
        check(_restarts() == before + 1, f"it was restarted {_restarts() - before} times")
        check(main_pid() not in (0, pid), "it is the same process")
        _check_cut_off(since, running, two)
        page.wait_passed(two, since, BATCH_S)
        _check_one_pass_each(since, two)
        seen.note(
            f"stopped with WatchdogSec={WATCHDOG_S}: Result=watchdog, restarted once; {len(running)} jobs ABORTED"
            f" station_restarted and not green, then the same boards passed"
        )
    bench.unplug(*bench.plugged)
    DROP_IN.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")


def _kill(bench: Bench, seen: Seen) -> None:
    """Four boards, each begun when an earlier one is further on."""
    first, second, third, fourth = KILLED
    since, restarts, began_at = page.newest_job(), _restarts(), time.time()
    bench.plug(first)
    _wait_past("CONNECT", first)
    bench.plug(second)
    _wait_past("CONNECT", second)
    bench.plug(third)
    _wait_past("CONNECT", third)
    bench.plug(fourth)
    phases = wait_for(f"all of them in {PHASES_AT_LEAST} phases", lambda: _phases(KILLED), limit_s=BATCH_S)
    pid = main_pid()
    os.kill(pid, signal.SIGSTOP)  # so that what is read now is what it dies with
    try:
        running = _running(since, len(KILLED) - 1)
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_for("systemd restarts it", lambda: _restarts() > restarts, limit_s=30)
    page.wait_ready()
    check(ends_since(began_at) == ["signal"], f"systemd says it ended by {ends_since(began_at)}")
    _check_cut_off(since, running, KILLED)
    page.wait_passed(KILLED, since, BATCH_S)
    _check_one_pass_each(since, KILLED)
    seen.note(
        f"killed in {', '.join(f'{label} {phase}' for label, phase in sorted(phases.items()))}: {len(running)} jobs"
        f" ABORTED station_restarted, then all passed; {page.check_greens()} greens with rows"
    )


def _disturb(bench: Bench, seen: Seen) -> None:
    """Pull three in one go, plug them in again at once: nothing begins until the hub was still; then they pass."""
    since, began_at, pid = page.newest_job(), time.time(), main_pid()
    bench.plug(*THREE)
    wait_for("three boards are being flashed", lambda: page.writing(THREE, 0.0, every=True), limit_s=BATCH_S)
    bench.unplug(*THREE)
    jobs = wait_for("three jobs end", lambda: page.closed(since, THREE), limit_s=60)
    ends = sorted((job["slot"], job["outcome"], job["reason"]) for job in jobs)
    check(ends == [(label, "ERROR", "hub_disturbed") for label in THREE], f"the jobs ended as {ends}")
    check(page.no_light("PASS"), "something is green")
    cut = {job["slot"]: job["board_mac"] for job in jobs}
    bench.plug(*THREE)
    wait_for("they wait for the hub", lambda: _waits_for_hub(THREE), limit_s=30)
    page.wait_passed(THREE, since, BATCH_S)
    passed = page.passed_macs(page.jobs_after(since))
    check(passed == cut, f"cut were {cut}, and passed have {passed}")
    check(main_pid() == pid, "the station was restarted in it")
    held_s = _check_hold(began_at)
    seen.note(
        f"{page.summary(jobs)}; nothing began until {held_s:.1f} s after the last plug; then the same three passed"
    )


def _check_hold(began_at: float) -> float:
    """By the log: one disturbance, no visit in it, its end ten seconds after the last plug or pull. Returns these."""
    names = ("hub.disturbed", "hub.stable", "programmer.plugged", "programmer.unplugged", "visit.began")
    log = [(event["event"], _at(event), event) for event in log_since(began_at, *names)]
    disturbed = [(at, event) for name, at, event in log if name == "hub.disturbed"]
    stable = [(at, event) for name, at, event in log if name == "hub.stable"]
    check(len(disturbed) == len(stable) == 1, f"hub.disturbed {len(disturbed)} times, hub.stable {len(stable)} times")
    ((from_s, said), (to_s, calm)) = disturbed[0], stable[0]
    named = re.findall(r"A\d+", str(said["slots"]))
    check(sorted(named) == list(THREE), f"disturbed were {said['slots']!r}")
    priorities = said["PRIORITY"], calm["PRIORITY"]
    check(priorities == ("3", "6"), f"the journal has them with PRIORITY {priorities}")
    touched = [at for name, at, _ in log if name.startswith("programmer.") and at < to_s]
    replugged = [at for name, at, _ in log if name == "programmer.plugged" and from_s < at < to_s]
    check(len(replugged) == len(THREE), f"{len(replugged)} were plugged in while the hub was held")
    held_s = to_s - max(touched)
    check(held_s >= STILL_S - CLOCKS_S, f"hub.stable came {held_s:.1f} s after the last plug")
    visits = [at for name, at, _ in log if name == "visit.began"]
    early = [at for at in visits if from_s <= at < to_s]
    check(not early, f"{len(early)} visits began {', '.join(f'{to_s - at:.1f}' for at in early)} s before hub.stable")
    check(len([at for at in visits if at >= to_s]) >= len(THREE), "they did not go on after hub.stable")
    return held_s


def _check_cut_off(since: int, running: set[str], labels: Sequence[str]) -> None:
    """What ran is ABORTED, by the restart; no slot is green that has no new PASS of its own."""
    shown, jobs = page.tiles(), page.jobs_after(since)
    green = {label for label in labels if shown[label]["light"] == "PASS"}
    check(green <= page.passed_macs(jobs).keys(), f"green without a PASS: {page.in_short(shown)}; {page.summary(jobs)}")
    check(not {shown[label]["job_id"] for label in green} & running, "a job that was cut off is green")
    page.check_greens()
    books = {job["id"]: (job["state"], job["outcome"], job["reason"]) for job in jobs}
    wrong = {books.get(each) for each in running} - {BY_RESTART}
    check(not wrong, f"of {len(running)} jobs that ran some are {wrong}")


def _check_one_pass_each(since: int, labels: Sequence[str]) -> None:
    """Each of these boards passed once, and has no open job."""
    jobs = page.jobs_after(since)
    passes = sorted(str(job["slot"]) for job in jobs if job["outcome"] == "PASS")
    check(passes == sorted(labels), f"PASS for {passes}")
    check(all(job["state"] == "closed" for job in jobs), f"some jobs are open: {page.summary(jobs)}")
    check(len({job["board_mac"] for job in jobs}) == len(labels), "not the same boards")


def _running(since: int, at_least: int) -> set[str]:
    """The jobs that have begun and not ended, as the records have it."""
    running = {str(job["id"]) for job in page.jobs_after(since) if job["state"] == "running"}
    check(len(running) >= at_least, f"only {len(running)} jobs ran")
    return running


def _phases(labels: Sequence[str]) -> dict[str, str]:
    """Slot -> phase, once all of them work, in enough phases, and at most one has no job yet; else nothing."""
    shown = page.tiles()
    phases = {label: str(shown[label]["phase"]) for label in labels if shown[label]["light"] == "BUSY"}
    begun = [phase for phase in phases.values() if phase not in ("None", "CONNECT")]
    enough = len(phases) == len(labels) and len(set(phases.values()) - {"None"}) >= PHASES_AT_LEAST
    return phases if enough and len(begun) >= len(labels) - 1 else {}


def _busy_after(phase: str, labels: Sequence[str]) -> bool:
    """Whether each of these slots is in a later phase than this one."""
    order = ("CONNECT", "FLASH", "VERIFY", "BOOT", "PROVISION", "SELF_TEST")
    later, shown = order[order.index(phase) + 1 :], page.tiles()
    return all(shown[label]["phase"] in later for label in labels)


def _wait_past(phase: str, label: str) -> None:
    wait_for(f"{label} is past {phase}", lambda: _busy_after(phase, [label]), limit_s=BATCH_S)


def _waits_for_hub(labels: Sequence[str]) -> bool:
    shown = page.tiles()
    return all(shown[label]["light"] == "ACTION" and shown[label]["reason"] == "hub_disturbed" for label in labels)


def _restarts() -> int:
    return int(unit_facts("NRestarts")["NRestarts"])


def _at(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()

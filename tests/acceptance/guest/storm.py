"""A storm of plugs over all slots, with jobs that begin, are cut off and pass in it; then eight boards at runtime.

The page is looked at all the time, and each green tile is held against the records and against what the hand did: it must
be the committed PASS of the very plug that is in the socket. At the end the log is held against the records, job by job.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from tests.acceptance.guest import page
from tests.acceptance.guest.bench import SLOTS, Bench, HandPlug, let_go
from tests.acceptance.guest.system import PATIENCE, log_since, main_pid, wait_for
from tests.acceptance.guest.telling import CaseFailed, Seen, check
from tests.acceptance.guest.world import BATCH_S, World

CYCLES = 20
SEED = 4
AT_ONCE = 6
FLICK_LONGEST_S = 2.5
"""So long most programmers stay in; many are pulled before their driver is through, and the station never hears of them."""
STAYERS = 3
"""So many boards are left in until they are green, and a little longer."""
TOO_LONG_S = 120.0
"""A board that is not being flashed, or not green, by then is pulled all the same."""
TWO_HANDS_S = 4.0
"""At most two programmers that the station works at are pulled within this time: three within two seconds were the hub's."""
STALE_AFTER_S = 3.0
"""A green tile may be shown so long after the kernel saw its programmer go: what an emulated machine takes to say so."""
BEGUN_AT_LEAST, CUT_IN_FLASH_AT_LEAST, PASSED_AT_LEAST, HEARD_AT_LEAST = 8, 5, 2, 20
OPEN_VISITS = "SELECT 1 FROM visit WHERE ended_at IS NULL"
CUT_OFF = {("ABORTED", "unplugged"), ("ERROR", "hub_disturbed"), ("ERROR", "adapter_hung")}
"""The last one where the kernel tells of a pull late: while one port drains, its hub worker takes nobody else away, and a
programmer that was pulled takes no bytes and is still there."""


class Deed(StrEnum):
    """When a programmer is pulled again."""

    FLICK = "flick"
    CUT = "cut"
    """As soon as its board is seen being flashed."""
    STAY = "stay"
    """Some time after it is seen green, or with another result."""


def storm(world: World) -> None:
    """Plug and pull at random in every slot; then every slot, also those that were stuck before, makes a board."""
    bench = world.the_bench
    with world.tell.together("storm", "runtime_8", "tower_light"):
        # What is green from before stays in: that is what could become stale.
        for label in set(SLOTS) - bench.plugged:
            bench.fresh(label)
        with world.tell.case("storm") as seen:
            _storm(bench, seen)
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


def _storm(bench: Bench, seen: Seen) -> None:
    """Do the plugs, and judge what page, log and records said of them."""
    since, began_at, pid = page.newest_job(), time.time(), main_pid()
    plugs_before = {label: len(plugs) for label, plugs in bench.plugs.items()}
    with _Watch(bench) as watch:
        _Hand(bench, watch).work_off()
        took_s = time.time() - began_at
        wait_for("no tile is green or busy", lambda: page.no_light("PASS", "BUSY"), limit_s=60)
    # A port whose output cannot drain takes 31 s to close.
    wait_for("every visit is on record", lambda: not page.query(OPEN_VISITS), limit_s=60)
    plugs = sum(len(plugs) - plugs_before[label] for label, plugs in bench.plugs.items())
    check(plugs == CYCLES * len(SLOTS), f"{plugs} plugs were made")
    check(main_pid() == pid, "the station was restarted in it")
    check(not watch.wrong, f"green and wrong: {'; '.join(watch.wrong[:5])}")
    check(watch.looks >= took_s / 10, f"only {watch.looks} looks at the page in {took_s:.0f} s")
    heard = len(log_since(began_at, "programmer.plugged"))
    check(heard >= HEARD_AT_LEAST, f"the station noticed only {heard} plugs")
    jobs = page.jobs_after(since)
    told = f"{len(jobs)} jobs began: {page.summary(jobs) or 'none'}"
    _check_jobs(jobs, watch, told)
    _check_nothing_is_lost(since, began_at)
    seen.note(
        f"{plugs} plugs in {took_s:.0f} s, {heard} of them longer than udev takes; {told};"
        f" {watch.looks} looks, {len(watch.green)} greens, each with its row and its plug"
    )


def _check_jobs(jobs: list[page.Job], watch: _Watch, told: str) -> None:
    """Jobs really began, were cut in FLASH and passed; nothing else came of good boards."""
    check(len(jobs) >= BEGUN_AT_LEAST, f"too few jobs: {told}")
    ends = Counter((job["state"], job["outcome"], job["reason"]) for job in jobs)
    odd = set(ends) - {("closed", "PASS", "")} - {("closed", *end) for end in CUT_OFF}
    check(not odd, f"{sorted(map(str, odd))}: {told}")
    in_flash = [
        job["id"]
        for job in jobs
        if (job["outcome"], job["reason"]) in CUT_OFF
        and page.query("SELECT 1 FROM phase WHERE job_id = ? AND phase = 'FLASH' AND outcome <> 'PASS'", job["id"])
    ]
    check(len(in_flash) >= CUT_IN_FLASH_AT_LEAST, f"only {len(in_flash)} were cut in FLASH: {told}")
    passed = {job["id"] for job in jobs if job["outcome"] == "PASS"}
    check(len(passed) >= PASSED_AT_LEAST, f"only {len(passed)} passed: {told}")
    unseen = passed - {job_id for _, job_id in watch.green}
    check(len(passed - unseen) >= PASSED_AT_LEAST, f"{len(unseen)} of {len(passed)} PASS were never seen green")


def _check_nothing_is_lost(since: int, began_at: float) -> None:
    """What the log says of visits and jobs is on record, row by row, and the records have no job that the log has not."""
    visits = {event["visit"] for event in log_since(began_at, "visit.began")}
    rows = {row["id"]: row for row in page.query("SELECT id, ended_at FROM visit")}
    lost = [visit for visit in visits if visit not in rows or rows[visit]["ended_at"] is None]
    check(not lost, f"{len(lost)} of {len(visits)} visits have no row, or one that is open: {lost[:3]}")
    flashed = {event["visit"] for event in log_since(began_at, "phase.began") if event["phase"] == "FLASH"}
    tied = {row["visit_id"] for row in page.query("SELECT visit_id FROM job_visit")}
    check(flashed <= tied, f"{len(flashed - tied)} of {len(flashed)} visits that flashed have no job")
    logged = {event["job"]: (event["outcome"], event["reason"]) for event in log_since(began_at, "job.ended")}
    books = {job["id"]: (job["outcome"], job["reason"]) for job in page.jobs_after(since)}
    check(logged == books, f"log and records differ in {set(logged.items()) ^ set(books.items())}")


class _Hand:
    """Two hands over all sockets. Which deed comes when is drawn by lot; when it is over, the page says."""

    def __init__(self, bench: Bench, watch: _Watch) -> None:
        self._bench, self._watch, self._dice = bench, watch, random.Random(SEED)
        stayers = self._dice.sample(SLOTS, STAYERS)
        self._deeds = {label: self._drawn(stays=label in stayers) for label in SLOTS}
        self._order = [label for label in SLOTS for _ in range(CYCLES)]
        self._dice.shuffle(self._order)
        self._doing: dict[str, Deed] = dict.fromkeys(bench.plugged, Deed.FLICK)
        self._due_at = dict.fromkeys(bench.plugged, time.monotonic())
        self._ripe: set[str] = set()
        self._pulls: list[float] = []

    def _drawn(self, *, stays: bool) -> list[Deed]:
        """One board of each slot is cut; those that stay do so early, so that it storms on around them."""
        later = [Deed.CUT] + [Deed.FLICK] * (CYCLES - 2)
        self._dice.shuffle(later)
        later.insert(self._dice.randrange(3) if stays else CYCLES, Deed.STAY if stays else Deed.FLICK)
        return later

    def work_off(self) -> None:
        """Do all of it; at the end every socket is empty."""
        while self._order or self._bench.plugged:
            self._bench.note_gone()
            # As the page asks of a person: where the hub was disturbed, hands off until it says that it is still.
            if self._watch.held() or not (self._pull_one() or self._plug_one()):
                time.sleep(0.05)

    def _plug_one(self) -> bool:
        free = [label for label in self._order if label not in self._bench.plugged and let_go(label)]
        if not free or len(self._bench.plugged) >= AT_ONCE:
            return False
        label = free[0]
        self._order.remove(label)
        deed = self._doing[label] = self._deeds[label].pop(0)
        longest_s = FLICK_LONGEST_S if deed is Deed.FLICK else TOO_LONG_S * PATIENCE
        self._due_at[label] = time.monotonic() + (
            self._dice.uniform(0.0, longest_s) if deed is Deed.FLICK else longest_s
        )
        self._bench.plug(label)
        return True

    def _pull_one(self) -> bool:
        now, shown = time.monotonic(), {label: self._watch.tile_of_this_plug(label) for label in self._bench.plugged}
        for label in sorted(self._bench.plugged - self._ripe):
            tile = shown[label]
            ended = tile.get("light") in ("PASS", "FAIL", "FAULT")
            flashes = tile.get("phase") not in (None, "CONNECT")  # or is past that already
            if self._doing[label] is not Deed.FLICK and (ended or (flashes and self._doing[label] is Deed.CUT)):
                self._ripe.add(label)
                # FLASH itself is over within seconds.
                longest_s = 0.5 if self._doing[label] is Deed.CUT else FLICK_LONGEST_S
                self._due_at[label] = now + self._dice.uniform(0.0, longest_s)
        self._pulls = [at for at in self._pulls if now - at < TWO_HANDS_S * PATIENCE]
        for label in sorted(self._bench.plugged, key=lambda label: self._due_at[label]):
            worked_at = shown[label].get("light") == "BUSY"
            if self._due_at[label] <= now and not (worked_at and len(self._pulls) >= 2):
                self._pull(label, worked_at=worked_at)
                return True
        return False

    def _pull(self, label: str, *, worked_at: bool) -> None:
        has_result = self._watch.tiles.get(label, {}).get("light") in page.END_LIGHTS
        self._bench.unplug(label)
        if worked_at:
            self._pulls.append(time.monotonic())
        self._ripe.discard(label)
        if has_result:  # the next board, as a person would
            self._bench.fresh(label)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Green:
    """A green tile that was seen, and the plug of the hand that it belongs to."""

    plug: HandPlug | None


class _Watch:
    """Looks at the page all the time, and holds each green tile against records and plugs."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch")
        self.tiles: Mapping[str, Mapping[str, Any]] = {}
        """What was seen last."""
        self.green: dict[tuple[str, str], _Green] = {}
        """Every green that was seen, by slot and job."""
        self.wrong: list[str] = []
        self.looks = 0

    def __enter__(self) -> Self:
        self.tiles = page.tiles()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def tile_of_this_plug(self, label: str) -> Mapping[str, Any]:
        """Return what was seen last of this slot since its programmer was plugged in; nothing, where that is older."""
        tile, plugs = self.tiles.get(label, {}), self._bench.plugs[label]
        fresh = tile and plugs and datetime.fromisoformat(tile["changed_at"]).timestamp() >= plugs[-1].began_at
        return tile if fresh else {}

    def held(self) -> bool:
        """Whether a programmer that is plugged in waits for its hub to be still."""
        return any(
            tile["reason"] == "hub_disturbed" and tile["light"] == "ACTION" and label in self._bench.plugged
            for label, tile in self.tiles.items()
        )

    def _look_on(self) -> None:
        while not self._over.wait(0.3):
            began_at = time.time()
            self._bench.note_gone()
            try:
                shown = page.tiles()
                for label, tile in shown.items():
                    if tile["light"] == "PASS":
                        self._judge(label, tile, began_at)
            except (OSError, ValueError, sqlite3.Error, CaseFailed) as error:
                self.wrong.append(f"a look at the page failed: {type(error).__name__}: {error}")
                continue
            self.tiles = shown
            self.looks += 1

    def _judge(self, label: str, tile: Mapping[str, Any], began_at: float) -> None:
        """A green tile is the committed PASS of this board in this slot, of a plug that is not over."""
        key = (label, str(tile["job_id"]))
        if key not in self.green:
            self.green[key] = _Green(plug=self._plug_of(label, tile))
        plug = self.green[key].plug
        if plug is not None and plug.gone_at is not None and began_at - plug.gone_at > STALE_AFTER_S * PATIENCE:
            self.wrong.append(f"{label} is green {began_at - plug.gone_at:.1f} s after its programmer was gone")

    def _plug_of(self, label: str, tile: Mapping[str, Any]) -> HandPlug | None:
        """Return the plug that the row of this tile was made in; None, and it is wrong, where there is no such row."""
        rows = page.query(
            "SELECT state, outcome, board_mac, job.slot, plugged_at FROM job JOIN job_visit ON job_id = job.id"
            " JOIN visit ON visit.id = visit_id WHERE job.id = ? ORDER BY visit.sequence DESC",
            tile["job_id"],
        )
        row = rows[0] if rows else {}
        if [row.get(name) for name in ("state", "outcome", "board_mac", "slot")] != [
            "closed",
            "PASS",
            tile["mac"],
            label,
        ]:
            self.wrong.append(f"{label} is green for {tile['mac']}, and the records say {row}")
            return None
        plugged_at = datetime.fromisoformat(row["plugged_at"]).replace(tzinfo=UTC).timestamp()
        plugs = [plug for plug in self._bench.plugs[label] if plug.began_at <= plugged_at]
        if not plugs:
            self.wrong.append(f"{label} is green for a plug that nobody made, at {row['plugged_at']}")
        return plugs[-1] if plugs else None


def _durations(jobs: list[page.Job]) -> str:
    took = sorted(float(job["duration_s"] or 0.0) for job in jobs)
    return f"{took[0]:.0f} to {took[-1]:.0f}"

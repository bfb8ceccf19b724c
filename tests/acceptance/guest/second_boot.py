"""The second boot of the bench: boards that are plugged in while the machine boots, and what the journal has of both boots."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.guest import page
from tests.acceptance.guest.bench import SLOTS
from tests.acceptance.guest.system import UNIT, journal, unit_facts, wait_for
from tests.acceptance.guest.telling import check
from tests.acceptance.guest.world import BATCH_S, World

PRIORITY_OF = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""What sd-daemon(3) calls the levels of our log."""


def boards_at_boot(world: World) -> None:
    """Plug in eight boards while the machine boots and the enabled unit starts by itself."""
    with world.tell.case("boot_8") as seen:
        bench = world.start_bench()
        wait_for("the station answers", page.answers, limit_s=90)
        began = unit_facts("ActiveEnterTimestampMonotonic", "NRestarts")
        since = _jobs_before_this_boot()
        passed = page.wait_passed(SLOTS, since, BATCH_S)
        check(began["NRestarts"] == "0", f"the unit was restarted {began['NRestarts']} times")
        count = bench.stats()["tower_light"]["bytes_from_host"]
        check(count == 0, f"the tower light was sent {count} bytes")
        seen.note(f"{page.check_greens()} greens, each with its row: {page.summary(passed)}")


def log(world: World) -> None:
    """Read what the station wrote into the journal in both boots."""
    with world.tell.case("journal") as seen:
        entries = [entry for entry in journal(f"--unit={UNIT}") if entry.get("_TRANSPORT") == "stdout"]
        events: dict[str, int] = {}
        for entry in entries:
            message = entry.get("MESSAGE")
            check(isinstance(message, str), f"not text: {message!r:.200}")
            check(str(message).startswith("{"), f"not a JSON line: {message!r:.300}")
            event = json.loads(str(message))
            wanted = PRIORITY_OF[event["level"]]
            check(
                entry["PRIORITY"] == str(wanted), f"{event['event']} is {event['level']}, PRIORITY {entry['PRIORITY']}"
            )
            check(re.fullmatch(r"[a-z_]+\.[a-z_]+", event["event"]), f"no noun.verb: {event['event']!r}")
            events[event["event"]] = events.get(event["event"], 0) + 1
        written, closed = events.get("job.ended", 0), len(page.query("SELECT id FROM job WHERE state = 'closed'"))
        killed = len(page.query("SELECT id FROM job WHERE reason = 'station_restarted'"))
        check(written == closed - killed, f"job.ended {written} times, {closed} closed jobs ({killed} by a restart)")
        levels = {entry["PRIORITY"] for entry in entries}
        check(levels >= {"4", "6"}, f"only priorities {levels}")
        seen.note(
            f"{sum(events.values())} lines of {len(events)} kinds, priorities {sorted(levels)}, {written} job.ended"
        )


def _jobs_before_this_boot() -> int:
    """The newest job of the boot before this one."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    rows = page.query("SELECT coalesce(max(sequence), 0) AS newest FROM job WHERE boot_id <> ?", boot_id)
    return int(rows[0]["newest"])


GROUPS: tuple[Callable[[World], None], ...] = (boards_at_boot, log)

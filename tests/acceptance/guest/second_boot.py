"""The second boot of the bench: boards plugged in while the machine boots, the journal of both boots, a wrong configuration."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.guest import page
from tests.acceptance.guest.bench import SLOTS
from tests.acceptance.guest.system import UNIT, journal, journal_since, run, unit_facts, wait_for
from tests.acceptance.guest.telling import Seen, check
from tests.acceptance.guest.world import BATCH_S, CONFIG, World

EXIT_CONFIGURATION = 78
LEFT_ALONE_S = 8.0
"""The unit restarts after two seconds what it restarts at all."""
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


def wrong_configuration(world: World) -> None:
    """Give the unit a configuration with a key that there is not."""
    with world.tell.case("config_error_78") as seen:
        good = CONFIG.read_text(encoding="utf-8")
        CONFIG.write_text(good + "\n[flashing2]\nx = 1\n", encoding="utf-8")
        try:
            _refused(seen)
        finally:
            CONFIG.write_text(good, encoding="utf-8")
    run("systemctl", "reset-failed", "station", check=False)
    run("systemctl", "start", "station")


def _refused(seen: Seen) -> None:
    """The unit fails with 78, is left alone, and one line of the journal says as an error which key is wrong."""
    began_at = time.time()
    run("systemctl", "restart", "station", check=False)
    wait_for("the unit fails", lambda: unit_facts("ActiveState")["ActiveState"] == "failed", limit_s=30)
    names = ("ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "NRestarts", "InvocationID")
    facts = unit_facts(*names)
    ended = facts["Result"], facts["ExecMainCode"], facts["ExecMainStatus"]
    check(ended == ("exit-code", "1", str(EXIT_CONFIGURATION)), f"the unit ended with {facts}")  # 1 is CLD_EXITED
    time.sleep(LEFT_ALONE_S)
    later = unit_facts(*names)
    check(later == facts and later["NRestarts"] == "0", f"it was restarted: {facts} became {later}")
    said = [entry for entry in journal_since(began_at) if entry.get("_TRANSPORT") == "stdout"]
    naming = [(entry["PRIORITY"], str(entry["MESSAGE"])) for entry in said if "flashing2" in str(entry["MESSAGE"])]
    check(len(naming) == 1, f"{len(naming)} lines name the key: {naming or [entry['MESSAGE'] for entry in said][-5:]}")
    ((priority, line),) = naming
    check(priority == "3", f"PRIORITY={priority}: {line}")
    check(str(CONFIG) in line, f"it does not name the file: {line}")
    seen.note(f"Result=exit-code, 78, NRestarts=0 and still failed {LEFT_ALONE_S:.0f} s later; PRIORITY=3: {line:.120}")


def _jobs_before_this_boot() -> int:
    """The newest job of the boot before this one."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    rows = page.query("SELECT coalesce(max(sequence), 0) AS newest FROM job WHERE boot_id <> ?", boot_id)
    return int(rows[0]["newest"])


GROUPS: tuple[Callable[[World], None], ...] = (boards_at_boot, log, wrong_configuration)

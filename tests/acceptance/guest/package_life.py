"""The life of the package, on a machine of its own: doctor, cut-off boards, the unit, upgrade, going back, purge, restore.

The groups follow each other; the last ones take the package away and bring it back, so their order is part of them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.acceptance.guest import page
from tests.acceptance.guest.cut_off import hung_station, killed_station
from tests.acceptance.guest.system import main_pid, run, unit_facts, wait_for
from tests.acceptance.guest.telling import check
from tests.acceptance.guest.world import BACKUPS, BATCH_S, CONFIG, PACKAGES, RECIPES, World, configure, install

SLOT_MAP = Path("/var/lib/station/slots.json")
GREEN = "SELECT id, board_mac, slot FROM job WHERE outcome = 'PASS' ORDER BY sequence"
GREEN_AT_LEAST = 2


def setting_up(world: World) -> None:
    """Install and configure the package, and make a board, so that there is something to keep."""
    install(PACKAGES / "first.deb")
    configure()
    run("systemctl", "restart", "station")
    page.wait_ready()
    bench = world.start_bench("--unplugged")
    bench.plug("A1")
    page.wait_passed(["A1"], 0, BATCH_S)
    bench.unplug("A1")


def diagnosis(world: World) -> None:
    """Ask the doctor about the station that works."""
    with world.tell.case("doctor_green") as seen:
        asked = run("station", "doctor", "--json", check=False)
        (world.kept / "doctor.json").write_text(asked.stdout + asked.stderr, encoding="utf-8")
        found = json.loads(asked.stdout)
        lines: list[dict[str, Any]] = found if isinstance(found, list) else found["diagnoses"]
        bad = [f"{line['check']}: {line['said']}" for line in lines if line["level"] == "problem"]
        check(not bad and asked.returncode == 0, f"exit code {asked.returncode}; {bad}")
        warned = [line["check"] for line in lines if line["level"] == "warning"]
        seen.note(f"{len(lines)} lines, no problem; warnings: {', '.join(warned) or 'none'}")


def upgrading(world: World) -> None:
    """Refuse the second package while a lot runs, then install it, make a board, and go back."""
    with world.tell.case("upgrade_refused_while_lot_runs") as seen:
        run("station", "lot", "open", "--by", "acceptance", "--product", "refused")
        pid = main_pid()
        refused = run("apt-get", "install", "--yes", "-o", "Dpkg::Use-Pty=0", str(PACKAGES / "second.deb"), check=False)
        (world.kept / "refused.txt").write_text(refused.stdout + refused.stderr, encoding="utf-8")
        check(refused.returncode != 0, "apt-get ended with 0")
        check(_version("first") == _installed(), f"installed is {_installed()}")
        check(main_pid() == pid and page.answers(), "the station did not go on")
        run("station", "lot", "close", "--by", "acceptance")
        seen.note(_line_with("lot", refused.stdout + refused.stderr))
    with world.tell.together("upgrade", "go_back"):
        rows, config = page.query("SELECT * FROM job ORDER BY sequence"), CONFIG.read_bytes()
        learned = _slot_map()
        with world.tell.case("upgrade") as seen:
            said = install(PACKAGES / "second.deb")
            (world.kept / "upgrade.txt").write_text(said, encoding="utf-8")
            page.wait_ready()
            check(_installed() == _version("second"), f"installed is {_installed()}")
            check(CONFIG.read_bytes() == config, "the configuration was changed")
            check(_slot_map() == learned, "the slot map was changed")
            after = page.query("SELECT * FROM job ORDER BY sequence")
            check(all(row.pop("acceptance") == "migrated" for row in after), "the migration did not reach every job")
            check(after == rows, f"{len(rows)} jobs became {len(after)}, or were changed")
            backups = sorted(path.name for path in BACKUPS.glob("*before*"))
            check(backups, f"no backup in {sorted(path.name for path in BACKUPS.iterdir())}")
            seen.note(f"{_installed()}: {len(rows)} jobs kept and migrated, backup {backups[-1]}")
        with world.tell.case("go_back") as seen:
            since = page.newest_job()
            bench = world.the_bench
            bench.fresh("A1")
            bench.plug("A1")
            (made,) = page.wait_passed(["A1"], since, BATCH_S)
            bench.unplug("A1")
            gone = run("station-go-back", str(PACKAGES / "first.deb"), limit_s=240)
            (world.kept / "go-back.txt").write_text(gone.stdout + gone.stderr, encoding="utf-8")
            page.wait_ready()
            check(_installed() == _version("first"), f"installed is {_installed()}")
            check(CONFIG.read_bytes() == config, "the configuration was changed")
            back = page.query("SELECT * FROM job ORDER BY sequence")
            check(back == rows, f"{len(rows)} jobs before the upgrade, {len(back)} now, or changed")
            kept = [
                path for path in BACKUPS.rglob("*") if path.is_file() and str(made["id"]).encode() in path.read_bytes()
            ]
            check(kept, f"the job made since is in no file of {BACKUPS}")
            seen.note(f"{_installed()} with {len(back)} jobs; the job made since is kept in {kept[0].name}")


def moving(world: World) -> None:
    """Take a backup, purge, install anew, restore."""
    with world.tell.together("purge", "backup_restore"):
        world.the_bench.unplug(*world.the_bench.plugged)
        before = set(BACKUPS.iterdir())
        made = run("/usr/bin/station", "backup")
        (backup,) = {path for path in set(BACKUPS.iterdir()) - before if path.suffix == ".gz"}
        kept = Path("/var/lib/acceptance-moved")
        kept.mkdir()
        moved = shutil.copy(backup, kept)
        green, holds = page.query(GREEN), _holdings()
        with world.tell.case("purge") as seen:
            said = run("apt-get", "purge", "--yes", "-o", "Dpkg::Use-Pty=0", "flashing-station").stdout
            (world.kept / "purge.txt").write_text(said, encoding="utf-8")
            left = [path for path in map(Path, _PACKAGE_PATHS) if path.exists()]
            check(not left, f"left behind: {', '.join(map(str, left))}")
            check(unit_facts("LoadState")["LoadState"] == "not-found", "systemd still knows the unit")
            running = run("pgrep", "--euid", "station", check=False).stdout.split()
            check(not running, f"processes of station still run: {running}")
            stays = sorted(path.name for path in BACKUPS.iterdir()) if BACKUPS.exists() else []
            seen.note(f"nothing left but {len(stays)} files in {BACKUPS}, as apt said, and the system user")
        with world.tell.case("backup_restore") as seen:
            shutil.rmtree(BACKUPS, ignore_errors=True)  # another machine has none
            install(PACKAGES / "first.deb")
            wait_for("the fresh station answers", page.answers, limit_s=60)
            check(not page.query(GREEN), "the fresh station has jobs")
            # Word for word what docs/backup.md tells a person to type.
            run("systemctl", "stop", "station")
            restored = run("/usr/bin/station", "restore", str(moved))
            run("systemctl", "start", "station")
            (world.kept / "restore.txt").write_text(made.stdout + restored.stdout + restored.stderr, encoding="utf-8")
            page.wait_ready()
            check(len(green) >= GREEN_AT_LEAST, f"only {len(green)} jobs were green before")
            _check_same(holds, _holdings())
            rows = sum(len(table) for name, table in holds.items() if name.startswith("table "))
            seen.note(
                f"{len(green)} green jobs, {rows} rows of {sum(name.startswith('table ') for name in holds)} tables,"
                f" slot map, configuration and {sum(str(RECIPES) in name for name in holds)} recipe files are the same; ready"
            )


def _holdings() -> dict[str, list[object]]:
    """Everything that a station is to get back, by what it is: rows of tables, bytes of files.

    The heartbeat is left out: its row says when the station wrote last. The station hands out no numbers of its own; what tells
    a board from others, and what was measured of it, are rows.
    """
    held: dict[str, list[object]] = {}
    with closing(sqlite3.connect(f"file:{page.RECORDS}?mode=ro", uri=True, timeout=20)) as records:
        tables = [row[0] for row in records.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted(set(tables) - {"heartbeat"}):
            held[f"table {table}"] = sorted(records.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608 - our own
    files = [CONFIG, *(path for path in RECIPES.rglob("*") if path.is_file()), *SLOT_MAP.parent.glob("*.json")]
    held |= {f"file {path}": [path.read_bytes()] for path in files if ".replaced-" not in path.name}
    return held


def _check_same(before: dict[str, list[object]], after: dict[str, list[object]]) -> None:
    """Name what is missing, what is new, and where the two differ."""
    check(before.keys() == after.keys(), f"not in both: {sorted(before.keys() ^ after.keys())}")
    changed = [name for name in before if before[name] != after[name]]
    for name in changed[:1]:
        lost, new = (
            [row for row in one if row not in other]
            for one, other in ((before[name], after[name]), (after[name], before[name]))
        )
        check(False, f"changed: {changed}; {name} lost {lost!r:.400} and has new {new!r:.400}")
    check(before["table measurement"] and f"file {SLOT_MAP}" in before, "there was nothing to compare")


_PACKAGE_PATHS = (
    "/usr/lib/flashing-station",
    "/usr/bin/station",
    "/etc/station",
    "/var/lib/station",
    "/lib/systemd/system/station.service",
    "/etc/systemd/system/multi-user.target.wants/station.service",
    "/lib/udev/rules.d/70-flashing-station.rules",
)


def _slot_map() -> bytes:
    """The taught and learned slots; nothing, where nobody has taught or learned."""
    return SLOT_MAP.read_bytes() if SLOT_MAP.exists() else b""


def _installed() -> str:
    return run("dpkg-query", "--show", "--showformat", "${Version}", "flashing-station").stdout


def _version(package: str) -> str:
    return run("dpkg-deb", "--field", str(PACKAGES / f"{package}.deb"), "Version").stdout.strip()


def _line_with(word: str, text: str) -> str:
    return next((line.strip() for line in text.splitlines() if word in line), text.strip()[-200:])


GROUPS: tuple[Callable[[World], None], ...] = (
    setting_up,
    diagnosis,
    killed_station,
    hung_station,
    upgrading,
    moving,
)

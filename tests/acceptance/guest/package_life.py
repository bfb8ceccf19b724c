"""The life of the package, on a machine of its own: doctor, the unit's own cases, upgrade, going back, purge, restore.

The groups follow each other; the last ones take the package away and bring it back, so their order is part of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.guest import page
from tests.acceptance.guest.system import UNIT, journal, main_pid, run, unit_facts, wait_for
from tests.acceptance.guest.telling import check
from tests.acceptance.guest.world import BACKUPS, BATCH_S, CONFIG, PACKAGES, RECIPES, World, configure, install

EXIT_CONFIGURATION = 78
DROP_IN = Path("/run/systemd/system/station.service.d/acceptance.conf")
WATCHDOG_S = 15
GREEN = "SELECT id, board_mac, slot FROM job WHERE outcome = 'PASS' ORDER BY sequence"


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


def unit(world: World) -> None:
    """Hang the station; then give it a wrong configuration."""
    with world.tell.case("watchdog") as seen:
        DROP_IN.parent.mkdir(parents=True)
        DROP_IN.write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\n", encoding="utf-8")
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", "station")
        before, pid = int(unit_facts("NRestarts")["NRestarts"]), main_pid()
        os.kill(pid, signal.SIGSTOP)
        wait_for(
            "systemd restarts it", lambda: int(unit_facts("NRestarts")["NRestarts"]) > before, limit_s=4 * WATCHDOG_S
        )
        page.wait_ready()
        check(main_pid() != pid, "it is the same process")
        seen.note(f"stopped with WatchdogSec={WATCHDOG_S}; restarted, answers again")
    with world.tell.case("config_error_78") as seen:
        good, before = CONFIG.read_text(encoding="utf-8"), int(unit_facts("NRestarts")["NRestarts"])
        CONFIG.write_text(good + "\n[flashing2]\nx = 1\n", encoding="utf-8")
        try:
            run("systemctl", "restart", "station", check=False)
            wait_for("the unit fails", lambda: unit_facts("ActiveState")["ActiveState"] == "failed", limit_s=30)
            facts = unit_facts("ExecMainStatus", "NRestarts", "SubState")
        finally:
            CONFIG.write_text(good, encoding="utf-8")
        check(facts["ExecMainStatus"] == str(EXIT_CONFIGURATION), f"the unit ended with {facts}")
        check(int(facts["NRestarts"]) <= before, f"it was restarted: {facts}")
        said = [str(entry.get("MESSAGE")) for entry in journal(f"--unit={UNIT}", "--lines=20", "--boot")]
        check(any("flashing2" in words for words in said), f"the journal does not name the key: {said[-5:]}")
        seen.note("ended with 78, not restarted, the journal names the key")
    DROP_IN.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", "station", check=False)
    run("systemctl", "start", "station")


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
        green = page.query(GREEN)
        kept = Path("/var/lib/acceptance-moved")
        before = set(BACKUPS.iterdir())
        made = run("station", "backup")
        (backup,) = {path for path in set(BACKUPS.iterdir()) - before if path.suffix == ".gz"}
        kept.mkdir()
        moved = shutil.copy(backup, kept)
        Path(moved).chmod(0o644)
        config, recipes = CONFIG.read_bytes(), sorted(path.name for path in RECIPES.iterdir())
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
            run("systemctl", "stop", "station")
            restored = run("station", "restore", str(moved))
            run("systemctl", "start", "station")
            page.wait_ready()
            lost = {row["id"] for row in green} - {row["id"] for row in page.query(GREEN)}
            check(green and not lost, f"{len(lost)} of {len(green)} green jobs are lost")
            check(CONFIG.read_bytes() == config, "the configuration is not the one that was kept")
            check(sorted(path.name for path in RECIPES.iterdir()) == recipes, "recipes are missing")
            (world.kept / "restore.txt").write_text(made.stdout + restored.stdout + restored.stderr, encoding="utf-8")
            seen.note(f"{len(green)} green jobs, configuration and recipes are back; ready")


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
    path = Path("/var/lib/station/slots.json")
    return path.read_bytes() if path.exists() else b""


def _installed() -> str:
    return run("dpkg-query", "--show", "--showformat", "${Version}", "flashing-station").stdout


def _version(package: str) -> str:
    return run("dpkg-deb", "--field", str(PACKAGES / f"{package}.deb"), "Version").stdout.strip()


def _line_with(word: str, text: str) -> str:
    return next((line.strip() for line in text.splitlines() if word in line), text.strip()[-200:])


GROUPS: tuple[Callable[[World], None], ...] = (setting_up, diagnosis, unit, upgrading, moving)

"""Backup, journal and restore by the real commands at the running station: nothing that was green is ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from station.bench.bench import VirtualBench
from station.bench.chip import Chip
from station.config import Config, load_config
from station.demo import write_demo_recipe
from station.model import Light, format_mac
from tests.e2e.command import STATION, Done, one_line, started, station, wait_for, write_config
from tests.e2e.workbench import WatchedLight, Workbench, a_board, at_work, rows_of

SLOTS = 2


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """The second place."""
    (tmp_path / "second").mkdir()
    return tmp_path / "second"


def configured(directory: Path, second: Path) -> Path:
    """Install a station afresh: recipe, configuration with a second place, empty state directory."""
    recipe, _ = write_demo_recipe(directory / "recipes")
    slots = "".join(f'{label} = "{place}"\n' for label, place in VirtualBench.places(SLOTS).items())
    more = f'[backup]\ndirectory = "{second}"\n[slots]\n{slots}[shutdown]\nfinish_s = 0.0\n'
    (directory / "state").mkdir()
    return write_config(directory, more, recipe=recipe)


@pytest.fixture
def file(tmp_path: Path, second: Path) -> Path:
    """The configuration of a fresh station."""
    return configured(tmp_path, second)


def metric(text: str, name: str) -> float:
    """The value of a sample without labels."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def command(*words: object) -> Done:
    """Run a command beside the station."""
    done = await asyncio.to_thread(station, *words)
    assert done.code == 0, done.err
    return done


async def make_green(at: Workbench, label: str) -> Chip:
    """Make a board, see it green, pull it out."""
    board = a_board()
    view = await at.plug_and_wait(label, board)
    assert view.light is Light.PASS, view
    await at.pull(label)
    return board


def everything(config: Config) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the tables that a job is made of."""
    tables = ("job", "job_visit", "phase", "measurement", "board", "lot", "lot_event", "recipe", "firmware")
    return {table: sorted(rows_of(config, f"SELECT * FROM {table}"), key=repr) for table in tables}  # noqa: S608


def test_onto_a_fresh_install_nothing_green_is_lost(tmp_path: Path, file: Path, second: Path) -> None:
    """Green before the backup, green after it, a power cut in the journal, the disk dead: every board is known again."""
    greens: list[Chip] = []
    config = load_config(file)

    async def shift() -> None:
        async with at_work(config) as at:
            greens.append(await make_green(at, "A1"))
            made = (await command("backup", "--config", file, "--json")).json
            assert (made["jobs"], made["passes"], made["problems"]) == (1, 1, [])
            greens.append(await make_green(at, "A2"))
            assert (await at.plug_and_wait("A1", a_board("small_flash"))).light is Light.FAIL
            await at.pull("A1")
            greens.append(await make_green(at, "A1"))

    asyncio.run(shift())
    before = everything(config)
    assert len(before["job"]) == 4
    (backup,) = second.glob("station-*.tar.gz")
    (journal,) = second.glob("jobs-*[!Z].jsonl")
    with journal.open("ab") as torn:
        torn.write(b'{"sha256":"1234567890')

    for name in ("state", "recipes"):
        shutil.rmtree(tmp_path / name)
    configured(tmp_path, second)
    done = station("restore", backup, "--config", file)
    assert done.code == 0, done.err
    assert "restored: 4 jobs, 3 PASS; 3 of the jobs from the journal" in done.out
    assert "1 lines of the journal are torn" in done.err
    assert everything(config) == before
    assert station("db", "check", "--db", config.database_url).code == 0

    async def next_shift() -> None:
        async with at_work(config) as at:
            for board in greens:
                view = await at.plug_and_wait("A1", board)
                assert (view.reason, view.mac) == ("already_done", format_mac(board.mac))
                await at.pull("A1")
            await make_green(at, "A2")

    asyncio.run(next_shift())


def test_green_is_journaled_at_once_and_a_journal_that_cannot_be_written_costs_no_green(
    file: Path, second: Path
) -> None:
    """Each PASS is in the second place within moments; without a second place boards pass all the same, and are counted."""
    config, unmounted = load_config(file), second.with_name("unmounted")

    async def shift() -> None:
        async with at_work(config) as at:
            await make_green(at, "A1")
            lines = await asyncio.to_thread(wait_for, lambda: [*second.glob("jobs-*.jsonl")], "the journal")
            await asyncio.to_thread(wait_for, lambda: b'"outcome":"PASS"' in lines[0].read_bytes(), "the line")
            os.rename(second, unmounted)  # noqa: PTH104 - a path's own method is no more than that
            await make_green(at, "A1")
            text = await at_metric(at, "station_journal_behind_jobs", 1)
            assert metric(text, "station_backup_age_seconds") == float("inf")
            os.rename(unmounted, second)  # noqa: PTH104 - likewise
            await make_green(at, "A1")
            await at_metric(at, "station_journal_behind_jobs", 0)
            await command("backup", "--config", file)
            await asyncio.to_thread(wait_for, lambda: [*second.glob("station-*")], "the backup")
        assert len(rows_of(config, "SELECT id FROM job WHERE outcome = 'PASS'")) == 3

    asyncio.run(shift())


async def at_metric(at: Workbench, name: str, value: float) -> str:
    """Wait until the station's metrics show this value; return them all."""
    while True:
        _, text = await at.get("/metrics")
        if metric(text, name) == value:
            return str(text)
        await asyncio.sleep(0.2)


def test_green_never_waits_for_the_second_place(file: Path, second: Path) -> None:
    """With a journal whose writing hangs for ever the light turns green, and the station ends."""
    config = load_config(file)
    journal = second / f"jobs-{config.station_id}.jsonl"
    os.mkfifo(journal)
    light = WatchedLight()

    async def shift() -> None:
        async with at_work(config, light=light) as at:
            await make_green(at, "A1")
            await at_metric(at, "station_journal_behind_jobs", 1)

    try:
        asyncio.run(shift())
    finally:
        # Let go of the reader that waits for somebody to write.
        with contextlib.suppress(OSError):
            os.close(os.open(journal, os.O_WRONLY | os.O_NONBLOCK))
    assert Light.PASS in light.of("A1")


def test_a_running_station_refuses_a_restore_and_an_upgrade_in_the_middle(file: Path, second: Path) -> None:
    """The PID of who holds the records is named; while a board is made the upgrade says so, and when it is done it may."""
    config = load_config(file)

    async def shift() -> None:
        async with at_work(config, pace=2.0) as at:
            assert (await command("upgrade", "check", "--config", file)).out == ""
            await at.plug("A1", a_board())
            await at.until_flashing("A1")
            said = (await asyncio.to_thread(station, "upgrade", "check", "--config", file)).refused(75)
            assert said == "a board is being made in slot A1: wait until it is done\n"
            await asyncio.to_thread(
                lambda: station("upgrade", "prepare", "--to-version", "9", "--config", file).refused(75)
            )
            assert _seen(second, "station-*") == []
            await at.pull("A1")
            done = await command("upgrade", "prepare", "--to-version", "9.9", "--config", file)
            prepared = Path(done.out.strip())
            assert prepared.name.endswith("-before-9.9.tar.gz")
            assert prepared.parent == second
            refused = await asyncio.to_thread(station, "restore", prepared, "--config", file, "--replace")
            assert f"(PID {os.getpid()})" in one_line(refused.refused(78))

    asyncio.run(shift())


def test_an_open_lot_stops_an_upgrade_and_a_paused_one_does_not(tmp_path: Path, second: Path) -> None:
    """Exit code 75 and one sentence with the command that helps."""
    recipe, _ = write_demo_recipe(tmp_path / "recipes")
    more = f'[backup]\ndirectory = "{second}"\n'
    file = write_config(tmp_path, more, recipe=recipe, require_lot=True)
    (tmp_path / "state").mkdir()
    assert station("lot", "open", "--config", file, "--by", "Ada").code == 0
    said = station("upgrade", "check", "--config", file).refused(75)
    assert "opened by Ada is open: station lot pause" in said
    assert len(said.splitlines()) == 1
    assert station("lot", "pause", "--config", file, "--by", "Ada").code == 0
    assert station("upgrade", "check", "--config", file).code == 0


def test_an_upgrade_is_prepared_with_nothing_there_yet(tmp_path: Path) -> None:
    """A station that never ran and has no second place: configuration only, kept in the state directory."""
    file = write_config(tmp_path)
    done = station("upgrade", "prepare", "--no-check", "--to-version", "2", "--config", file)
    assert (done.code, done.err) == (0, "")
    assert Path(done.out.strip()).parent == tmp_path / "state" / "backups"
    verified = station("backup", "verify", done.out.strip())
    assert "no records" in verified.out
    assert verified.code == 0


def test_the_page_of_exit_codes_and_words(tmp_path: Path, file: Path, second: Path) -> None:
    """Every refusal is one line that names the thing and the fix, with its own exit code, and leaves nothing behind."""
    no_place = write_config(tmp_path / "state", recipe=None)
    assert "backup.directory" in one_line(station("backup", "--config", no_place).refused(78))
    (tmp_path / "state" / "station.db").write_bytes(b"no database at all" * 500)
    said = station("backup", "--config", file).refused(69)
    assert "not a database" in said
    assert len(said.splitlines()) == 1
    (tmp_path / "state" / "station.db").unlink()
    assert list(second.iterdir()) == []
    second.rmdir()
    assert "mount it" in one_line(station("backup", "--config", file).refused(74))
    (tmp_path / "no-backup.tar.gz").write_bytes(b"x" * 100)
    assert "no backup" in one_line(station("backup", "verify", tmp_path / "no-backup.tar.gz").refused(74))
    assert "no backup" in one_line(station("restore", tmp_path / "no-backup.tar.gz", "--config", file).refused(74))
    station("restore", tmp_path / "not there", "--config", file).refused(64)


def test_a_full_second_place_leaves_older_backups_and_nothing_else(file: Path, second: Path) -> None:
    """Where a file may not grow any more the backup fails with words, and what was there stays and holds."""
    assert (
        station("demo", "--once", "--boards", 1, "--slots", 1, "--pace", 0, "--port", 0, "--db", _url(file)).code == 0
    )
    assert station("backup", "--config", file).code == 0
    (good,) = second.iterdir()
    limited = f'ulimit -f 60; exec "{STATION}" backup --config "{file}"'
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode in (69, 74), done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(second.iterdir()) == [good]
    assert station("backup", "verify", good).code == 0


def _seen(second: Path, moment: str) -> list[Path]:
    return [*second.glob(moment), *second.glob("station-*")]


def _url(file: Path) -> str:
    return load_config(file).database_url


def test_killed_at_any_moment_nothing_looks_like_a_backup_that_is_none(
    file: Path, second: Path, tmp_path: Path
) -> None:
    """Kill -9 while a backup is made: whatever has the name of one holds, and the next run works."""
    assert (
        station("demo", "--once", "--boards", 1, "--slots", 1, "--pace", 0, "--port", 0, "--db", _url(file)).code == 0
    )
    with sqlite3.connect(load_config(file).state_dir / "station.db") as connection:
        connection.execute("UPDATE visit SET transcript = randomblob(20000000)")
    for moment in (".backup-*", ".backup-*/records", ".backup-*/draft", ".backup-*/back/0"):
        with started(tmp_path / "killed", "backup", "--config", file) as running:
            wait_for(functools.partial(_seen, second, moment), moment, running)
            running.process.kill()
        for found in second.glob("station-*"):
            assert station("backup", "verify", found).code == 0
            found.unlink()
    assert station("backup", "--config", file).code == 0
    assert len(list(second.glob("station-*"))) == 1

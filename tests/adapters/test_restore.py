"""Putting a backup back: all of it or a refusal, nothing deleted, and nothing written where a station has no business."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from station.adapters import restore as restore_module
from station.adapters.archive import Kind, Source, pack, source_of, unpack
from station.adapters.backup import make_backup
from station.adapters.job_journal import JobJournal
from station.adapters.records import Database, StationLock, examine, head, labels_report
from station.adapters.restore import Restored, restore_backup
from station.adapters.second_place import SecondPlace
from station.config import load_config
from station.errors import BackupFailed, ConfigurationError
from tests.adapters.records.old_records import populated_at_0001
from tests.adapters.records.samples import FAILED, PASSED, PENDING, T0, board, make_lot, record, rows_of, url_of

NOW = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=5)
STAMP = "20261122T083000Z"


class Site:
    """A machine with a station on it, its second place, and one backup of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.second = directory, directory / "second"
        self.etc, self.state = directory / "etc", directory / "state"
        self.second.mkdir()
        self.install()
        (self.etc / "recipes" / "blink.toml").write_text('[firmware]\npath = "blink.bin"\nsha256 = "ab"\n')
        (self.etc / "recipes" / "blink.bin").write_bytes(b"\xe9blink")
        self.config.write_text(self.config.read_text() + '[work]\nrecipe = "recipes/blink.toml"\n')
        (self.state / "slots.json").write_text('{"A1": "pci-0:1"}\n')

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.etc / "station.toml"

    @property
    def records(self) -> Path:
        """The records."""
        return self.state / "station.db"

    def install(self) -> None:
        """What the package leaves: an empty state directory and a configuration that names the places."""
        for directory in (self.state, self.etc / "recipes"):
            directory.mkdir(parents=True)
        self.config.write_text(
            f'[station]\nid = "bench-1"\nstate_dir = "{self.state}"\n[backup]\ndirectory = "{self.second}"\n'
        )

    def lose_everything(self) -> None:
        """The disk died: everything but the second place is installed afresh."""
        shutil.rmtree(self.state)
        shutil.rmtree(self.etc)
        self.install()

    def write(self, what: Callable[[Database], None]) -> None:
        """Write records, and let the journal follow."""
        with Database.open(url_of(self.records), station_id="bench-1", now=lambda: T0) as database:
            what(database)
        with SecondPlace(self.second, "bench-1", self.records):
            pass

    def backup(self) -> Path:
        """Make one."""
        return make_backup(load_config(self.config), self.config, to=None, before="", now=NOW).path

    def restore(self, file: Path, **more: Any) -> Restored:
        """Put it back."""
        return restore_backup(
            file, **{"config_file": self.config, "journals": None, "replace": False, "now": LATER} | more
        )

    def tree(self) -> dict[str, bytes]:
        """Every file of the machine but the locks, without the second place."""
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for root in (self.etc, self.state)
            for path in sorted(root.rglob("*"))
            if path.is_file() and path.name != "lock" and path.suffix != ".lock"
        }


def a_shift(database: Database) -> None:
    """One board passed, one waits."""
    lot = make_lot(database)
    record(database, "passed", lot, PASSED, identity=board(1))
    record(database, "waits", lot, PENDING, identity=board(2))


def another_shift(database: Database) -> None:
    """The waiting one passed, one more did, one failed."""
    lot = make_lot(database)
    database.finish_job("waits", PASSED)
    record(database, "new", lot, PASSED, identity=board(3))
    record(database, "failed", lot, FAILED, identity=board(4))


def work_rows(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that is about work."""
    return {table: rows for table, rows in rows_of(file).items() if table != "heartbeat"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A machine with records."""
    site = Site(tmp_path)
    site.write(a_shift)
    return site


def test_onto_a_fresh_install_nothing_is_lost(site: Site) -> None:
    """Records with every job since the backup, slot map, configuration, recipe and image are what they were."""
    backup = site.backup()
    site.write(another_shift)
    before, rows = site.tree(), work_rows(site.records)
    site.lose_everything()
    restored = site.restore(backup)
    assert (restored.jobs, restored.passes, restored.merged.jobs, restored.torn) == (4, 3, 3, 0)
    assert work_rows(site.records) == rows
    after = site.tree()
    for name, content in before.items():
        assert name.startswith("state/station.db") or after[name] == content, name
    assert set(restored.written) == {
        site.records,
        site.state / "slots.json",
        site.config,
        site.etc / "recipes" / "blink.toml",
        site.etc / "recipes" / "blink.bin",
    }
    assert restored.aside == [site.etc / f"station.toml.replaced-{STAMP}"]
    assert restored.notes == []
    assert site.records.stat().st_mode & 0o777 == 0o640


def test_labels_come_back_and_are_not_printed_by_themselves(site: Site) -> None:
    """What waited in the backup may be on paper by now: it is on record as lost, and a person is told."""

    def with_labels(database: Database) -> None:
        database.labels.wanted = True
        record(database, "labelled", make_lot(database), PASSED, identity=board(5))

    site.write(with_labels)
    backup = site.backup()
    site.lose_everything()
    restored = site.restore(backup)
    with Database.open(url_of(site.records)) as database:
        assert database.labels.waiting() == 0
    (label,) = labels_report(url_of(site.records)).rows
    assert (label["state"], label["detail"]) == ("failed", "restored from a backup: it may have been printed")
    assert any("1 labels waited" in note for note in restored.notes)


def test_a_torn_last_line_costs_only_itself(site: Site) -> None:
    """The journal of a power cut gives back every whole line, and the loss is said."""
    backup = site.backup()
    site.write(another_shift)
    journal = JobJournal(site.second, "bench-1").path
    os.truncate(journal, journal.stat().st_size - 100)
    site.lose_everything()
    restored = site.restore(backup)
    assert (restored.jobs, restored.passes, restored.torn) == (3, 3, 1)
    assert any("torn" in note for note in restored.notes)


def test_without_the_journal_only_the_backup_comes_back(site: Site, tmp_path: Path) -> None:
    """A journal elsewhere is merged when it is named."""
    backup = site.backup()
    site.write(another_shift)
    journal = JobJournal(site.second, "bench-1").path.rename(tmp_path / "saved.jsonl")
    site.lose_everything()
    assert site.restore(backup).jobs == 2
    assert site.restore(backup, journals=[journal], replace=True).jobs == 4


def test_records_are_never_covered_by_accident(site: Site) -> None:
    """Where there is work on record a restore needs to be told, and then moves it aside, log and all."""
    backup = site.backup()
    site.write(another_shift)
    before, rows = site.tree(), work_rows(site.records)
    with pytest.raises(BackupFailed, match=r"4 jobs, 3 of them PASS.*--replace"):
        site.restore(backup)
    assert site.tree() == before
    holder = sqlite3.connect(site.records)
    holder.execute("SELECT * FROM job").fetchall()
    restored = site.restore(backup, replace=True, journals=[])
    holder.close()
    assert restored.jobs == 2
    aside = site.state / f"replaced-{STAMP}"
    assert work_rows(aside / "station.db") == rows
    assert aside / "station.db" in restored.aside


def test_damaged_records_are_moved_aside_too(site: Site) -> None:
    """The very reason to restore: they cannot be counted, so it takes `--replace`, and they are kept."""
    backup = site.backup()
    site.records.write_bytes(b"no database" * 1000)
    with pytest.raises(BackupFailed, match="damaged ones"):
        site.restore(backup)
    assert site.restore(backup, replace=True).jobs == 2
    assert (site.state / f"replaced-{STAMP}" / "station.db").read_bytes() == b"no database" * 1000


def test_a_running_station_is_never_restored_under(site: Site) -> None:
    """Whoever holds the state directory or the records is named by PID, and nothing changes."""
    backup = site.backup()
    site.lose_everything()
    before = site.tree()
    held = (site.state / "lock").open("w")
    held.write("4711\n")
    held.flush()
    fcntl.flock(held, fcntl.LOCK_EX)
    with held, pytest.raises(ConfigurationError, match="PID 4711"):
        site.restore(backup)
    lock = StationLock(site.records)
    lock.take()
    with pytest.raises(ConfigurationError, match=f"PID {os.getpid()}"):
        site.restore(backup)
    lock.release()
    assert site.tree() == before


def test_an_older_schema_is_brought_up(site: Site) -> None:
    """A backup of an older station comes back migrated, with the jobs that its journal had besides."""
    site.records.unlink()
    populated_at_0001(site.records)
    with SecondPlace(site.second, "bench-1", site.records):
        pass
    backup = site.backup()
    site.lose_everything()
    restored = site.restore(backup)
    assert examine(site.records, beside_a_station=True).revision == head()
    assert restored.jobs > 0
    with Database.open(url_of(site.records)) as database:
        assert len(database.jobs(100)) == restored.jobs


def test_a_newer_schema_is_refused_with_words(site: Site) -> None:
    """What this station cannot read it leaves alone, and says which version made it."""
    with sqlite3.connect(site.records) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    backup = site.backup()
    site.lose_everything()
    before = site.tree()
    with pytest.raises(BackupFailed, match=r"newer schema 9999, made by station .*Fix: install that version"):
        site.restore(backup)
    assert site.tree() == before


def test_jobs_of_a_newer_station_stay_in_the_journal(site: Site) -> None:
    """Going back: the old backup comes back, what the newer station journaled is counted and left where it is."""
    backup = site.backup()
    with sqlite3.connect(site.records) as connection:
        connection.execute("UPDATE job SET state = 'closed', outcome = 'PASS', reason = '' WHERE id = 'waits'")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with SecondPlace(site.second, "bench-1", site.records):
        pass
    site.lose_everything()
    restored = site.restore(backup)
    assert (restored.jobs, restored.merged.jobs, restored.merged.newer) == (2, 0, 1)
    assert any("newer station" in note for note in restored.notes)


def test_a_damaged_backup_changes_nothing(site: Site) -> None:
    """It is read to its end before anything is moved."""
    backup = site.backup()
    raw = bytearray(backup.read_bytes())
    raw[-200] ^= 1
    backup.write_bytes(raw)
    site.lose_everything()
    before = site.tree()
    with pytest.raises(BackupFailed, match=r"damaged|not what was put in"):
        site.restore(backup)
    assert site.tree() == before


def test_another_place_for_the_records_is_asked_about(site: Site) -> None:
    """A configuration that keeps its records elsewhere than this machine's does not decide where root writes."""
    backup = site.backup()
    site.lose_everything()
    site.config.write_text(f'[station]\nstate_dir = "{site.directory / "other"}"\n')
    before = site.tree()
    with pytest.raises(ConfigurationError, match=r"keeps its records in .*write \[station\] state_dir"):
        site.restore(backup)
    assert site.tree() == before
    site.config.unlink()
    assert site.restore(backup).jobs == 2


def test_a_configuration_that_is_refused_here_stays_in_the_backup(site: Site) -> None:
    """A key that this version no longer knows costs the configuration, not the records."""
    good = site.config.read_text()
    backup = site.backup()
    site.config.write_text(good + '[flashing]\nwiring = "manual"\n')
    backup = _with_config(backup, site.config.read_bytes(), site.second / "other.tar.gz")
    site.lose_everything()
    restored = site.restore(backup)
    assert restored.jobs == 2
    assert site.config not in restored.written
    assert "wiring" not in site.config.read_text()
    assert any("is refused by this station" in note for note in restored.notes)


def _with_config(backup: Path, config: bytes, out: Path) -> Path:
    """The same backup with another configuration in it."""

    def change(sources: list[Source], work: Path) -> list[Source]:
        (work / "other.toml").write_bytes(config)
        return [
            source_of(Kind.CONFIG, source.member.name, source.member.path, work / "other.toml")
            if source.member.kind is Kind.CONFIG
            else source
            for source in sources
        ]

    return repacked(backup, out, change)


def repacked(backup: Path, out: Path, change: Callable[[list[Source], Path], list[Source]]) -> Path:
    """The same backup with other members, whole in itself: as somebody could make it who wants to do harm."""
    work = out.with_suffix(".work")
    work.mkdir()
    found = unpack(backup, work)
    sources = [Source(member=member, file=found.files[member.name]) for member in found.manifest.members]
    changed = change(sources, work)
    members = tuple(source.member for source in changed)
    pack(out, msgspec.structs.replace(found.manifest, members=members), changed)
    shutil.rmtree(work)
    return out


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Kind.STATE, "../climbed"),
        (Kind.STATE, "/climbed"),
        (Kind.STATE, "sub/climbed"),
        (Kind.STATE, ".."),
        (Kind.STATE, ""),
        (Kind.STATE, "station.db"),
        (Kind.STATE, "station.db-wal"),
        (Kind.STATE, "lock"),
        (Kind.STATE, "nul\0"),
    ],
)
def test_state_goes_nowhere_but_into_the_state_directory(site: Site, kind: Kind, path: str) -> None:
    """A backup that is whole in itself and asks for another place is refused."""

    def add(sources: list[Source], work: Path) -> list[Source]:
        (work / "harm").write_bytes(b"harm")
        return [*sources, source_of(kind, "state/harm", path, work / "harm")]

    backup = repacked(site.backup(), site.second / "hostile.tar.gz", add)
    site.lose_everything()
    before = site.tree()
    with pytest.raises(BackupFailed, match="Fix: leave this backup alone"):
        site.restore(backup)
    assert site.tree() == before
    assert b"harm" not in {path.read_bytes() for path in site.directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("path", ["{outside}/harm", "../harm", "recipes/../../harm", "linked/harm"])
def test_recipes_go_nowhere_but_beside_the_configuration(site: Site, path: str) -> None:
    """A recipe from outside the configuration's directory is put where it does no harm, and its old place is said."""
    outside = site.directory / "outside"
    outside.mkdir()
    path = path.format(outside=outside)

    def add(sources: list[Source], work: Path) -> list[Source]:
        (work / "harm").write_bytes(b"harm")
        return [*sources, source_of(Kind.RECIPE, "recipe/099-harm", path, work / "harm")]

    backup = repacked(site.backup(), site.second / "hostile.tar.gz", add)
    site.lose_everything()
    (site.etc / "linked").symlink_to(outside)
    restored = site.restore(backup)
    written = [path for path in site.directory.rglob("*") if path.is_file() and path.read_bytes() == b"harm"]
    assert written == [site.etc / "recipes" / "from-backup" / "099-harm"]
    assert any("lies outside" in note for note in restored.notes)


def test_a_link_that_waits_in_the_state_directory_is_replaced_not_followed(site: Site) -> None:
    """What the station's user may have put there does not lead root anywhere."""
    backup = site.backup()
    site.lose_everything()
    victim = site.directory / "victim"
    victim.write_text("precious")
    (site.state / "slots.json").symlink_to(victim)
    site.restore(backup)
    assert victim.read_text() == "precious"
    assert not (site.state / "slots.json").is_symlink()


def test_a_full_disk_leaves_the_old_records_in_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be prepared moves nothing."""
    backup = site.backup()
    before = site.tree()

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(restore_module, "copy_records", full)
    with pytest.raises(BackupFailed, match="No space left"):
        site.restore(backup, replace=True)
    assert site.tree() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_restores_belongs_to_the_station(site: Site) -> None:
    """The daemon's user owns the state directory, and everything that a restore by root puts there, locks included."""
    backup = site.backup()
    site.lose_everything()
    os.chown(site.state, 4242, 4343)
    site.restore(backup)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in site.state.iterdir()}
    assert set(owners) == {"station.db", "slots.json", "lock", "station.db.lock"}
    assert set(owners.values()) == {(4242, 4343)}


def test_a_backup_of_an_idle_station_brings_its_files(tmp_path: Path) -> None:
    """Without records there is still a configuration to bring back."""
    site = Site(tmp_path)
    backup = site.backup()
    site.lose_everything()
    restored = site.restore(backup)
    assert restored.jobs == 0
    assert not site.records.exists()
    assert (site.etc / "recipes" / "blink.bin").read_bytes() == b"\xe9blink"

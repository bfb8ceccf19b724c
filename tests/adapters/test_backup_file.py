"""Making a backup: everything is in it, it is read back before it counts, and older ones go only then."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from station.adapters import backup as backup_module
from station.adapters.archive import Kind, Manifest, Source, backup_name, backups_in, pack, unpack
from station.adapters.backup import BEFORE_UPGRADE_KEPT, make_backup
from station.adapters.job_journal import JobJournal, read_journal
from station.adapters.records import Database, head
from station.adapters.second_place import SecondPlace
from station.adapters.upgrading import busy, is_held
from station.config import Config, load_config
from station.errors import BackupFailed, ConfigurationError, RecordsUnwritable
from tests.adapters.records.samples import FAILED, PASSED, REQUEST, T0, board, make_lot, record, url_of

NOW = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A station with a second place, a recipe with its image, a slot map, and a recipe that nobody uses."""
    for name in ("state", "second", "recipes", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / "state" / "slots.json").write_text("{}\n")
    (tmp_path / "state" / "qualification.json").write_text("{}\n")
    for name in ("lock", "station.db.lock", "slots.new", ".hidden"):
        (tmp_path / "state" / name).write_text("not state\n")
    (tmp_path / "recipes" / "blink.toml").write_text('[firmware]\npath = "../images/blink.bin"\nsha256 = "ab"\n')
    (tmp_path / "recipes" / "other.toml").write_text('[firmware]\npath = "other.bin"\nsha256 = "ab"\n')
    (tmp_path / "recipes" / "notes.toml").write_text("title = 'no recipe'\n")
    (tmp_path / "images" / "blink.bin").write_bytes(b"\xe9" * 1000)
    (tmp_path / "recipes" / "other.bin").write_bytes(b"\xe9other")
    file = tmp_path / "station.toml"
    file.write_text(
        f'[station]\nid = "bench-1"\nstate_dir = "{tmp_path / "state"}"\n'
        f'[work]\nrecipe = "recipes/blink.toml"\n[backup]\ndirectory = "{tmp_path / "second"}"\nkeep = 2\n'
    )
    return file


@pytest.fixture
def config(config_file: Path) -> Config:
    """The same, loaded."""
    return load_config(config_file)


@pytest.fixture
def records(config: Config) -> Path:
    """Records with one board that passed."""
    file = config.state_dir / "station.db"
    with Database.open(url_of(file), now=lambda: T0) as database:
        record(database, "job-1", make_lot(database), PASSED)
    return file


def second(config: Config) -> Path:
    """The second place."""
    return Path(config.backup.directory)


def made(config: Config, file: Path | None, *, hours: float = 0, before: str = "", to: Path | None = None) -> Path:
    """Make a backup at another hour."""
    return make_backup(config, file, to=to, before=before, now=NOW + timedelta(hours=hours)).path


def test_everything_is_in_it(config: Config, config_file: Path, records: Path) -> None:
    """Records, small state, configuration, and every recipe with its image; no lock, no draft, no other TOML."""
    done = make_backup(config, config_file, to=None, before="", now=NOW)
    assert done.path == second(config) / backup_name("bench-1", NOW, done.manifest.station_version)
    assert {(member.kind, member.path) for member in done.manifest.members} == {
        (Kind.RECORDS, "station.db"),
        (Kind.STATE, "slots.json"),
        (Kind.STATE, "qualification.json"),
        (Kind.CONFIG, str(config_file)),
        (Kind.RECIPE, "recipes/blink.toml"),
        (Kind.RECIPE, "images/blink.bin"),
        (Kind.RECIPE, "recipes/other.toml"),
        (Kind.RECIPE, "recipes/other.bin"),
    }
    assert (done.jobs, done.passes, done.not_in_it) == (1, 1, ())
    assert (done.manifest.schema, done.manifest.host) == (head(), os.uname().nodename)
    assert [path.name for path in second(config).iterdir()] == [done.path.name]


def test_without_records_the_rest_is_kept(config: Config, config_file: Path) -> None:
    """A station that never started has a configuration and recipes that are worth keeping."""
    done = make_backup(config, config_file, to=None, before="", now=NOW)
    assert done.manifest.member(Kind.RECORDS) is None
    assert done.manifest.schema == ""
    assert not (config.state_dir / "station.db").exists()


def test_what_cannot_be_taken_along_is_said(config: Config, config_file: Path, records: Path, tmp_path: Path) -> None:
    """An image that is gone stops no backup of the records, and is named."""
    (tmp_path / "images" / "blink.bin").unlink()
    done = make_backup(config, config_file, to=None, before="", now=NOW)
    assert len(done.not_in_it) == 1
    assert "blink.bin" in done.not_in_it[0]
    assert done.jobs == 1


def test_what_does_not_come_back_is_no_backup(
    config: Config, config_file: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that returns other bytes than were written: no file gets the name of a backup, and no older one goes."""
    older = [made(config, config_file, hours=-hours) for hours in (9, 8)]

    def badly(draft: Path, manifest: Manifest, sources: list[Source]) -> None:
        pack(draft, manifest, sources)
        raw = bytearray(draft.read_bytes())
        raw[len(raw) // 2] ^= 0x10
        draft.write_bytes(raw)

    monkeypatch.setattr(backup_module, "pack", badly)
    with pytest.raises(BackupFailed, match=r"does not come back.*Fix: exchange this disk"):
        made(config, config_file)
    assert sorted(second(config).iterdir()) == sorted(older)


def test_another_manifest_than_was_written_is_no_backup(
    config: Config, config_file: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole archive that is not this one (a disk that lost the write and shows an old block) is noticed."""
    other = made(config, config_file, hours=-1)
    monkeypatch.setattr(backup_module, "pack", lambda draft, _manifest, _sources: shutil.copy(other, draft))
    with pytest.raises(BackupFailed, match="its manifest is another one"):
        made(config, config_file)
    assert list(second(config).iterdir()) == [other]


def test_a_full_disk_leaves_nothing_behind(
    config: Config, config_file: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence that names the place, and neither draft nor half a backup."""

    def full(draft: Path, _manifest: Manifest, _sources: list[Source]) -> None:
        draft.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(draft))

    monkeypatch.setattr(backup_module, "pack", full)
    with pytest.raises(BackupFailed, match=r"No space left.*Fix: make room"):
        made(config, config_file)
    assert list(second(config).iterdir()) == []


def test_damaged_records_make_no_backup(config: Config, config_file: Path, records: Path) -> None:
    """What is damaged is never kept as if it were whole."""
    with sqlite3.connect(records) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    raw = bytearray(records.read_bytes())
    raw[4096 * 3 : 4096 * 12] = b"\xa5" * 4096 * 9
    records.write_bytes(raw)
    with pytest.raises((RecordsUnwritable, BackupFailed), match="corrupt"):
        made(config, config_file)
    assert list(second(config).iterdir()) == []


def test_older_ones_go_and_those_before_upgrades_stay(config: Config, config_file: Path, records: Path) -> None:
    """Of plain backups `keep` stay; what an upgrade took stays for half a year; another station's is not touched."""
    stranger = second(config) / backup_name("bench-2", NOW - timedelta(days=900), "0.1.0")
    stranger.touch()
    old_upgrade = made(config, config_file, hours=-24 * (BEFORE_UPGRADE_KEPT.days + 1), before="0.0.9")
    upgrade = made(config, config_file, hours=-24 * 100, before="0.1.0")
    plain = [made(config, config_file, hours=hours) for hours in range(4)]
    assert not old_upgrade.exists()
    assert sorted(second(config).glob("station-*")) == sorted([stranger, upgrade, *plain[2:]])


def test_the_newest_is_never_deleted(config: Config, config_file: Path, records: Path) -> None:
    """Not even when the clock went back and every other backup claims to be newer."""
    for hours in (100, 101, 102):
        made(config, config_file, hours=hours)
    newest = made(config, config_file, hours=-5000)
    assert newest.exists()
    unpack(newest, Path(tempfile.mkdtemp(dir=config.state_dir)))


def test_leftovers_of_a_killed_run_go(config: Config, config_file: Path, records: Path) -> None:
    """A run that was killed leaves a hidden directory; the next one a day later takes it away."""
    left, fresh = second(config) / ".backup-dead", second(config) / ".backup-other"
    for directory in (left, fresh):
        directory.mkdir()
        (directory / "draft").write_bytes(b"half")
    os.utime(left, (0, 0))
    made(config, config_file)
    assert not left.exists()
    assert fresh.exists()


def test_the_place_has_to_be_there(config: Config, config_file: Path, records: Path, tmp_path: Path) -> None:
    """A disk that is not mounted is not made up for on the wrong one; no place at all, and a taken name, are refused."""
    second(config).rmdir()
    with pytest.raises(BackupFailed, match=r"not there.*Fix: mount it"):
        made(config, config_file)
    with pytest.raises(ConfigurationError, match=r"backup\.directory"):
        made(Config(station=config.station), config_file)
    taken = tmp_path / "taken.tar.gz"
    taken.touch()
    with pytest.raises(BackupFailed, match="exists already"):
        made(config, config_file, to=taken)


def test_a_named_file_and_a_named_directory(config: Config, config_file: Path, records: Path, tmp_path: Path) -> None:
    """`--to` takes either, and deletes nothing there."""
    assert made(config, config_file, to=tmp_path / "mine.tar.gz") == tmp_path / "mine.tar.gz"
    assert made(config, config_file, to=tmp_path).parent == tmp_path
    assert backups_in(second(config)) == ()


def test_the_journal_begins_anew_with_a_backup(config: Config, config_file: Path, records: Path) -> None:
    """What the backup holds is put aside; a job made by then goes into the new one."""
    with SecondPlace(second(config), "bench-1", records):
        pass
    made(config, config_file)
    journal = JobJournal(second(config), "bench-1")
    assert len(journal.aside()) == 1
    with Database.open(url_of(records), now=lambda: T0) as database:
        record(database, "job-2", make_lot(database), FAILED, identity=board(2))
    with SecondPlace(second(config), "bench-1", records):
        pass
    assert [getattr(line, "job", "") for line in read_journal(journal.path)] == ["", "job-2"]


def test_a_journal_with_jobs_that_the_records_lack_is_said(config: Config, config_file: Path, records: Path) -> None:
    """Records that came back without the journal's jobs: the backup is made, the journal goes on, and both are said."""
    with SecondPlace(second(config), "bench-1", records):
        pass
    records.unlink()
    with Database.open(url_of(records), now=lambda: T0) as database:
        record(database, "another", make_lot(database), PASSED)
    done = make_backup(config, config_file, to=None, before="", now=NOW)
    assert len(done.not_in_it) == 1
    assert "holds 1 jobs that the records do not" in done.not_in_it[0]
    assert done.path.exists()
    assert JobJournal(second(config), "bench-1").aside() == []


def test_an_upgrade_waits_for_boards_and_open_lots(config: Config, records: Path) -> None:
    """Not while a job runs or a lot is open by hand; a paused lot, and what a crash left, stop nobody."""
    assert busy(config, NOW) == ""
    with Database.open(url_of(records), now=lambda: T0) as database:
        lot = database.open_lot(REQUEST)
        assert "the lot 'blink' opened by station is open" in busy(config, NOW)
        database.pause_lot(lot.id, "Ada")
        assert busy(config, NOW) == ""
        record(database, "runs", lot, None, identity=board(2))
    assert "slot A3" in busy(config, T0 + timedelta(seconds=10))
    assert busy(config, T0 + timedelta(hours=1)) == ""
    assert not is_held(config.state_dir / "lock")


def test_an_upgrade_without_records_waits_for_nobody(config: Config) -> None:
    """There is nothing that could be under way."""
    assert busy(config, NOW) == ""

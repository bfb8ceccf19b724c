"""Puts a backup back: records with the jobs the journal has besides, slot map, configuration, recipes and images.

Everything is read, checked, migrated and merged in a directory of its own first; only then is anything moved. What was there
is moved aside, never deleted. Where a file goes is decided here, from the configuration of this machine; a path in a backup
only chooses among the places that a station uses.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from station.adapters.archive import Kind, Member, Unpacked, unpack
from station.adapters.backup import is_small_state
from station.adapters.host import only_daemon
from station.adapters.job_journal import JobJournal, JobLine, read_journal, sync_directory
from station.adapters.records import (
    KeptJob,
    Merged,
    StationLock,
    burn_since_backup,
    copy_records,
    database_path,
    examine,
    give_up_labels,
    head,
    knows,
    merge_jobs,
    part_spans,
    upgrade,
)
from station.config import Config, load_config
from station.errors import BackupFailed, ConfigurationError, RecordsUnwritable

_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(slots=True, kw_only=True)
class Restored:
    """What came back, and where it was put."""

    jobs: int = 0
    passes: int = 0
    merged: Merged = field(default_factory=Merged)
    """What came from the journals."""
    torn: int = 0
    """Lines of the journals that were not whole."""
    written: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    """Where the files are that stood there before."""
    notes: list[str] = field(default_factory=list)
    """What a person should know, in words."""


def restore_backup(
    backup: Path, *, config_file: Path, journals: Sequence[Path] | None, replace: bool, now: datetime
) -> Restored:
    """Put a backup in the place of what is there; `journals` None: those of its station that lie beside it.

    Raises `BackupFailed`, `RecordsUnwritable`, and `ConfigurationError` while a station runs on this state directory.
    """
    restored = Restored()
    current = _current(config_file, restored)
    with ExitStack() as stack:
        work = stack.enter_context(_work_directory(current))
        stack.enter_context(_failure_named(backup))
        unpacked = unpack(backup, _made(work / "unpacked"))
        config, is_its_own = _configuration(unpacked, current, config_file, restored)
        database = database_path(config.database_url)
        stack.enter_context(only_daemon(config.state_dir))
        lock = StationLock(database)
        stack.callback(lock.release)
        database.parent.mkdir(parents=True, exist_ok=True)
        lock.take()
        _refuse_to_cover(database, replace=replace)
        found = _journals(backup, unpacked) if journals is None else journals
        records = _prepared_records(unpacked, found, work, restored, config, now)
        places = _Places(config, config_file, now, restored)
        wanted = {Kind.STATE, Kind.RECIPE, *({Kind.CONFIG} if is_its_own else ())}
        members = [member for member in unpacked.manifest.members if member.kind in wanted]
        planned = [(one, file, places.place_of(one, file)) for one in members for file in [unpacked.files[one.name]]]
        if records is not None:
            places.put_records(records)
        for member, file, place in planned:
            places.put(member, file, place)
        for lock_file in (config.state_dir / "lock", database.with_name(f"{database.name}.lock")):
            _give(lock_file, config.state_dir)
    return restored


def _current(config_file: Path, restored: Restored) -> Config | None:
    """Return the configuration of this machine; one that cannot be read may be what is to be put right."""
    if not config_file.exists():
        return None
    try:
        return load_config(config_file)
    except ConfigurationError as error:
        restored.notes.append(f"the configuration that was here is refused: {error}")
        return None


def _configuration(
    unpacked: Unpacked, current: Config | None, config_file: Path, restored: Restored
) -> tuple[Config, bool]:
    """Return the configuration that holds from now on, and whether it is that of the backup."""
    member = unpacked.manifest.member(Kind.CONFIG)
    if member is None:
        if current is None:
            fix = "make one, or install the package; then restore again"
            raise ConfigurationError(file=str(config_file), problem="there is none, nor is one in the backup", fix=fix)
        return current, False
    try:
        archived = load_config(unpacked.files[member.name])
    except ConfigurationError as error:
        if current is None:
            raise
        restored.notes.append(f"the configuration in the backup is refused by this station and stays there: {error}")
        return current, False
    here = (current or archived).state_dir, database_path((current or archived).database_url)
    there = archived.state_dir, database_path(archived.database_url)
    if here != there:
        raise ConfigurationError(
            file=str(config_file),
            key="station.state_dir",
            problem=f"the backup's configuration keeps its records in {there[1]}, this one in {here[1]}",
            fix=f'write [station] state_dir = "{there[0]}" (and [database] url, where it had one) there first',
        )
    return archived, True


def _refuse_to_cover(database: Path, *, replace: bool) -> None:
    if replace or not database.exists():
        return
    fix = "look again; with --replace they are moved aside, never deleted"
    try:
        contents = examine(database, beside_a_station=True)
    except RecordsUnwritable as error:
        raise BackupFailed(file=str(database), problem=f"there are records, damaged ones: {error}", fix=fix) from None
    if contents.holds_work:
        problem = f"there are records with {contents.jobs} jobs, {contents.passes} of them PASS"
        raise BackupFailed(file=str(database), problem=problem, fix=fix)


def _journals(backup: Path, unpacked: Unpacked) -> list[Path]:
    return JobJournal(backup.absolute().parent, unpacked.manifest.station_id).files()


def _prepared_records(
    unpacked: Unpacked, journals: Sequence[Path], work: Path, restored: Restored, config: Config, now: datetime
) -> Path | None:
    """Return the records of the backup, of this station's schema, with every newer job of the journals."""
    member = unpacked.manifest.member(Kind.RECORDS)
    if member is None and not journals:
        return None
    schema = unpacked.manifest.schema
    if member is not None and not knows(schema):
        problem = f"its records are of the newer schema {schema}, made by station {unpacked.manifest.station_version}"
        raise BackupFailed(file="backup", problem=problem, fix=f"install that version; this one has schema {head()}")
    records = _made(work / "records") / "station.db"
    if member is not None:
        unpacked.files[member.name].rename(records)
    upgrade(f"sqlite:///{records}")
    standing = database_path(config.database_url)
    burned = burn_since_backup(records, standing=standing, station_id=config.station_id, now=now)
    if burned.numbers:
        restored.notes.append(burned.in_words())
    restored.merged = merge_jobs(records, _kept(journals, restored))
    part_spans(records)
    lost = give_up_labels(records, now)
    if lost:
        restored.notes.append(f"{lost} labels waited when the backup was made, and may be printed: station label list")
    whole = records.with_name("whole.db")
    copy_records(records, whole)
    contents = examine(whole)
    restored.jobs, restored.passes = contents.jobs, contents.passes
    if restored.merged.newer:
        restored.notes.append(
            f"{restored.merged.newer} jobs of the journal were written by a newer station: they stay there"
        )
    if restored.merged.twice:
        restored.notes.append(
            f"two boards have the same serial number, look at both: {', '.join(restored.merged.twice)}"
        )
    if restored.merged.unfit or restored.torn:
        restored.notes.append(
            f"{restored.merged.unfit + restored.torn} lines of the journal are torn or fit nowhere: left out"
        )
    return whole


def _kept(journals: Sequence[Path], restored: Restored) -> Iterator[KeptJob]:
    """Return the jobs of the journals, in the order in which they were written."""
    for journal in journals:
        for line in read_journal(journal):
            if line is None:
                restored.torn += 1
            elif isinstance(line, JobLine):
                try:
                    yield line.kept()
                except ValueError:
                    restored.torn += 1


class _Places:
    """Where things go on this machine, and what stood there before."""

    def __init__(self, config: Config, config_file: Path, now: datetime, restored: Restored) -> None:
        self._state_dir, self._database = config.state_dir, database_path(config.database_url)
        self._config_file, self._stamp, self._restored = config_file.absolute(), f"{now:{_TIME}}", restored

    def put_records(self, records: Path) -> None:
        """Put records into the place of those that are there, write-ahead log and all."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            before = self._database.with_name(self._database.name + suffix)
            if before.exists():
                self._move(before, self._aside_dir(self._database.parent) / before.name)
        self._write(records, self._database, mode=0o640)

    def place_of(self, member: Member, file: Path) -> Path:
        """Return where a member belongs; raises `BackupFailed` for what no backup of a station holds."""
        match member.kind:
            case Kind.STATE:
                name = PurePosixPath(member.path).name
                if not name or name != member.path or "\0" in name or not is_small_state(Path(name), self._database):
                    raise _never_written(member)
                return self._state_dir / name
            case Kind.CONFIG:
                return self._config_file
            case Kind.RECIPE:
                return self._place_of_recipe(member, file)
            case _:
                raise _never_written(member)

    def put(self, member: Member, file: Path, place: Path) -> None:
        """Put one file there, and another that stands there aside."""
        if place.exists() and not filecmp.cmp(file, place, shallow=False):
            aside = place.with_name(f"{place.name}.replaced-{self._stamp}")
            self._move(place, self._aside_dir(self._state_dir) / place.name if member.kind is Kind.STATE else aside)
        self._write(file, place, mode=(member.mode & 0o664) | 0o640)

    def _place_of_recipe(self, member: Member, file: Path) -> Path:
        home = self._config_file.parent
        path = PurePosixPath(member.path)
        inside = not path.is_absolute() and ".." not in path.parts and path.parts
        if inside and (home / path).parent.resolve().is_relative_to(home.resolve()):
            return home / path
        kept = home / "recipes" / "from-backup" / f"{PurePosixPath(member.name).name}"
        there = Path(member.path)
        if not (there.is_file() and filecmp.cmp(file, there, shallow=False)):
            self._restored.notes.append(
                f"{member.path} lies outside {home}: it was put into {kept}, copy it back from there"
            )
        return kept

    def _aside_dir(self, directory: Path) -> Path:
        aside = directory / f"replaced-{self._stamp}"
        if not aside.exists():
            aside.mkdir(mode=0o750)
            _give(aside, directory)
        return aside

    def _move(self, before: Path, aside: Path) -> None:
        before.rename(aside)
        self._restored.aside.append(aside)

    def _write(self, file: Path, place: Path, *, mode: int) -> None:
        """Put a copy there whole or not at all; after a loss of power there is one of the two."""
        for directory in reversed([each for each in place.parents if not each.exists()]):
            directory.mkdir(mode=0o750)
            _give(directory, directory.parent)
        handle, draft = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".draft", dir=place.parent)
        try:
            with os.fdopen(handle, "wb") as target, file.open("rb") as source:
                shutil.copyfileobj(source, target)
                os.fchmod(target.fileno(), mode)
                target.flush()
                os.fsync(target.fileno())
            _give(Path(draft), self._state_dir if place.is_relative_to(self._state_dir) else place.parent)
            Path(draft).replace(place)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        sync_directory(place.parent)
        self._restored.written.append(place)


def _never_written(member: Member) -> BackupFailed:
    problem = f"it holds {member.path!r}, which no backup of a station does"
    return BackupFailed(file=member.name, problem=problem, fix="leave this backup alone")


def _give(path: Path, like: Path) -> None:
    """What root writes belongs to whom the directory belongs to: the station's own user."""
    if os.geteuid() == 0 and path.exists():
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@contextmanager
def _work_directory(config: Config | None) -> Iterator[Path]:
    """Beside the records, where there is room for them, or where temporary files go."""
    beside = config.state_dir if config is not None and os.access(config.state_dir, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=beside) as work:
        yield Path(work)


@contextmanager
def _failure_named(backup: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        file = error.filename if isinstance(error.filename, str) else str(backup)
        fix = "run it as root or as the station's user, and make room there"
        raise BackupFailed(file=file, problem=f"cannot be used ({error.strerror or error})", fix=fix) from error

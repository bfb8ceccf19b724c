"""Makes a backup: records, slot map and other small state, configuration, recipes and images, in one file in a second place.

It may run beside the station. What was written is read back from the disk and checked whole before it gets a name that looks
like a backup, and only then older ones go; a run that is cut short leaves nothing that looks like one. It changes nothing of
what it copies.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from station.adapters.archive import (
    RECORDS,
    BackupFile,
    Kind,
    Manifest,
    Source,
    Unpacked,
    backup_name,
    backups_in,
    pack,
    source_of,
    unpack,
)
from station.adapters.host import station_version
from station.adapters.job_journal import JobJournal, sync_directory
from station.adapters.records import HIGH_WATER, copy_records, database_path, examine
from station.bundle import SUFFIX, is_bundle, recipe_files
from station.config import Config
from station.errors import BackupFailed, ConfigurationError

BEFORE_UPGRADE_KEPT = timedelta(days=180)
"""So long a backup that an upgrade took stays, whatever `backup.keep` says."""
MOST_STATE_BYTES = 4 << 20
"""A larger file in the state directory is not small state."""
_NEVER_STATE = {".lock", ".new", ".draft"}
_WORK = ".backup-"
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was read back."""

    path: Path
    manifest: Manifest
    size_bytes: int
    jobs: int
    passes: int
    deleted: tuple[Path, ...]
    """Older backups that went."""
    not_in_it: tuple[str, ...]
    """What could not be taken along, and what the journal holds that the records do not; in words."""


def make_backup(config: Config, config_file: Path | None, *, to: Path | None, before: str, now: datetime) -> Made:
    """Make a backup in `backup.directory`, or as the file or in the directory `to`; `before` is the version to come.

    Raises `ConfigurationError` without a place for it, `RecordsUnwritable` when the records cannot be read, and
    `BackupFailed`.
    """
    target = _target(config, to, before, now)
    directory = target.parent
    problems: list[str] = []
    with _failure_named(directory), _work_directory(directory) as work:
        sources = _staged(config, config_file, work, problems)
        manifest = _manifest(config, sources, now)
        draft, back = work / "draft", work / "back"
        pack(draft, manifest, sources)
        back.mkdir()
        unpacked = _read_back(draft, back, manifest)
        size_bytes = draft.stat().st_size
        _belong_to_the_place(draft, directory)
        draft.replace(target)
        sync_directory(directory)
        deleted: list[Path] = []
        if to is None:
            # The backup is there and holds: what fails from here on is said, and tried again by the next one.
            try:
                problems += _begin_journal_anew(config, target, unpacked, now)
                _delete_old(config, target, now, deleted)
            except OSError as error:
                problems.append(f"older files could not be put away ({error})")
    contents = unpacked.contents
    return Made(
        path=target,
        manifest=manifest,
        size_bytes=size_bytes,
        jobs=contents.jobs if contents else 0,
        passes=contents.passes if contents else 0,
        deleted=tuple(deleted),
        not_in_it=tuple(problems),
    )


def is_small_state(file: Path, database: Path) -> bool:
    """Whether this is a file of the state directory that a backup takes: neither records, nor lock, nor draft."""
    records = {database.name + suffix for suffix in ("", "-wal", "-shm", "-journal")}
    # How far the numbers got is never put back to what it was: see `records.after_restore`.
    records |= {"lock", HIGH_WATER}
    return not (file.name in records or file.name.startswith(".") or file.suffix in _NEVER_STATE)


def recipe_directories(config: Config, config_file: Path | None) -> tuple[Path, ...]:
    """Return where recipes lie: beside the one that is named, and in `recipes` beside the configuration."""
    named = [Path(config.work.recipe).parent] if config.work.recipe else []
    shipped = [config_file.absolute().parent / "recipes"] if config_file else []
    return tuple(dict.fromkeys(path.resolve() for path in [*named, *shipped]))


def _target(config: Config, to: Path | None, before: str, now: datetime) -> Path:
    if to is None and not config.backup.directory:
        raise ConfigurationError(
            file="configuration",
            key="backup.directory",
            problem="there is no second place for backups",
            fix="name a directory on another disk there, or give --to FILE",
        )
    target = (to or Path(config.backup.directory)).absolute()
    if target.is_dir() or to is None:
        target /= backup_name(config.station_id, now, station_version(), before)
    if not target.parent.is_dir():
        raise BackupFailed(
            file=str(target.parent),
            problem="the place for backups is not there",
            fix="mount it, or make the directory and give it to the station's user",
        )
    if to is not None and target.exists():
        raise BackupFailed(file=str(target), problem="it exists already", fix="name another file")
    return target


@contextmanager
def _work_directory(directory: Path) -> Iterator[Path]:
    """A hidden directory in the place itself, so that the last step is a rename; one that a crash left behind goes."""
    for old in directory.glob(f"{_WORK}*"):
        if time.time() - old.stat().st_mtime > _DAY_S:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=directory, ignore_cleanup_errors=True) as work:
        yield Path(work)


def _staged(config: Config, config_file: Path | None, work: Path, problems: list[str]) -> list[Source]:
    """Copy everything into the work directory: what is hashed there can no longer change."""
    database = database_path(config.database_url)
    staged: list[Source] = []

    def take(kind: Kind, file: Path, path: str) -> None:
        name = f"{kind}/{len(staged):03}-{file.name}"
        copy = work / str(len(staged))
        try:
            shutil.copyfile(file, copy)
            mode = stat.S_IMODE(file.stat().st_mode)
        except (FileNotFoundError, PermissionError) as error:
            problems.append(f"{file} is not in it ({error.strerror})")
            return
        staged.append(source_of(kind, name, path, copy, mode))

    if database.exists():
        copy_records(database, work / "records")
        staged.append(source_of(Kind.RECORDS, RECORDS, database.name, work / "records", 0o640))
    for file in _small_state(config.state_dir, database):
        take(Kind.STATE, file, file.name)
    if config_file is not None:
        take(Kind.CONFIG, config_file, str(config_file.absolute()))
    home = config_file.absolute().parent if config_file is not None else Path("/")
    for file in _recipes_and_images(config, config_file, problems):
        take(Kind.RECIPE, file, str(file.relative_to(home) if config_file and file.is_relative_to(home) else file))
    return staged


def _small_state(state_dir: Path, database: Path) -> list[Path]:
    if not state_dir.is_dir():
        return []
    return [
        file
        for file in sorted(state_dir.iterdir())
        if is_small_state(file, database)
        and stat.S_ISREG(file.lstat().st_mode)
        and file.lstat().st_size <= MOST_STATE_BYTES
    ]


def _recipes_and_images(config: Config, config_file: Path | None, problems: list[str]) -> Iterable[Path]:
    """The recipe that is named, and every recipe and bundle in the directories of recipes, with every file they name."""
    recipes = [Path(config.work.recipe).absolute()] if config.work.recipe else []
    for directory in recipe_directories(config, config_file):
        recipes += sorted((*directory.glob("*.toml"), *directory.glob(f"*{SUFFIX}"))) if directory.is_dir() else []
    found: dict[Path, None] = {}
    for recipe in dict.fromkeys(recipes):
        try:
            found |= dict.fromkeys([recipe] if is_bundle(recipe) else _files_of(recipe))
        except OSError as error:
            problems.append(f"{recipe} is not in it ({error.strerror})")
        except ConfigurationError as error:
            problems.append(f"{recipe} is in it, what it names is not ({error.problem})")
            found[recipe] = None
    return found


def _files_of(recipe: Path) -> list[Path]:
    """Return the recipe and every file it names; nothing for another TOML file that lies there."""
    try:
        named = tomllib.loads(recipe.read_text("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        pass  # said by who reads it as a recipe
    else:
        if not named.keys() & {"firmware", "image"}:
            return []
    return recipe_files(recipe)


def _manifest(config: Config, sources: list[Source], now: datetime) -> Manifest:
    records = next((source.file for source in sources if source.member.kind is Kind.RECORDS), None)
    contents = examine(records) if records else None
    return Manifest(
        station_id=config.station_id,
        station_version=station_version(),
        schema=contents.revision if contents else "",
        made_at=now.isoformat(timespec="seconds"),
        host=os.uname().nodename,
        rows=contents.rows if contents else {},
        members=tuple(source.member for source in sources),
    )


def _read_back(draft: Path, back: Path, manifest: Manifest) -> Unpacked:
    """Read what was written from the disk; raises `BackupFailed` unless every byte and every row came back."""
    try:
        unpacked = unpack(draft, back)
    except BackupFailed as error:
        problem, came_back = error.problem, None
    else:
        problem, came_back = "its manifest is another one", unpacked.manifest
    if came_back != manifest:
        raise BackupFailed(
            file=str(draft.parent.parent),
            problem=f"what was written there does not come back: {problem}",
            fix="exchange this disk, or name another backup.directory; older backups were left as they are",
        )
    return unpacked


def _delete_old(config: Config, newest: Path, now: datetime, deleted: list[Path]) -> None:
    """Delete what is beyond `keep`; never the newest, and never what an upgrade took within the last months."""
    mine = [backup for backup in backups_in(newest.parent, config.station_id) if backup.path != newest]
    plain = [backup for backup in mine if not backup.before]
    old = plain[max(0, config.backup.keep - 1) :] + [one for one in mine if one.before and _is_past(one, now)]
    for backup in old:
        backup.path.unlink(missing_ok=True)
        deleted.append(backup.path)


def _is_past(backup: BackupFile, now: datetime) -> bool:
    return now - backup.made_at > BEFORE_UPGRADE_KEPT


def _begin_journal_anew(config: Config, target: Path, unpacked: Unpacked, now: datetime) -> list[str]:
    records = unpacked.manifest.member(Kind.RECORDS)
    if records is None or unpacked.contents is None:
        return []
    journal = JobJournal(target.parent, config.station_id)
    copy = unpacked.files[records.name]
    behind = journal.begin_anew(target.name, copy, unpacked.contents, now, config.backup.keep)
    if not behind:
        return []
    return [f"{journal.path} holds {behind} jobs that the records do not: it goes on (station restore merges it)"]


def _belong_to_the_place(file: Path, directory: Path) -> None:
    """What root writes belongs to whom the place belongs to, so that the station's own user can delete it."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(file, owner.st_uid, owner.st_gid)


@contextmanager
def _failure_named(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupFailed(
            file=error.filename if isinstance(error.filename, str) else str(directory),
            problem=f"the backup could not be written ({error.strerror or error})",
            fix=f"make room in {directory}, or let the station's user write there",
        ) from error

"""One backup: a tar.gz whose first member, the manifest, names every other one with size and sha256.

`pack` writes one and `unpack` reads one, whole or not at all: nothing of it is believed before its sums hold and the records
in it are undamaged with the rows that were counted. Members are read by the names in the manifest into numbered files of a
directory of ours; a name in an archive is never a path here. What goes where is decided by who unpacks.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO

import msgspec

from station.adapters.job_journal import file_word
from station.adapters.records import Contents, examine
from station.errors import BackupFailed, RecordsUnwritable

FORMAT = 1
MANIFEST = "manifest.json"
RECORDS = "records/station.db"
MOST_MANIFEST_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"station-(?P<station>.+)-(?P<at>\d{8}T\d{6}Z)-v(?P<version>.+?)(-before-(?P<before>.+))?\.tar\.gz")
_ANOTHER = "take another backup (station backup verify FILE says whether one holds)"


class Kind(StrEnum):
    """What a member is, and so where it belongs."""

    RECORDS = "records"
    STATE = "state"
    """A small file of the state directory; its path is relative to that."""
    CONFIG = "config"
    RECIPE = "recipe"
    """A recipe or its image; its path is relative to the configuration's directory, or absolute when it lies outside."""


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of a backup."""

    name: str
    """In the archive."""
    kind: Kind
    path: str
    """Where it came from; see `Kind`."""
    sha256: str
    size_bytes: int
    mode: int = 0o644
    """Permission bits."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup says of itself."""

    format: int = FORMAT
    station_id: str
    station_version: str
    schema: str
    """Revision of the records in it; empty when there were none."""
    made_at: str
    """UTC, ISO 8601."""
    host: str
    rows: dict[str, int]
    """Table -> rows, as counted in the copy before it was packed."""
    members: tuple[Member, ...]

    def member(self, kind: Kind) -> Member | None:
        """Return the first member of a kind."""
        return next((member for member in self.members if member.kind is kind), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that shall go into a backup."""

    member: Member
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A backup that holds, as files of ours."""

    manifest: Manifest
    files: dict[str, Path]
    """Member -> file."""
    contents: Contents | None
    """What the records in it hold; None when there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFile:
    """A backup by its name; nothing of it was read."""

    path: Path
    made_at: datetime
    station: str
    """The station's id as it stands in file names."""
    version: str
    before: str
    """The version it was made for the upgrade to; empty for every other backup."""


def backup_name(station_id: str, made_at: datetime, version: str, before: str = "") -> str:
    """Return the file name of a backup."""
    upgrade = f"-before-{file_word(before)}" if before else ""
    return f"station-{file_word(station_id)}-{made_at.astimezone(UTC):{_TIME}}-v{file_word(version)}{upgrade}.tar.gz"


def backups_in(directory: Path, station_id: str | None = None) -> tuple[BackupFile, ...]:
    """Return the backups there by their names, newest first; of one station, or of all. Raises OSError."""
    named = ((path, _NAME.fullmatch(path.name)) for path in directory.iterdir())
    found = [_backup_file(path, match) for path, match in named if match is not None]
    mine = [backup for backup in found if station_id is None or backup.station == file_word(station_id)]
    return tuple(sorted(mine, key=lambda backup: (backup.made_at, backup.path.name), reverse=True))


def newest_backup(directory: Path, station_id: str | None = None) -> BackupFile | None:
    """Return the newest backup by its name; None when there is none, or the directory cannot be read."""
    try:
        return next(iter(backups_in(directory, station_id)), None)
    except OSError:
        return None


def source_of(kind: Kind, name: str, path: str, file: Path, mode: int = 0o644) -> Source:
    """Return a file of ours, as it will stand in the manifest; raises OSError."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        size = content.tell()
    member = Member(name=name, kind=kind, path=path, sha256=digest, size_bytes=size, mode=mode & 0o777)
    return Source(member=member, file=file)


def pack(draft: Path, manifest: Manifest, sources: Sequence[Source]) -> None:
    """Write a backup into the new file `draft`, sync it, and have the next reader read the disk; raises OSError."""
    made_at = datetime.fromisoformat(manifest.made_at).timestamp()
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    with os.fdopen(handle, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT) as archive:
            content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
            archive.addfile(_info(MANIFEST, len(content), made_at), io.BytesIO(content))
            for source in sources:
                with source.file.open("rb") as opened:
                    archive.addfile(_info(source.member.name, source.member.size_bytes, made_at), opened)
        file.flush()
        os.fsync(file.fileno())
        # What is read back shall come from the medium, not from memory; a filesystem that cannot do that ignores it.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def unpack(backup: Path, into: Path) -> Unpacked:
    """Read a backup into numbered files of the empty directory `into`, and check all of it.

    Raises `BackupFailed` for one that does not hold, OSError when there is no room.
    """
    with _damage_named(backup), tarfile.open(backup, mode="r|gz") as archive:
        manifest = _manifest(archive, backup)
        wanted = {member.name: member for member in manifest.members}
        if len(wanted) != len(manifest.members) or MANIFEST in wanted:
            raise _damaged(backup, "its manifest names a member twice")
        files: dict[str, Path] = {}
        for info in iter(archive.next, None):
            member = wanted.get(info.name)
            if member is None or info.name in files or not info.isreg():
                raise _damaged(backup, f"{info.name!r} is in it, and not in its manifest")
            content = archive.extractfile(info)
            files[info.name] = into / str(len(files))
            _read_member(backup, member, content, files[info.name])
    missing = sorted(set(wanted) - set(files))
    if missing:
        raise _damaged(backup, f"{missing[0]} is not in it")
    return Unpacked(manifest=manifest, files=files, contents=_checked_records(backup, manifest, files))


def _backup_file(path: Path, match: re.Match[str]) -> BackupFile:
    made_at = datetime.strptime(match["at"], _TIME).replace(tzinfo=UTC)
    return BackupFile(
        path=path, made_at=made_at, station=match["station"], version=match["version"], before=match["before"] or ""
    )


def _info(name: str, size_bytes: int, made_at: float) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size_bytes, int(made_at), 0o640
    return info


def _manifest(archive: tarfile.TarFile, backup: Path) -> Manifest:
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MOST_MANIFEST_BYTES:
        raise _damaged(backup, "its first member is no manifest: it is not a backup of a station")
    content = archive.extractfile(first)
    raw = content.read() if content is not None else b""
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise _damaged(backup, f"its manifest cannot be read ({error})") from None
    if manifest.format != FORMAT:
        problem = (
            f"its format is {manifest.format}, made by station {manifest.station_version}; this one reads {FORMAT}"
        )
        raise BackupFailed(file=str(backup), problem=problem, fix="install the station that made it")
    return manifest


def _read_member(backup: Path, member: Member, content: IO[bytes] | None, into: Path) -> None:
    digest, size = hashlib.sha256(), 0
    with into.open("xb") as file:
        while content is not None and (chunk := content.read(_CHUNK_BYTES)):
            size += len(chunk)
            if size > member.size_bytes:
                break
            digest.update(chunk)
            file.write(chunk)
    if size != member.size_bytes or digest.hexdigest() != member.sha256:
        raise _damaged(backup, f"{member.name} is not what was put in")


def _checked_records(backup: Path, manifest: Manifest, files: dict[str, Path]) -> Contents | None:
    records = manifest.member(Kind.RECORDS)
    if records is None:
        return None
    try:
        contents = examine(files[records.name])
    except RecordsUnwritable as error:
        raise _damaged(backup, f"the records in it do not hold: {error}") from None
    if contents.rows != manifest.rows or contents.revision != manifest.schema:
        raise _damaged(backup, "the records in it do not have the rows that were counted")
    return contents


def _damaged(backup: Path, problem: str) -> BackupFailed:
    return BackupFailed(file=str(backup), problem=problem, fix=_ANOTHER)


@contextmanager
def _damage_named(backup: Path) -> Iterator[None]:
    """Turn what a damaged or foreign file makes the reader say into `BackupFailed`."""
    try:
        yield
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise _damaged(backup, f"it is damaged, or no backup ({error})") from None
    except TypeError:
        # tarfile takes the code of a character that is not there, where gzip's header is cut off.
        raise _damaged(backup, "it is damaged, or no backup (its header is cut off)") from None
    except OSError as error:
        # gzip says of a damaged file what has no error number.
        if error.errno is not None:
            raise
        raise _damaged(backup, f"it is damaged, or no backup ({error})") from None

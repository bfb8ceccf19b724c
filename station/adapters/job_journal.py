"""The journal of finished jobs in the second place: one line per job, with every row that the records have of it.

A line carries the sha256 of its own content, so that one torn by a power cut is noticed and left out, never half believed.
Lines are only ever appended, each in one write, and synced. After a backup that holds all of its jobs the journal begins
anew with a line that says what that backup covers. Nothing here decides about green.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from station.adapters.records import Contents, JobMark, KeptJob, as_json, from_json, job_marks

FORMAT = 1
MOST_LINE_BYTES = 16 << 20
_HEAD, _MIDDLE, _TAIL = b'{"sha256":"', b'","said":', b"}"
_DIGEST = slice(len(_HEAD), len(_HEAD) + 64)
_CONTENT = slice(_DIGEST.stop + len(_MIDDLE), -len(_TAIL))
_TIME = "%Y%m%dT%H%M%SZ"


class JobLine(msgspec.Struct, frozen=True, kw_only=True, tag="job", tag_field="kind"):
    """One job as the records had it at that moment; a job that waits gets another line when it is closed."""

    format: int = FORMAT
    station: str
    schema: str
    """Revision of the schema that the rows are of."""
    job: str
    version: str
    """`JobMark.version`."""
    outcome: str
    at: str
    """UTC, ISO 8601."""
    rows: dict[str, list[dict[str, object]]]
    """Table -> rows as stored; bytes are `{"base64": "…"}`."""

    def kept(self) -> KeptJob:
        """Return the job; raises ValueError for rows that no station wrote."""
        return KeptJob(revision=self.schema, rows=from_json(self.rows))


class BegunLine(msgspec.Struct, frozen=True, kw_only=True, tag="begun", tag_field="kind"):
    """The journal began anew after this backup, which holds all jobs up to `through`."""

    format: int = FORMAT
    backup: str
    through: int
    """`sequence` of the newest job in it."""
    through_job: str
    unfinished: dict[str, str]
    """Job -> version, of the jobs in it that are not closed."""


@dataclass(slots=True, kw_only=True)
class Covered:
    """Which jobs are in the second place already: all up to `through` but the unfinished, and those that are named."""

    through: int = 0
    through_job: str = ""
    unfinished: dict[str, str] = field(default_factory=dict)
    """Job -> version that is there; empty when none is."""
    named: dict[str, str] = field(default_factory=dict)
    """Job -> version."""

    def missing(self, mark: JobMark) -> bool:
        """Whether this job is finished and not there that far."""
        return mark.state != "running" and mark.version not in (self.unfinished.get(mark.id), self.named.get(mark.id))


def file_word(text: str) -> str:
    """Return a station's name or a version as it stands in file names."""
    return re.sub(r"[^A-Za-z0-9._+~-]", "_", text) or "_"


class JobJournal:
    """The journal of one station. Every method raises OSError; used from one thread."""

    def __init__(self, directory: Path, station_id: str) -> None:
        self._directory, self._name = directory, f"jobs-{file_word(station_id)}"
        self.path = directory / f"{self._name}.jsonl"

    def identity(self) -> tuple[int, int] | None:
        """Return device and inode of the journal, None when there is none: whether it is still the same file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def append(self, lines: Sequence[JobLine | BegunLine]) -> None:
        """Append lines behind what is there, and sync them; a line that was torn before stays alone."""
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(handle).st_size
            data = b"".join(map(encoded, lines))
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data
            if os.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(handle)
        finally:
            os.close(handle)
        if not size:
            sync_directory(self._directory)

    def covered(self, records: Path) -> Covered:
        """Return which jobs are here or in the backup that the journal began with; raises `RecordsUnwritable`.

        What is said about other records than these counts for nothing.
        """
        covered = Covered()
        # A station may still have written into the journal while it was put aside.
        for file in [*self.aside()[-1:], self.path]:
            for line in read_journal(file) if file.exists() else ():
                match line:
                    case JobLine():
                        covered.named[line.job] = line.version
                    case BegunLine() if line.through >= covered.through:
                        covered.through, covered.through_job = line.through, line.through_job
                        covered.unfinished = dict(line.unfinished)
                    case _:
                        pass
        ours = job_marks(records, ids=[covered.through_job])
        if [mark.sequence for mark in ours] != [covered.through]:
            covered.through, covered.through_job, covered.unfinished = 0, "", {}
        return covered

    def begin_anew(self, backup: str, copy: Path, contents: Contents, now: datetime, keep: int) -> int:
        """Put the journal aside and begin it anew, if `copy`, the records in `backup`, holds every job in it.

        Return how many jobs it holds that the copy does not; then it goes on. Of those put aside, `keep` stay.
        """
        if not self.path.exists():
            return 0
        said = {line.job: line.version for line in read_journal(self.path) if isinstance(line, JobLine)}
        found = {mark.id: mark for mark in job_marks(copy, ids=list(said))}
        behind = [job for job, version in said.items() if job not in found or _is_before(found[job].version, version)]
        if behind or not said:
            return len(behind)
        before = self.path.stat()
        self.path.rename(self._directory / f"{self._name}-until-{now:{_TIME}}.jsonl")
        newest = contents.newest
        line = BegunLine(
            backup=backup,
            through=newest.sequence if newest else 0,
            through_job=newest.id if newest else "",
            unfinished={mark.id: "" if mark.state == "running" else mark.version for mark in contents.unfinished},
        )
        self.append([line])
        if os.geteuid() == 0:
            os.chown(self.path, before.st_uid, before.st_gid)
        for old in self.aside()[:-keep]:
            old.unlink()
        return 0

    def aside(self) -> list[Path]:
        """Return the journals that were put aside, oldest first."""
        name = re.compile(re.escape(self._name) + r"-until-\d{8}T\d{6}Z\.jsonl")
        return sorted(path for path in self._directory.iterdir() if name.fullmatch(path.name))

    def files(self) -> list[Path]:
        """Return every journal of this station that is there, oldest first."""
        return [*self.aside(), *([self.path] if self.path.exists() else [])]


def read_journal(file: Path) -> Iterator[JobLine | BegunLine | None]:
    """Return the lines of a journal, None for one that is torn or damaged; raises OSError."""
    with file.open("rb") as lines:
        while raw := lines.readline(MOST_LINE_BYTES):
            if raw.strip():
                yield decoded(raw.rstrip(b"\r\n"))


def encoded(line: JobLine | BegunLine) -> bytes:
    """Return a line as it stands in the file, its end included."""
    content = msgspec.json.encode(line)
    return _HEAD + hashlib.sha256(content).hexdigest().encode() + _MIDDLE + content + _TAIL + b"\n"


def decoded(raw: bytes) -> JobLine | BegunLine | None:
    """Return what a line says, None unless it is whole."""
    content = raw[_CONTENT]
    if hashlib.sha256(content).hexdigest().encode() != raw[_DIGEST]:
        return None
    try:
        return msgspec.json.decode(content, type=JobLine | BegunLine)
    except msgspec.DecodeError:
        return None


def line_of(station_id: str, kept: KeptJob, now: datetime) -> JobLine:
    """Return the line of a job."""
    mark = JobMark.of(kept.rows["job"][0])
    return JobLine(
        station=station_id,
        schema=kept.revision,
        job=mark.id,
        version=mark.version,
        outcome=mark.outcome,
        at=now.isoformat(timespec="seconds"),
        rows=as_json(kept.rows),
    )


def sync_directory(directory: Path) -> None:
    """Make names that were given or taken in a directory last; a share that cannot do that is left alone."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _is_before(version: str, other: str) -> bool:
    """Whether a job is less far at `version` than at `other`: closed is further than pending, then later is further."""
    return (version.startswith("closed"), version) < (other.startswith("closed"), other)

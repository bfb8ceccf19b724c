"""What the running station does in the second place: it appends every finished job to the journal, and looks at the backups.

All of it happens in one thread of its own, so that a share that hangs, is full or is gone costs that thread and nothing
else: no job, no light and no commit ever waits for it. The journal follows the records, not the jobs of this process: what a
command beside the station finishes, and what a crash left out, is appended too. What could not be appended is tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from station.adapters.archive import BackupFile, newest_backup
from station.adapters.job_journal import Covered, JobJournal, line_of
from station.adapters.records import job_marks, kept_jobs, utc_now
from station.errors import RecordsUnwritable

LOOK_S = 10.0
"""Jobs that were finished elsewhere, and what could not be appended, are looked for so often."""
CLOSE_S = 5.0
"""So long the end of the station waits for the last lines."""
_AT_ONCE = 32
log = structlog.get_logger()


class SecondPlace:
    """The second place of one station, from the start of the context to its end."""

    def __init__(
        self,
        directory: Path,
        station_id: str,
        records: Path,
        *,
        now: Callable[[], datetime] = utc_now,
        look_s: float = LOOK_S,
    ) -> None:
        self._directory, self._station_id, self._records = directory, station_id, records
        self._now, self._look_s = now, look_s
        self._journal = JobJournal(directory, station_id)
        self._identity: tuple[int, int] | None = None
        self._covered: Covered | None = None
        self._owed: set[str] = set()
        self._newest: BackupFile | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._problem = ""
        # No executor: the end of the program would wait for a thread that hangs.
        self._thread = threading.Thread(target=self._run, name="second-place", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_S)
        if self.behind():
            log.error("journal.incomplete", jobs=self.behind(), directory=str(self._directory))

    def finished(self, job_id: str) -> None:
        """A job is on record: append it as soon as may be. Returns at once; called from any thread."""
        with self._lock:
            self._owed.add(job_id)
        self._wake.set()

    def behind(self) -> int:
        """Return how many finished jobs are not in the journal yet, as far as is known."""
        with self._lock:
            return len(self._owed)

    def backup_age_s(self) -> float:
        """Return the age of the newest backup; infinite when there is none."""
        newest = self._newest
        return float("inf") if newest is None else max(0.0, (self._now() - newest.made_at).total_seconds())

    def look(self) -> None:
        """Append what the journal does not have yet, and look for the newest backup. In the thread of the second place."""
        with self._lock:
            asked = set(self._owed)
        try:
            self._newest = newest_backup(self._directory, self._station_id)
            self._append_missing()
        except (OSError, RecordsUnwritable) as error:
            self._covered = None
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("journal.behind", jobs=self.behind(), problem=self._problem)  # noqa: TRY400 - no traceback
            return
        with self._lock:
            self._owed -= asked
        if self._problem:
            self._problem = ""
            log.info("journal.caught_up", directory=str(self._directory))

    def _run(self) -> None:
        while True:
            closing = self._closing
            self.look()
            if closing:
                return
            self._wake.wait(self._look_s)
            self._wake.clear()

    def _append_missing(self) -> None:
        identity = self._journal.identity()
        if self._covered is None or identity is None or identity != self._identity:
            # Begun anew by a backup, or another disk.
            self._covered = self._journal.covered(self._records)
        covered = self._covered
        marks = job_marks(self._records, after=covered.through, ids=list(covered.unfinished))
        missing = [mark.id for mark in marks if covered.missing(mark)]
        with self._lock:
            self._owed |= set(missing)
        for first in range(0, len(missing), _AT_ONCE):
            batch = missing[first : first + _AT_ONCE]
            kept = kept_jobs(self._records, batch)
            self._journal.append([line_of(self._station_id, job, self._now()) for job in kept])
            with self._lock:
                self._owed -= set(batch)
        for mark in marks:
            covered.unfinished.pop(mark.id, None)
            if mark.state != "closed":
                covered.unfinished[mark.id] = "" if mark.state == "running" else mark.version
            covered.through = max(covered.through, mark.sequence)
        covered.named.clear()
        self._identity = self._journal.identity()

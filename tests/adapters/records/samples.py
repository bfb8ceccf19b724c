"""Rows to put into the records, and a database that fails where a test says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from station.adapters.records import BoardEvent, BoardEventRow, Database, LotRequest, RecipeRow, make_engine
from station.model import (
    BootEvidence,
    FlashChip,
    HostFacts,
    Identity,
    JobEnd,
    JobStart,
    JobState,
    Lot,
    Measurement,
    Outcome,
    Phase,
    PhaseOutcome,
    PhaseRecord,
    Plug,
    Programmer,
    VisitEnd,
)

T0 = datetime(2025, 11, 22, 8, 2, 0, 123456, tzinfo=UTC)
RECIPE = RecipeRow(
    hash="ab" * 32,
    name="blink",
    version="1",
    text='{"name":"blink"}',
    firmware_sha256="cd" * 32,
    firmware_version="1.27.0",
    firmware_size_bytes=633_688,
)
REQUEST = LotRequest(recipe_hash=RECIPE.hash, product="blink", person="station", supplier_batch="B-7")
HOST = HostFacts(
    station_id="bench-1",
    station_version="0.1.0",
    esptool_version="5.6.0",
    kernel_version="6.1.0-31-amd64",
    boot_id="5a1e0c2e-8f5e-4b0e-9c0e-2f6d1f4b7a11",
    clock_synchronised=True,
)
# MAC 18:fe:34:dd:c1:42, chip ID 0x00ddc142 (identity.md §1.2), with the OTP's selector byte 00.
WORDS = (0x42000000, 0x0000DDC1, 0x0, 0x0018FE34)
BOARD = Identity(mac="18:fe:34:dd:c1:42", chip_id=0xDDC142, otp_words=WORDS)
FLASH = FlashChip(jedec_id=0x1440E0, size_bytes=1 << 20)
PLUG = Plug(
    slot="A3",
    number=1,
    programmer=Programmer(
        place="pci-0000:00:14.0-usb-0:2.3:1.0",
        node="/dev/ttyUSB3",
        sysfs_path="/sys/devices/x",
        generation="1-2.3/17",
        usb_id="1a86:7523",
        adapter_version="0262",
        product="USB2.0-Serial",
        hub_path="2.3",
    ),
)


def url_of(file: Path) -> str:
    """The URL of a database file."""
    return f"sqlite:///{file}"


def board(number: int, oui: str = "18:fe:34") -> Identity:
    """Another board, by a number below 2**24."""
    tail = ":".join(f"{byte:02x}" for byte in number.to_bytes(3, "big"))
    words = ((number & 0xFF) << 24, number >> 8, 0, int(oui.replace(":", ""), 16))
    return Identity(mac=f"{oui}:{tail}", chip_id=number, otp_words=words)


def start_of(job_id: str, lot: Lot, **changes: Any) -> JobStart:
    """A job's beginning; its visit is called `visit-JOB`."""
    identity = changes.get("identity", BOARD)
    values = {
        "id": job_id,
        "visit_id": f"visit-{job_id}",
        "started_at": T0,
        "plug": PLUG,
        "lot": lot,
        "identity": identity,
        "observed_mac": identity.mac if identity else "ff:ff:ff:ff:ff:ff",
        "flash": FLASH,
        "firmware_sha256": RECIPE.firmware_sha256,
        "operator": "Ada",
        "host": HOST,
        "attempt": 1,
    }
    return JobStart(**{**values, **changes})


PASSED = JobEnd(
    state=JobState.CLOSED,
    outcome=Outcome.PASS,
    reason="",
    detail="",
    ended_at=T0 + timedelta(seconds=21),
    duration_s=21.25,
    phases=(
        PhaseRecord(phase=Phase.CONNECT, outcome=PhaseOutcome.PASS, duration_s=0.5),
        PhaseRecord(phase=Phase.FLASH, outcome=PhaseOutcome.PASS, duration_s=12.125, detail="460800 baud"),
        PhaseRecord(phase=Phase.PROVISION, outcome=PhaseOutcome.SKIPPED, duration_s=0.0),
    ),
    measurements=(
        Measurement(name="firmware_version", value="1.27.0", low="1.27.0", high="1.27.0"),
        Measurement(name="cpu_frequency", value=80_000_000, unit="Hz", low=80_000_000, high=160_000_000),
        Measurement(name="boot_to_prompt", value=2.5, unit="s", high=40.0),
        Measurement(name="check_fw", value=True),
        Measurement(name="nothing", value=None),
    ),
    baud_used=460_800,
    baud_fallbacks=0,
    boot_evidence=BootEvidence.RESET_LINE,
    flash_touched=True,
    flash_mode="dout",
    bytes_flashed=633_688,
    transcript=b"",
)
FAILED = replace(
    PASSED,
    outcome=Outcome.FAIL,
    reason="no_boot",
    detail="silence",
    measurements=(),
    boot_evidence=None,
    transcript=b"\x00\xffets Jan  8 2013",
)
PENDING = replace(
    PASSED, state=JobState.PENDING, outcome=None, reason="awaits_run_mode", measurements=(), boot_evidence=None
)
VISIT_END = VisitEnd(ended_at=T0 + timedelta(seconds=30), job_id="job-1", finding="", detail="")


def make_lot(database: Database) -> Lot:
    """The lot of the sample recipe, standing."""
    database.ensure_recipe(RECIPE)
    return database.standing_lot(REQUEST)


def record(database: Database, job_id: str, lot: Lot, end: JobEnd | None, **changes: Any) -> None:
    """One visit with one job, from plug to end; without an end the job is left running."""
    start = start_of(job_id, lot, **changes)
    database.begin_visit(start.visit_id, start.plug)
    database.begin_job(start)
    if end is not None:
        database.finish_job(job_id, end)
        database.end_visit(start.visit_id, replace(VISIT_END, job_id=job_id))


def event_of(event: BoardEvent, event_id: str = "event-1", **changes: Any) -> BoardEventRow:
    """What Ada says about the sample board."""
    values = {"id": event_id, "mac": BOARD.mac, "event": event, "person": "Ada", "reason": "shift change"}
    return BoardEventRow(**{**values, **changes})


def rows_of(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the file, as the plain driver sees it."""
    connection = sqlite3.connect(file)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}  # noqa: S608
    finally:
        connection.close()


class Fault:
    """Fails the N-th operation of every connection made by `factory`: before it happens, or after it has."""

    def __init__(self) -> None:
        self.count = 0
        self.at: int | None = None
        self.after = False

    def arm(self, at: int | None, *, after: bool = False) -> None:
        """Count from now on, and fail at operation `at` (from 1), or never."""
        self.count, self.at, self.after = 0, at, after

    def step(self, do: Callable[[], Any]) -> Any:
        """Do one operation, or fail."""
        self.count += 1
        if self.count == self.at and not self.after:
            raise sqlite3.OperationalError("database or disk is full")
        result = do()
        if self.count == self.at:
            raise sqlite3.OperationalError("disk I/O error")
        return result

    @property
    def factory(self) -> type[sqlite3.Connection]:
        """The connection class to open the database with."""
        fault = self

        class Cursor(sqlite3.Cursor):
            def execute(self, *arguments: Any) -> Any:
                return fault.step(lambda: super(Cursor, self).execute(*arguments))

            def executemany(self, *arguments: Any) -> Any:
                return fault.step(lambda: super(Cursor, self).executemany(*arguments))

        class Connection(sqlite3.Connection):
            def cursor(self, *_factory: Any) -> Any:
                return super().cursor(Cursor)

            def commit(self) -> None:
                fault.step(super().commit)

        return Connection


def database_with(fault: Fault, file: Path) -> Database:
    """The records in `file`, on connections that fail as `fault` says."""
    url = url_of(file)
    engines = (
        make_engine(url, writes=True, factory=fault.factory),
        make_engine(url, writes=False, factory=fault.factory),
    )
    return Database(*engines, station_id="bench-1", now=lambda: T0)

"""The nouns of the station: places, plugs, boards, jobs and what became of them.

Everything here is frozen data without behaviour beyond formatting itself. It imports nothing of the station and has no
effects. What each word means is fixed in `docs/architecture.md`; units stand in the names. Chip ID arithmetic follows
esptool 5.6 `targets/esp8266.py` and MicroPython `ports/esp8266/modmachine.c` (see `chip_id_*`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Phase(StrEnum):
    """The phases of a job, in the order in which they run."""

    CONNECT = "CONNECT"
    FLASH = "FLASH"
    VERIFY = "VERIFY"
    BOOT = "BOOT"
    PROVISION = "PROVISION"
    SELF_TEST = "SELF_TEST"


class Outcome(StrEnum):
    """How a job ended: FAIL blames the board, ERROR the station or nobody yet, ABORTED a hand."""

    PASS = "PASS"
    FAIL = "FAIL"
    ERROR = "ERROR"
    ABORTED = "ABORTED"


class PhaseOutcome(StrEnum):
    """How a phase ended; SKIPPED phases had nothing to do and are never evidence of anything."""

    PASS = "PASS"
    FAIL = "FAIL"
    ERROR = "ERROR"
    ABORTED = "ABORTED"
    SKIPPED = "SKIPPED"


class JobState(StrEnum):
    """A job runs, waits for another visit, or is closed with an outcome."""

    RUNNING = "running"
    PENDING = "pending"
    CLOSED = "closed"


class Tray(StrEnum):
    """Where the operator's hand puts the board."""

    GOOD = "GOOD"
    BAD = "BAD"
    AGAIN = "AGAIN"
    CALL = "CALL"
    NONE = "-"


class Light(StrEnum):
    """What the operator sees from three metres."""

    EMPTY = "EMPTY"
    BUSY = "BUSY"
    ACTION = "ACTION"
    PASS = "PASS"
    FAIL = "FAIL"
    FAULT = "FAULT"


class BootEvidence(StrEnum):
    """By what the firmware was brought up before it was tested, weakest first."""

    SOFT = "soft"
    RESET_LINE = "reset_line"
    COLD = "cold"


class Answer(StrEnum):
    """Who answers at the other end of a line, found out without changing anything there."""

    LOADER = "loader"
    FIRMWARE = "firmware"
    ECHO = "echo"
    NOISE = "noise"
    """Bytes that are none of these."""
    NOTHING = "nothing"


class BootInto(StrEnum):
    """What a reset by the lines shall start."""

    LOADER = "loader"
    FIRMWARE = "firmware"


class StopCause(StrEnum):
    """Why a job's line was taken away from it."""

    UNPLUGGED = "unplugged"
    SHUTDOWN = "shutdown"
    DEADLINE = "deadline"


class LotState(StrEnum):
    """The life of a lot; only an open one gives jobs a reason to run."""

    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Programmer:
    """An attached USB-serial adapter, as sysfs and udev describe it at one moment."""

    place: str
    """USB topology: udev's ID_PATH, with `:N` appended on an adapter with several ports."""
    node: str
    """The tty of this one attach, e.g. `/dev/ttyUSB3`; never an identity."""
    sysfs_path: str
    generation: str
    """Differs between any two attaches, even of the same adapter in the same place."""
    usb_id: str = ""
    """`vendor:product`, four lower-case hex digits each."""
    adapter_version: str = ""
    """bcdDevice, e.g. `0262`."""
    product: str = ""
    hub_path: str = ""
    """The short hub chain for people, e.g. `2.3`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plug:
    """One attach of a programmer to a slot."""

    slot: str
    programmer: Programmer
    number: int
    """Counts the plugs of this slot since the station started, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashChip:
    """The SPI flash as it identified itself."""

    jedec_id: int
    """The RDID word as esptool and `esp.flash_id()` give it: vendor in the low byte, 24 bits."""
    size_bytes: int | None
    """None when the id names no size."""

    @property
    def vendor(self) -> int:
        """The JEDEC manufacturer byte."""
        return self.jedec_id & 0xFF

    def __str__(self) -> str:
        return f"{self.jedec_id:06x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a board is, read from its OTP words in download mode."""

    mac: str
    """Six lower-case hex pairs with colons: the factory station MAC, the key of a board."""
    chip_id: int
    """24 bits, the lower half of the MAC; an attribute, never assumed unique."""
    otp_words: tuple[int, int, int, int] | None
    """The raw words at 0x3FF00050, 54, 58 and 5C; None where only a running firmware told who it is."""


def format_mac(mac: bytes) -> str:
    """Return `mac` (6 bytes, network order) as lower-case hex pairs with colons."""
    return ":".join(f"{byte:02x}" for byte in mac)


def format_chip_id(chip_id: int) -> str:
    """Return the 24-bit chip ID the way esptool prints it, e.g. `0x00ddc142`."""
    return f"{chip_id:#010x}"


def chip_id_from_mac(mac: str) -> int:
    """Return the 24-bit chip ID that belongs to `mac` (`xx:xx:xx:xx:xx:xx`)."""
    return int(mac.replace(":", "")[6:], 16)


def chip_id_from_unique_id(unique_id: bytes) -> int:
    """Return the 24-bit chip ID from MicroPython's `machine.unique_id()` (4 bytes, little-endian)."""
    if len(unique_id) != 4:  # noqa: PLR2004 - the SDK's system_get_chip_id() is one 32-bit word
        raise ValueError(f"machine.unique_id() has {len(unique_id)} bytes, expected 4")
    return int.from_bytes(unique_id, "little") & 0xFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """What one look at a line showed."""

    answer: Answer
    mac: str = ""
    """Of the board whose loader answers; empty for any other answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One value that was measured, and whether it lies within its limits."""

    name: str
    value: float | int | str | bool | None
    unit: str = ""
    low: float | int | str | None = None
    high: float | int | str | None = None
    within: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRecord:
    """One phase of one job: how it ended and how long it took by the monotonic clock."""

    phase: Phase
    outcome: PhaseOutcome
    duration_s: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What every job records about the machine and the software it ran on."""

    station_id: str
    station_version: str
    esptool_version: str
    kernel_version: str
    boot_id: str
    clock_synchronised: bool | None
    """None where the machine does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """The work order being produced."""

    id: str
    recipe_hash: str
    product: str
    person: str
    state: LotState
    standing: bool
    """Opened by the station itself from the one configured recipe, not by a person."""
    supplier_batch: str = ""


class BoardMark(StrEnum):
    """What a person said about a board; a marked board is never flashed by itself."""

    GOLDEN = "golden"
    """Known good: proves that a slot judges good boards good."""
    RED = "red"
    """Known bad: proves that a slot judges bad boards bad."""
    RETURNED = "returned"
    """Came back from the customer."""
    SCRAPPED = "scrapped"
    """Thrown away, and not to be made by accident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierPass:
    """A PASS that the records hold of a board."""

    job_id: str
    recipe_hash: str
    product: str
    lot_state: LotState
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBoard:
    """What the records already say about a MAC before the first write."""

    mac: str
    flash_id: int | None
    """The flash JEDEC id of the last job that read one."""
    attempts: int
    """Jobs that touched its flash, however they ended."""
    judged_attempts: int = 0
    """Those of them since the last PASS that ended in FAIL or ERROR; ABORTED judges nobody."""
    passes: tuple[EarlierPass, ...] = ()
    """Newest first."""
    attempts_since_pass: int = 0
    """Jobs that touched its flash after the last PASS: with any of them, that PASS is worth nothing any more."""
    errors: frozenset[tuple[str, str]] = frozenset()
    """Reason and slot of every ERROR since the last PASS."""
    marks: frozenset[BoardMark] = frozenset()
    rework_open: bool = False
    """A named person allowed one more job, and it has not begun yet."""
    accepted_flash_ids: frozenset[int] = frozenset()
    """Other flash ids that a named person accepted for this MAC."""
    enrolled: str = ""
    """Of a red board, the reason that it fails with, and after a colon the check or value; empty where nobody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A number that belongs to one MAC for ever."""

    number: int
    label: str
    """Name of the row that it stands for; empty for a plain number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingJob:
    """A job that was flashed and waits for another visit, as it stands in the records."""

    id: str
    identity: Identity
    flash: FlashChip
    lot: Lot
    slot: str
    """Where it was flashed."""
    since: datetime
    """When its last visit ended."""
    reason: str
    detail: str
    attempt: int
    flash_mode: str
    firmware_sha256: str
    measurements: tuple[Measurement, ...]
    """What its earlier visits measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStart:
    """Everything a job row needs before the first byte of flash is touched."""

    id: str
    """UUIDv7, made by the station."""
    visit_id: str
    started_at: datetime
    plug: Plug
    lot: Lot
    identity: Identity | None
    """None when the board has no valid identity; the job then ends in FAIL without a board row."""
    observed_mac: str
    """What was read, valid or not; empty when nothing was."""
    flash: FlashChip | None
    firmware_sha256: str
    operator: str
    host: HostFacts
    attempt: int
    """1 for the first job of this MAC that touches its flash, and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How a job ended, or why it waits; written in one commit and read back before any light turns green."""

    state: JobState
    outcome: Outcome | None
    reason: str
    """Empty for PASS, else the value of a `Reason`."""
    detail: str
    """In its first line the particulars of the reason, in the lines after it notes of what was tried before."""
    ended_at: datetime
    duration_s: float
    phases: tuple[PhaseRecord, ...]
    measurements: tuple[Measurement, ...]
    baud_used: int | None
    baud_fallbacks: int
    boot_evidence: BootEvidence | None
    flash_touched: bool
    flash_mode: str
    bytes_flashed: int
    transcript: bytes
    """The raw bytes from the board, capped; empty for PASS."""
    values: tuple[tuple[str, str], ...] = ()
    """Name and value of what the board was given and may be seen: serial number, columns of values."""
    number_used: bool = True
    """False: provably nothing that carries the board's numbers has left the station, so they may go to another board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitEnd:
    """What happened in one plug of one slot."""

    ended_at: datetime
    job_id: str | None
    finding: str
    """The value of a `Reason` when no job was closed or begun, else empty."""
    detail: str
    transcript: bytes = b""
    mac: str = ""
    """Whose board a finding is about, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedJob:
    """A job row as it was read back from the database after its commit: the only thing a light may turn green from."""

    id: str
    slot: str
    mac: str | None
    chip_id: int | None
    state: JobState
    outcome: Outcome | None
    reason: str
    detail: str
    phases: tuple[PhaseRecord, ...]
    measurements: tuple[Measurement, ...]
    attempt: int = 1
    boot_evidence: BootEvidence | None = None
    values: tuple[tuple[str, str], ...] = ()
    """Name and value of what the board was given and may be seen."""

    @property
    def particulars(self) -> str:
        """The first line of the detail, which the words of the reason speak of; the lines after it are notes."""
        return self.detail.partition("\n")[0]


def job_as_json(job: CommittedJob) -> dict[str, object]:
    """Return a job the way `--json`, `/api/jobs` and reports print it."""
    return {
        "job": job.id,
        "slot": job.slot,
        "mac": job.mac,
        "chip_id": format_chip_id(job.chip_id) if job.chip_id is not None else None,
        "state": job.state.value,
        "outcome": job.outcome.value if job.outcome is not None else None,
        "reason": job.reason or None,
        "detail": job.detail,
        "attempt": job.attempt,
        "boot_evidence": job.boot_evidence.value if job.boot_evidence is not None else None,
        "phases": [
            {"phase": phase.phase.value, "outcome": phase.outcome.value, "duration_s": round(phase.duration_s, 3)}
            for phase in job.phases
        ],
        "measurements": [
            {name: getattr(measurement, name) for name in ("name", "value", "unit", "low", "high", "within")}
            for measurement in job.measurements
        ],
        "values": dict(job.values),
    }

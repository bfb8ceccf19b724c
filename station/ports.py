"""The Protocols: what the station needs from the outside world, and nothing about how it is got.

Two of them are the seams that the virtual bench replaces: `ProgrammerWatcher` (who is plugged in) and `LineOpener` (how to
open it). The others have one real implementation each, in `station/adapters/`. Everything here is called either from the
event loop (watcher, light) or from a slot's own thread (line, flasher, repl, recorder); each docstring says which.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

from station.errors import LineStopped
from station.layouts import Layout
from station.model import (
    BootInto,
    CommittedJob,
    FlashChip,
    Identity,
    JobEnd,
    JobStart,
    KnownBoard,
    Light,
    Lot,
    Peek,
    PendingJob,
    Phase,
    Plug,
    Programmer,
    StopCause,
    VisitEnd,
)
from station.proving import Golden, Lately, Proof, SlotEvent, Standing
from station.views import StationView


class ProgrammerWatcher(Protocol):
    """Who is plugged in. Hints come on the event loop; the truth is what `snapshot()` returns."""

    def start(self, on_hint: Callable[[], None]) -> None:
        """Begin to listen, then return; `on_hint` is called on the running event loop whenever something may have changed.

        Listening begins before the caller's first `snapshot()`, so that nothing can slip in between.
        """

    def snapshot(self) -> tuple[Programmer, ...]:
        """Return the programmers that are attached now and ready to be opened; raises nothing for single bad devices."""

    def heard(self) -> bool:
        """Whether hints can arrive at all (the monitor is up); part of readiness."""

    def stop(self) -> None:
        """Stop listening and release what `start` took."""


class Line(Protocol):
    """One exclusively opened tty. Used from one thread; only `stop` may be called from another."""

    @property
    def node(self) -> str:
        """The device node that was opened."""

    @property
    def transcript(self) -> bytes:
        """The most recent bytes from the board, capped, for the record of a job that did not pass."""

    @property
    def has_reset_lines(self) -> bool:
        """Whether DTR and RTS can be set on this port and reach the board (a pty's cannot)."""

    def set_baud(self, baud: int) -> None:
        """Change the rate of our side; raises `LineError`."""

    def read_some(self, timeout_s: float) -> bytes:
        """Return what has arrived, waiting at most `timeout_s` for the first byte; empty for silence.

        Raises `PortGone`, `LineStopped`.
        """

    def send(self, data: bytes) -> None:
        """Write all of `data`; raises `PortGone`, `LineStopped`."""

    def discard_input(self) -> None:
        """Throw away what has arrived and was not read."""

    def reset_board(self, into: BootInto) -> bool:
        """Reset the board by the lines into loader or firmware; False when this line cannot."""

    def hold_boot_pin(self, *, low: bool) -> bool:
        """Hold GPIO0 by the lines without a reset: a board that gets power now starts its loader (low) or its firmware.

        False when this line cannot. The pin is released when the port is closed.
        """

    def stop(self, cause: StopCause) -> None:
        """Take the line away, from any thread, at once: its user gets `LineStopped` out of whatever it is doing."""

    def close(self) -> None:
        """Release the port; never raises, may block while output drains, so never call it on the event loop."""


class Stop:
    """The one switch that ends a visit from outside: by unplug, shutdown or deadline. Thread-safe."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._cause: StopCause | None = None
        self._line: Line | None = None
        self._lock = threading.Lock()

    @property
    def cause(self) -> StopCause | None:
        """Why the visit was ended, None while it may go on; the first cause stays."""
        return self._cause

    def request(self, cause: StopCause) -> None:
        """End the visit: its line is stopped now, and every later `check` or `wait` raises."""
        with self._lock:
            self._cause = self._cause or cause
            line = self._line
            self._event.set()
        if line is not None:
            line.stop(cause)

    def attach(self, line: Line | None) -> None:
        """Name the line that `request` shall stop; None when it is closed."""
        with self._lock:
            self._line = line
            cause = self._cause
        if line is not None and cause is not None:
            line.stop(cause)

    def check(self) -> None:
        """Raise `LineStopped` if the visit was ended."""
        if self._cause is not None:
            raise LineStopped(self._cause)

    def wait(self, timeout_s: float) -> None:
        """Sleep `timeout_s`, or until the visit is ended: then raise `LineStopped`."""
        self._event.wait(timeout_s)
        self.check()


class LineOpener(Protocol):
    """How to open a programmer. Called from a slot's thread."""

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> Line:
        """Open the programmer's tty exclusively at `baud`, raw 8N1, and attach it to `stop`.

        With `may_reset` False its modem lines are never touched: they reach no reset pin there.

        Raises `PortBusy`, `PortDenied`, `PortMissing`, `PortGone`, `AdapterHung`.
        """


class Loader(Protocol):
    """The conversation with one board's ROM loader and flasher stub, over one open line. Used from one thread.

    Every method raises `LinkSilent`, `LinkCorrupt`, `LinkEcho`, `FirmwareAnswers`, `BoardRestarted` or `LoaderRefused`
    when the conversation breaks, `PortGone` when the device vanishes, and `LineStopped` when the line is taken away.
    """

    def connect(self, attempts: int) -> None:
        """Reset the board into its loader where the line can, and synchronise; raises `WrongChip` too.

        At most `attempts` resets; but where not a byte came back from the first, within 2 s of the call, `LinkSilent`.
        """

    def read_identity(self) -> Identity:
        """Read the OTP words; raises `IdentityInvalid`."""

    def start_stub(self, *, legacy: bool = False) -> None:
        """Upload and start the flasher stub; `legacy` is the one that `start_firmware` needs."""

    def start_firmware(self) -> None:
        """Leave the loader by software (run user code) and set our side to 115200; nothing answers, the firmware speaks next.

        Only the ROM and the legacy stub obey. The boot pin is not sampled again: until the next hardware reset the chip
        must not be reset by software.
        """

    def peek(self, *, knock: bool) -> Peek:
        """Look, without a reset and within about 0.2 s, who is there: one SYNC, and the MAC when a loader answers it.

        `knock`: send an empty line as well, so that a waiting prompt answers; only where no program can be disturbed.
        Never raises for what a board says or not; raises `PortGone`, `AdapterHung`, `LineStopped`.
        """

    def read_flash(self, offset: int, length: int, on_progress: Callable[[int], None]) -> bytes:
        """Read a region of flash; needs the stub. Checked against the chip's own MD5 of the region."""

    def set_baud(self, baud: int) -> None:
        """Change the rate on both sides; needs the stub."""

    def read_flash_chip(self) -> FlashChip:
        """Read the flash chip's JEDEC id and derive its size."""

    def erase_chip(self) -> None:
        """Erase the whole flash chip; needs the stub."""

    def write(self, offset: int, data: bytes, on_progress: Callable[[int], None]) -> None:
        """Write `data` at `offset`, compressed; `on_progress` gets the bytes of `data` that are in flash so far."""

    def md5(self, offset: int, length: int) -> str:
        """Return the MD5 of a region of flash, computed by the chip, 32 lower-case hex digits."""

    def clear_write_protection(self) -> None:
        """Write 0 to the flash status register."""

    def answers_as(self) -> Literal["stub", "rom"] | None:
        """Ask, without a reset, who is there after a break: the stub still, the ROM again (it reset itself), or nobody."""

    def probe_presence(self) -> bool | None:
        """Reset the board and listen for any byte of the ROM's boot message: True there, False silence, None no lines."""


class Flasher(Protocol):
    """Makes loaders. Called from a slot's thread."""

    def loader(self, line: Line) -> Loader:
        """Return a loader conversation over `line`; nothing is sent yet."""

    @property
    def version(self) -> str:
        """The version of the library behind it, for the record."""


class Repl(Protocol):
    """The conversation with one board's MicroPython, over one open line at 115200. Used from one thread."""

    def await_prompt(self, timeout_s: float, *, programs: bool = False) -> str:
        """Wait for the firmware after a reset and enter the raw REPL; return the banner (escaped, capped).

        `programs`: a program lies on the board that may never end by itself: it is interrupted, but boot.py gets its time.
        Raises `NothingBoots`, `BootLooping`, `FilesystemCorrupt`, `ReplSilent`, `ReplGarbage`.
        """

    def run(self, code: str, timeout_s: float) -> bytes:
        """Run `code` on the board and return what it printed, at most 64 KiB.

        Raises `CheckRaised`, `BoardRestartedInTest`, `ReplSilent`, `ReplGarbage`.
        """

    def soft_reset(self, timeout_s: float) -> None:
        """MicroPython's own soft reset, back into the raw REPL."""

    def leave(self) -> None:
        """Go back to the friendly REPL, so that the board is left as a user expects it."""


class ReplMaker(Protocol):
    """Makes REPL conversations. Called from a slot's thread."""

    def __call__(self, line: Line, stop: Stop) -> Repl:
        """Return a REPL conversation over `line`; nothing is sent yet."""


class Recorder(Protocol):
    """The durable records. Called from slots' threads; every call returns after its commit.

    Every method raises `RecordsUnwritable` when the database cannot take it; nothing was written then.
    """

    def begin_visit(self, visit_id: str, plug: Plug) -> None:
        """Write the visit row of a plug."""

    def end_visit(self, visit_id: str, end: VisitEnd) -> None:
        """Complete a visit row."""

    def known_board(self, mac: str) -> KnownBoard | None:
        """Look up what the records say about a MAC: jobs, marks, reworks; None when they never heard of it."""

    def pending_job(self, mac: str) -> PendingJob | None:
        """Look up the job that waits for this board, the newest when there are several; None when none does."""

    def returns_at_ground(self, job_id: str) -> int:
        """Return how many visits of this waiting job found its board with GPIO0 at GND again."""

    def number_in_lot(self, job_id: str) -> int:
        """Return which board of its lot, counted from 1 in the order of first attempts, the job's board is."""

    def known_layout(self, firmware_sha256: str, flash_bytes: int) -> Layout | None:
        """Look up where this image has its filesystem on a flash of this size; None when no board showed it yet."""

    def learn_layout(self, firmware_sha256: str, flash_bytes: int, layout: Layout) -> None:
        """Keep what a board that passed showed; what is known already stays."""

    def begin_job(self, start: JobStart) -> None:
        """Write the job row (and its board row), running, durable before the first byte of flash is touched."""

    def finish_job(self, job_id: str, end: JobEnd) -> CommittedJob:
        """Close a job or set it pending, commit, and return the row as read back from the database."""


class ProofKeeper(Protocol):
    """What slots have proven, and what was said about slots. Called from threads; every call may block.

    Every method raises `RecordsUnwritable` when the database cannot take it.
    """

    def standing(self, slot: str, lot_id: str, since: datetime | None) -> Standing:
        """Return what holds for this slot now; proofs of another lot, or from before `since`, do not count."""

    def standings(self, slots: Sequence[str], lot_id: str, since: datetime | None) -> Mapping[str, Standing]:
        """Return the same for several slots, of one moment."""

    def lately(self, slot: str) -> Sequence[Lately]:
        """Return the last jobs of all slots, newest first, none from before the last word about this slot."""

    def goldens(self) -> Sequence[Golden]:
        """Return what was made of the last golden boards, of all slots and lots, newest first."""

    def has_pass(self, lot_id: str, since: datetime | None) -> bool:
        """Whether a board of this lot passed, after `since` where that is given."""

    def put(self, made: Proof, event: SlotEvent | None) -> None:
        """Write a proof, and what it changes for its slot, durable when the call returns."""

    def say(self, event: SlotEvent) -> None:
        """Write what is said about a slot; raises `ConfigurationError` when it changes nothing."""


class Books(Recorder, Protocol):
    """What the station asks of the records beyond single jobs. Called from threads; every call may block."""

    def writable(self) -> bool:
        """Whether a row could be written now; a real attempt."""

    def current_lot(self) -> Lot | None:
        """Return the lot that a person opened and nobody closed; raises `RecordsUnwritable`."""

    def pending(self) -> Sequence[PendingJob]:
        """Return every job that waits for another visit, longest waiting first; raises `RecordsUnwritable`."""

    def rejected(self, lot_id: str) -> int:
        """Return how many modules a person booked out of this lot by hand; raises `RecordsUnwritable`."""

    def numbers_left(self) -> Mapping[str, int]:
        """Return pool -> how many serial numbers this station can still hand out; raises `RecordsUnwritable`."""

    def jobs(self, limit: int) -> Sequence[CommittedJob]:
        """Return the jobs begun last, newest first; raises `RecordsUnwritable`."""


class Gauges(Protocol):
    """What the station reports to its metrics. Called from any thread; must return at once."""

    def add_slot(self, slot: str) -> None:
        """A slot of the map exists."""

    def station_view(self, view: StationView) -> None:
        """Something a person can see has changed."""

    def slot_to_busy(self, duration_s: float) -> None:
        """So long it took from seeing a plug to the BUSY light."""

    def visit_finding(self, reason: str) -> None:
        """A visit ended without a job."""

    def job_finished(self, slot: str, end: JobEnd, *, first_attempt: bool) -> None:
        """A job is on record."""

    def flash_vendor(self, vendor: str) -> None:
        """A board's first attempt is on record, and this vendor made its flash chip (`station.selftest.VENDORS`)."""

    def phase_finished(self, phase: Phase, duration_s: float) -> None:
        """A phase of a job that is on record took so long."""

    def bytes_flashed(self, slot: str, size_bytes: int) -> None:
        """So many bytes reached a board's flash."""

    def baud_fallback(self, slot: str) -> None:
        """A job went one step down the baud ladder."""

    def database_backlog(self, rows: int) -> None:
        """So many finished results wait to be written."""

    def hub_disturbed(self) -> None:
        """A whole hub was disturbed."""

    def quarantined(self, slots: int) -> None:
        """So many slots of the map are in quarantine."""

    def pending_jobs(self, jobs: int, oldest_s: float) -> None:
        """So many boards are flashed and wait for their test; the oldest for so long (0 for none)."""

    def numbers_left(self, left: Mapping[str, int]) -> None:
        """So many serial numbers are left in each pool."""

    def rejected(self, modules: int) -> None:
        """So many modules were booked out of the current lot by hand."""


class LightDriver(Protocol):
    """One physical or drawn light per slot. Called on the event loop; must return at once."""

    def show(self, slot: str, light: Light) -> None:
        """Show `light` for `slot`; a dead light raises nothing and is reported by `healthy`."""

    def healthy(self) -> bool:
        """Whether the light is known to work."""

    def close(self) -> None:
        """Switch everything off and release the device."""


Clock = Callable[[], float]
"""A monotonic clock in seconds; tests inject their own."""

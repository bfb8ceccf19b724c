"""The exceptions of the station, drawn once.

    StationError
    ├── ConfigurationError        a file the person wrote is wrong: names file, key, problem and fix (exit 78)
    ├── LineError                 the serial port
    │   ├── PortGone              the device vanished (unplugged)
    │   ├── PortMissing           there is no such device
    │   ├── PortBusy              another process holds it (names it)
    │   ├── PortDenied            no permission
    │   └── AdapterHung           the adapter does not answer control requests
    ├── LinkError                 the conversation with the board's loader
    │   ├── LinkSilent            nothing came back at all
    │   │   └── LoaderMute        the board prints its boot message, and answers nothing
    │   ├── LinkCorrupt           bytes came back, but not an answer
    │   ├── LinkEcho              our own bytes came back
    │   ├── FirmwareAnswers       a running firmware talks where the loader was wanted
    │   ├── BoardRestarted        the ROM's boot message came in the middle of it
    │   └── LoaderRefused         the loader answered with an error code
    ├── WrongChip                 not an ESP8266
    ├── IdentityInvalid           no usable MAC in the OTP words
    ├── ReplError                 the conversation with the firmware
    │   ├── ReplSilent            no prompt
    │   ├── ReplGarbage           an answer without this run's nonce, or too much of it
    │   ├── CheckRaised           the code we ran raised (carries the traceback)
    │   ├── BoardRestartedInTest  boot messages in the middle of a test
    │   ├── BootLooping           the boot message again and again
    │   ├── FilesystemCorrupt     the firmware refuses to make its filesystem
    │   └── NothingBoots          silence where the firmware should start
    ├── RecordsUnwritable         the database cannot take a row now
    ├── BackupFailed              a backup cannot be made, read back or put back: names file, problem and fix (exit 74)
    ├── SecretUnusable            a secret is not there, open to everybody, or cannot be kept: names it, never tells it
    ├── PrinterTrouble            a label cannot be printed now; says whether any of it was sent
    ├── ImageChanged              recipe or image differ from what was loaded
    └── JobEnded                  the job is over for a reason of the closed list
    BaseException
    └── LineStopped               the line was taken away (unplug, shutdown, deadline); no `except Exception` may eat it

Only `station/job.py` maps these to outcomes.
"""

from __future__ import annotations

from station.model import StopCause
from station.reasons import Reason


class StationError(Exception):
    """Root of everything the station raises on purpose."""


class ConfigurationError(StationError):
    """A configuration, recipe or image is wrong; the message is meant for the person who wrote it."""

    def __init__(self, *, file: str, problem: str, fix: str, key: str = "") -> None:
        self.file, self.key, self.problem, self.fix = file, key, problem, fix
        super().__init__(f"{file}: {key + ': ' if key else ''}{problem}. Fix: {fix}")


class LineError(StationError):
    """The serial port could not be opened, read, written or set up."""


class PortGone(LineError):
    """The device vanished while it was open: unplugged."""


class PortMissing(LineError):
    """There is no such device node."""


class PortBusy(LineError):
    """Another process holds the port; `holder` names it as `NAME (PID)` when it can be found."""

    def __init__(self, node: str, holder: str) -> None:
        self.node, self.holder = node, holder
        super().__init__(f"{node} is held by {holder}")


class PortDenied(LineError):
    """The user may not open the port."""


class AdapterHung(LineError):
    """The adapter does not answer control requests (EIO or ETIMEDOUT on open or on setting it up)."""


class LinkError(StationError):
    """The conversation with the board's loader broke down."""


class LinkSilent(LinkError):
    """Nothing at all came back."""


class LoaderMute(LinkSilent):
    """The board prints its boot message when it is reset, and answers nothing: it is there, and hangs."""


class LinkCorrupt(LinkError):
    """Bytes came back, but no valid answer."""


class LinkEcho(LinkError):
    """Exactly our own bytes came back."""


class FirmwareAnswers(LinkError):
    """A running firmware talks where the ROM loader was wanted; `micropython`: it showed a prompt or its banner."""

    def __init__(self, message: str, *, micropython: bool = False) -> None:
        self.micropython = micropython
        super().__init__(message)


class BoardRestarted(LinkError):
    """The ROM's boot message came in the middle of a loader conversation."""


class LoaderRefused(LinkError):
    """The loader answered a command with an error; `code` is its two status bytes, big-endian."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


class WrongChip(StationError):
    """The chip answered the loader protocol but is not an ESP8266."""


class IdentityInvalid(StationError):
    """The OTP words hold no usable MAC; `observed` is what was read."""

    def __init__(self, message: str, observed: str) -> None:
        self.observed = observed
        super().__init__(message)


class ReplError(StationError):
    """The conversation with the running firmware broke down."""


class ReplSilent(ReplError):
    """The firmware gives no prompt."""


class ReplGarbage(ReplError):
    """The answer does not carry this run's nonce, is malformed, or is larger than allowed."""


class CheckRaised(ReplError):
    """The code that was run raised on the board; `traceback` is its text, capped and escaped."""

    def __init__(self, traceback: str) -> None:
        self.traceback = traceback
        super().__init__(traceback.strip().splitlines()[-1] if traceback.strip() else "exception without text")


class BoardRestartedInTest(ReplError):
    """Boot messages came in the middle of a test."""


class BootLooping(ReplError):
    """The boot message comes again and again."""


class FilesystemCorrupt(ReplError):
    """The firmware says that its filesystem looks corrupt and will not start."""


class NothingBoots(ReplError):
    """Silence where the firmware should have started."""


class RecordsUnwritable(StationError):
    """The database cannot take a row now (full, read-only, locked, corrupt); nothing may turn green."""


class BackupFailed(StationError):
    """A backup cannot be made, does not hold, or cannot be put back; the message is meant for a person."""

    def __init__(self, *, file: str, problem: str, fix: str) -> None:
        self.file, self.problem, self.fix = file, problem, fix
        super().__init__(f"{file}: {problem}. Fix: {fix}")


class SecretUnusable(StationError):
    """A secret cannot be used; `name` says which, `problem` why, and neither says what it is."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name} {problem}")


class PrinterTrouble(StationError):
    """A label cannot be printed; `sent`: a part of it, or all, may have reached the printer."""

    def __init__(self, problem: str, *, sent: bool) -> None:
        self.problem, self.sent = problem, sent
        super().__init__(problem)


class ImageChanged(StationError):
    """Recipe or image on disk, or the spooled copy, differ from what was loaded."""


class JobEnded(StationError):
    """The job is over for a reason of the closed list."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class LineStopped(BaseException):
    """The job's line was taken away: raised out of whatever read, write or wait is going on, in its own thread."""

    def __init__(self, cause: StopCause) -> None:
        self.cause = cause
        super().__init__(cause)

"""MicroPython's raw REPL over one open line: into the prompt after a reset, and code run between two marks.

What a board says is hostile bytes: everything is capped, nothing is believed that does not carry the nonce of this very
run, and every wait has a deadline. Bytes are judged in `BootScan` and `Run`, which do no input or output; `RawRepl` is the
thin shell around them. It must never touch the reset lines, never print, and never send Ctrl-C to a board that may still
be making its filesystem. Protocol: micropython `shared/runtime/pyexec.c`, docs `reference/repl.rst`; why our own framing
and not mpremote's: decision record 0007.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from enum import Enum, auto

from station.errors import (
    BoardRestartedInTest,
    BootLooping,
    CheckRaised,
    FilesystemCorrupt,
    NothingBoots,
    ReplError,
    ReplGarbage,
    ReplSilent,
)
from station.ports import Clock, Line, Stop

OUTPUT_MAX_BYTES = 64 << 10
"""What one run may print."""
BOOT_MAX_BYTES = 256 << 10
"""What a board may say between reset and prompt; first boots say less than 2 KiB."""
TRACEBACK_MAX_CHARACTERS = 4096
LOOPING_BOOTS = 4
SLOWLY_LOOPING_BOOTS = 3
"""At the deadline; one start may be left over from before the reset, and one is the reset's."""
NONSENSE_ANSWERS = 3
BURST_BYTES = 16
"""The shortest ROM message is longer, and so is what 115200 baud makes of it."""
NONSENSE_BYTES = 16 << 10
"""More than this without a prompt is not a start message."""
QUIET_S = 0.5
POLL_AT_LEAST_EVERY_S = 2.0
FRIENDLY_QUIET_S = 0.1
ANSWER_S = 5.0
"""How long the prompt may take to print one line, at least."""
ANSWER_SHARE = 0.125
"""Of a patient deadline it may take this share: deadlines are long where the machine is slow."""
ASK_AGAIN_S = 15.0
"""So long a soft reset may be silent before it is asked for again; a boot.py that joins a network takes its time."""
INTERRUPT_AFTER_SHARE = 0.75
BOOT_PY_S = 3.0
"""A boot.py, which must not be cut short, is through by then; what runs still is a program."""
# A board's UART ring buffer holds 256 bytes (esp_mphal.c); mpremote paces plain raw REPL the same way (fault F-4).
CHUNK_BYTES, CHUNK_PAUSE_S = 256, 0.01

PROMPT = b"raw REPL; CTRL-B to exit\r\n>"
ENTER_RAW_PASTE = b"\x05A\x01"
END = b"\x04"
WINDOW_FREE = b"\x01"
POLL = b"\r\x01"
POLL_INTERRUPTING = b"\r\x03\x03\x01"

_OVERLAP = 64
_MARKS_OF_BOOT = (b"ets Jan", b"MicroPython v")
# The last two wait for the rest of something that was typed before, be it a SYNC that the prompt took for words.
_FRIENDLY = re.compile(rb">>> |\r\n(?:\.\.\.|===) ")
_BANNER = re.compile(rb"MicroPython v[^\r\n]{0,200}")
_CORRUPT = re.compile(rb"looks corrupt|appears to be corrupted")
_RESTART = re.compile(rb"ets Jan|rst cause:|MicroPython v\d|Fatal exception \(|epc1=|soft reboot\r\n")
_ROM_LOG = re.compile(rb"(?:ets Jan|load 0x|tail |chksum |csum |ho \d|flash read err|ets_main|Fatal exc|epc1=)[^\n]*")
_WORDS = re.compile(rb"[\x20-\x7e]{16,}")
_NOT_TEXT = bytes(set(range(256)) - set(b"\r\n") - set(range(0x20, 0x7F)))
_PASTE_REPLY = re.compile(rb"R([\x00\x01])|" + re.escape(PROMPT))
_ERROR = re.compile(rb"(?m)^(?:Traceback \(most recent call last\)|\w+(?:Error|Exception|Interrupt|Iteration)\b)")


def printable(data: bytes, limit: int) -> str:
    """Return the last `limit` characters of board bytes as text, everything a screen or a log obeys escaped but line feeds."""
    text = data.replace(b"\r\n", b"\n").decode("utf-8", "backslashreplace")
    safe = "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return safe if len(safe) <= limit else "…" + safe[len(safe) - limit + 1 :]


def is_garbage(burst: bytes | bytearray) -> bool:
    """Whether this is what 115200 baud makes of a ROM message: long enough for one, and more than an eighth of it no text."""
    return len(burst) >= BURST_BYTES and len(burst) - len(burst.translate(None, _NOT_TEXT)) > len(burst) // 8


class BootScan:
    """What a board says from its reset to its prompt, in chunks of any size."""

    def __init__(self) -> None:
        self._said = bytearray()
        self._boots = dict.fromkeys(_MARKS_OF_BOOT, 0)
        self._prompts = False
        self._nonsense = 0
        self._burst_from = self._bursts = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes; raises `FilesystemCorrupt`, `BootLooping` or `ReplGarbage` as soon as that is certain."""
        known = len(self._said)
        self._said += data
        if len(self._said) > BOOT_MAX_BYTES:
            raise ReplGarbage(f"more than {BOOT_MAX_BYTES} bytes without a usable prompt")
        recent = bytes(self._said[max(0, known - _OVERLAP) :])
        new_from = len(recent) - len(data)
        for mark in _MARKS_OF_BOOT:
            self._boots[mark] += recent.count(mark, max(0, new_from - len(mark) + 1))
        self._prompts = self._prompts or PROMPT in recent
        if _CORRUPT.search(recent):
            raise FilesystemCorrupt("the firmware says that its filesystem is corrupt")
        if self.boots >= LOOPING_BOOTS:
            raise BootLooping(f"started {self.boots} times without a usable prompt")

    def pause(self) -> None:
        """Note that it fell silent; raises `BootLooping` when garbage came in bursts again and again.

        A ROM message is sent at 74880 baud and is garbage at 115200; one burst belongs to every start.
        """
        burst = self._said[self._burst_from :]
        self._burst_from = len(self._said)
        self._bursts += is_garbage(burst)
        if self._bursts >= LOOPING_BOOTS:
            raise BootLooping(f"{self._bursts} bursts of garbage and no usable prompt")

    def count_nonsense(self) -> None:
        """Note that the prompt answered, but not what it was asked; raises `ReplGarbage` when that is no accident."""
        self._nonsense += 1
        if self._nonsense >= NONSENSE_ANSWERS:
            raise ReplGarbage("a prompt, then answers without this run's mark")

    @property
    def boots(self) -> int:
        """How often the board started: a start shows one ROM message, one banner, or both."""
        return max(self._boots.values())

    @property
    def at_prompt(self) -> bool:
        """Whether the last thing said is the raw REPL's prompt."""
        return self._said.endswith(PROMPT)

    @property
    def at_friendly_prompt(self) -> bool:
        """Whether the last thing said is the friendly REPL's prompt."""
        return self._said.endswith(b">>> ")

    @property
    def interpreter_runs(self) -> bool:
        """Whether the REPL is up, so that Ctrl-C cannot interrupt the making of the filesystem any more."""
        return self._boots[b"MicroPython v"] > 0 or self._prompts or bool(_FRIENDLY.search(self._said[-4096:]))

    @property
    def banner(self) -> str:
        """The last banner, escaped; empty when none was seen."""
        banners = _BANNER.findall(self._said)
        return printable(banners[-1], 200) if banners else ""

    def failure(self) -> ReplError:
        """Return what it means that the deadline passed in this state."""
        if self._prompts:
            return ReplGarbage("a prompt came, but no answer with this run's mark")
        if self.boots >= SLOWLY_LOOPING_BOOTS:
            return BootLooping(f"started {self.boots} times without a usable prompt")
        if len(self._said) > NONSENSE_BYTES:
            return ReplGarbage(f"{len(self._said)} bytes without a prompt")
        # The ROM's own message, readable or as the garbage that 74880 baud gives at 115200, comes from every chip.
        if not _WORDS.search(_ROM_LOG.sub(b"", self._said)):
            return NothingBoots(f"{len(self._said)} bytes, none of them from a firmware")
        return ReplSilent("the firmware starts but gives no prompt")


class _Step(Enum):
    ASKED = auto()
    WINDOW = auto()
    SENDING = auto()
    SENT = auto()
    ANSWER = auto()


class Run:
    """One run of code on the board: what to send for what came back, and what the board printed. No input, no output."""

    def __init__(self, code: str, *, raw_paste: bool) -> None:
        nonce = secrets.token_hex(8)
        half = len(nonce) // 2
        self._opening, self._closing = f"{nonce}<".encode(), f">{nonce}".encode()
        # Each mark is sent in two halves, so that an echo of the code does not contain it.
        first, second = nonce[:half], nonce[half:]
        framed = f"print('{first}'+'{second}<')\n{code}\nprint('>{first}'+'{second}')\n"
        if not framed.isascii() or not framed.replace("\n", "").isprintable():
            raise ValueError("code for the board may hold printable ASCII and line feeds only")
        self._code = framed.encode("ascii")
        self._step = _Step.ASKED if raw_paste else _Step.ANSWER
        self._got = bytearray()
        self._tail = b""
        self._window = self._credit = self._sent = 0
        self._ends: list[int] = []
        self._scanned = 0
        self.raw_paste_refused = False
        self.done = False

    def begin(self) -> bytes:
        """Return what to send first."""
        return ENTER_RAW_PASTE if self._step is _Step.ASKED else self._code + END

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the board and return what to send; raises `BoardRestartedInTest`, `ReplGarbage`."""
        recent = self._tail + data
        if _RESTART.search(recent):
            raise BoardRestartedInTest("the board restarted in the middle of a run")
        self._tail = recent[-_OVERLAP:]
        self._got += data
        if len(self._got) > OUTPUT_MAX_BYTES + TRACEBACK_MAX_CHARACTERS:
            raise ReplGarbage(f"more than {OUTPUT_MAX_BYTES} bytes of output")
        reply = b""
        if self._step is _Step.ASKED:
            reply += self._take_paste_reply()
        if self._step is _Step.WINDOW:
            self._take_window()
        if self._step is _Step.SENDING:
            reply += self._take_flow()
        if self._step is _Step.SENT:
            self._take_acknowledgement()
        if self._step is _Step.ANSWER:
            self._take_answer()
        return reply

    def _take_paste_reply(self) -> bytes:
        match = _PASTE_REPLY.search(bytes(self._got))  # a match over the bytearray itself would change with it
        if match is None:
            return b""
        del self._got[: match.end()]
        if match.group(1) == b"\x01":
            self._step = _Step.WINDOW
            return b""
        # `R\x00`: known but not supported; the prompt again: an interpreter from before 1.14, which never heard of it.
        self.raw_paste_refused = True
        self._step = _Step.ANSWER
        return self._code + END

    def _take_window(self) -> None:
        if len(self._got) < 2:  # noqa: PLR2004 - a little-endian 16-bit word
            return
        self._window = self._credit = int.from_bytes(self._got[:2], "little")
        if not self._window:
            raise ReplGarbage("raw paste with a window of 0 bytes")
        del self._got[:2]
        self._step = _Step.SENDING

    def _take_flow(self) -> bytes:
        while self._got:
            byte = self._got.pop(0)
            if byte == WINDOW_FREE[0]:
                self._credit += self._window
            elif byte == END[0]:  # the compiler gave up; it reads on until we say that we heard
                self._step = _Step.ANSWER
                return END
        piece = self._code[self._sent : self._sent + self._credit]
        self._sent += len(piece)
        self._credit -= len(piece)
        if self._sent < len(self._code):
            return piece
        self._step = _Step.SENT
        return piece + END

    def _take_acknowledgement(self) -> None:
        end = self._got.find(END)
        del self._got[: end + 1 or len(self._got)]
        if end >= 0:
            self._step = _Step.ANSWER

    def _take_answer(self) -> None:
        while len(self._ends) < 2 and (end := self._got.find(END, self._scanned)) >= 0:  # noqa: PLR2004 - output, error
            self._ends.append(end)
            self._scanned = end + 1
        if len(self._ends) < 2:  # noqa: PLR2004 - as above
            self._scanned = len(self._got)
        else:
            self.done = b">" in self._got[self._ends[1] :]

    def result(self) -> bytes:
        """Return what the code printed, exactly; raises `CheckRaised`, `ReplGarbage`. Only when `done`."""
        out, error = bytes(self._got[: self._ends[0]]), bytes(self._got[self._ends[0] + 1 : self._ends[1]])
        _, opened, rest = out.partition(self._opening)
        if _ERROR.search(error):
            raise CheckRaised(printable(error, TRACEBACK_MAX_CHARACTERS))
        if opened and is_garbage(error):
            # The message of a restart at its own rate; a byte in it looked like the end of the answer.
            raise BoardRestartedInTest("a burst of garbage in the middle of a run")
        printed, closed, _ = rest.rpartition(self._closing)
        if not closed or error:
            raise ReplGarbage("an answer without this run's mark")
        printed = printed.removeprefix(b"\r").removeprefix(b"\n")  # of the line that the opening mark stands on
        if len(printed) > OUTPUT_MAX_BYTES:
            raise ReplGarbage(f"more than {OUTPUT_MAX_BYTES} bytes of output")
        return printed

    def holds_mark_of(self, other: Run) -> bool:
        """Whether what the board said so far is the answer to another run."""
        return other._opening in self._got

    def unanswered(self) -> ReplError:
        """Return what it means that the deadline passed in this state."""
        said = bytes(self._got).replace(PROMPT, b"").replace(b"OK", b"", 1)
        accepted = self._step is not _Step.ASKED and (self._sent or self._opening in said)
        if accepted or not said.strip(b">\r\n"):
            return ReplSilent("no end of the answer before the deadline")
        return ReplGarbage("an answer without this run's mark")


class RawRepl:
    """`ports.Repl` over an open line; `clock` is a monotonic clock in seconds."""

    def __init__(self, line: Line, stop: Stop, clock: Clock = time.monotonic) -> None:
        self._line, self._stop, self._clock = line, stop, clock
        self._raw_paste = True

    def await_prompt(self, timeout_s: float, *, programs: bool = False) -> str:
        """Wait for the firmware of a board that was just reset and enter the raw REPL; return its banner (escaped, capped).

        The prompt is believed only once it has run a line that prints a fresh nonce, after which nothing that was sent
        before can be answered any more. With `programs` Ctrl-C is sent soon, but after what boot.py takes: a main.py need
        not end by itself, and the filesystem it lies in is made already. Raises `NothingBoots`, `BootLooping`,
        `FilesystemCorrupt`, `ReplSilent`, `ReplGarbage`, and what the line raises.
        """
        boot = BootScan()
        asked: list[Run] = []
        started = polled = self._clock()
        deadline = started + timeout_s
        while (now := self._clock()) < deadline:
            self._stop.check()
            quiet_s = FRIENDLY_QUIET_S if boot.at_friendly_prompt else QUIET_S
            data = self._line.read_some(min(quiet_s, deadline - now))
            if data:
                boot.feed(data)
            else:
                boot.pause()
            if data and boot.at_prompt:
                answer_s = max(ANSWER_S, ANSWER_SHARE * timeout_s)
                if self._synchronise(boot, min(deadline, self._clock() + answer_s), asked):
                    return boot.banner
                continue
            if not data or now - polled >= POLL_AT_LEAST_EVERY_S:
                # Up to 1.20 Ctrl-C also stops the frozen _boot.py, and with it the making of the filesystem, which the next
                # boot then calls corrupt (micropython#10833, fault D-14). So it waits until the REPL is up, or for long.
                share_s = INTERRUPT_AFTER_SHARE * timeout_s
                late = now - started >= (min(BOOT_PY_S, share_s) if programs else share_s)
                self._line.send(POLL_INTERRUPTING if late or boot.interpreter_runs else POLL)
                polled = now
        raise boot.failure()

    def run(self, code: str, timeout_s: float) -> bytes:
        """Run `code` (printable ASCII and line feeds) and return exactly what it printed, at most 64 KiB.

        Raises `CheckRaised`, `BoardRestartedInTest`, `ReplSilent`, `ReplGarbage`, and what the line raises. The code must not
        print what a starting firmware prints (`MicroPython v1…`).
        """
        run = Run(code, raw_paste=self._raw_paste)
        self._converse(run, self._clock() + timeout_s)
        self._raw_paste = self._raw_paste and not run.raw_paste_refused
        return run.result()

    def soft_reset(self, timeout_s: float) -> None:
        """MicroPython's own soft reset, back into the raw REPL; boot.py runs again, and whatever it prints is skipped.

        Raises `BoardRestartedInTest`, `FilesystemCorrupt`, `ReplSilent`, `ReplGarbage`, and what the line raises.
        """
        boot = BootScan()
        deadline = self._clock() + timeout_s
        while not boot.at_prompt:
            # Asked again after a silence: at the prompt another one only restarts the interpreter once more.
            self._line.send(b"\r\x03" + END)
            while not boot.at_prompt and (data := self._receive(min(deadline, self._clock() + ASK_AGAIN_S))):
                boot.feed(data)
                if boot.boots:
                    raise BoardRestartedInTest("a soft reset became a restart")
            if not boot.at_prompt and self._clock() >= deadline:
                raise ReplSilent("no prompt after a soft reset")

    def leave(self) -> None:
        """Go back to the friendly REPL; what it answers is not waited for."""
        self._line.send(b"\r\x02")

    def _synchronise(self, boot: BootScan, deadline: float, asked: list[Run]) -> bool:
        """Have the prompt print a fresh mark; `asked` are the runs before, to which an answer may still be on its way."""
        run = Run("", raw_paste=False)
        try:
            self._converse(run, deadline, boot.feed)
            run.result()
        except (BoardRestartedInTest, ReplSilent):
            pass
        except (CheckRaised, ReplGarbage):
            # A late answer is no nonsense: a busy machine must not make a bad board of a good one.
            if not any(run.holds_mark_of(earlier) for earlier in asked):
                boot.count_nonsense()
        else:
            return True
        asked.append(run)
        return False

    def _converse(self, run: Run, deadline: float, listen: Callable[[bytes], None] | None = None) -> None:
        self._send(run.begin())
        while not run.done:
            data = self._receive(deadline)
            if not data:
                raise run.unanswered()
            if listen is not None:
                listen(data)
            self._send(run.feed(data))

    def _receive(self, deadline: float) -> bytes:
        """Return the next bytes, or nothing when the deadline has passed."""
        while (left_s := deadline - self._clock()) > 0:
            self._stop.check()
            data = self._line.read_some(min(QUIET_S, left_s))
            if data:
                return data
        return b""

    def _send(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK_BYTES):
            if start:
                self._stop.wait(CHUNK_PAUSE_S)
            self._line.send(data[start : start + CHUNK_BYTES])

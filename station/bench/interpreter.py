"""The MicroPython interpreter of one running board: a node process, its frames, and the UART's receive ring in front of it.

One process per running board, because its interpreter never yields: it can sleep, spin or hang without touching another
board, and ending it is ending the process, which no thread or shared process allows. Measured on two cores with node 20:
0.1 s to the prompt for one board, 0.9 s for sixteen at once on a quiet machine; 8 boards take 160 MB in all and 16 take
260 MB (PSS), about what worker threads of one process take. This module must never block the loop, nor let a process
outlive its board.
"""

import asyncio
import fcntl
import json
import os
import resource
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from station.bench.peripherals import Answer

HOST_MJS = Path(__file__).parent / "micropython" / "host.mjs"
RING_BYTES = 256
"""The UART's receive ring (esp_mphal.c); what comes while it is full and a program runs is lost."""
WIRE_BYTE_S = 10 / 115200
FASTEST_BYTE_S = 1e-6
"""The transmitter's pace where pace is 0: fast, but never more than a client can be expected to read."""
BACKLOG_S = 0.005
PIPE_BYTES = 4096
"""What a program may print ahead of the wire; a Ctrl-C has to overtake it."""
INTERRUPT_GRACE_S = 2.0
"""A program that has not obeyed a Ctrl-C for so long never will: nothing can break `while True: pass` from outside."""
MAX_CPU_S = 600
"""No board needs that much; it ends a stuck interpreter whose bench was killed."""
NODE_FLAGS = ("--single-threaded", "--liftoff-only", "--wasm-max-mem-pages=512")
"""One thread, for under full emulation (QEMU's TCG) node crashes with more; only the quick compiler, for a board runs so
little that the good one costs more than it brings (a fifth of the CPU time of a demo); and 32 MiB, so that a program that
eats memory gets a MemoryError early, as on a chip."""
KEYS_BYTES = 64
LINE_BYTES = 4096
CTRL_C = b"\x03"
_ENDS_OF_INPUT = (b"\r", b"\x04")
"""After one of these the REPL may run a program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What an interpreter has around it.

    `facts` are those of `Peripherals.facts()`; `answer` is asked by its programs; `emit` gets what it sends; `died` is
    called when it ends by itself, with whether it had ever come up.
    """

    facts: dict[str, object]
    emit: Callable[[bytes], None]
    answer: Callable[[str], Answer]
    died: Callable[[bool], None]


class Interpreter:
    """One interpreter, running from the moment it is made. Make and use it on the loop's thread.

    `node` is the command of Node.js, `pace` scales the time that sending and the flash take, `keep` gets every process
    that is started, to be waited for when it has ended.
    """

    def __init__(
        self, hardware: Hardware, *, node: list[str], pace: float, keep: Callable[[subprocess.Popen[bytes]], None]
    ) -> None:
        self._hardware = hardware
        self._node = node
        self._pace = pace
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self._process: _Process | None = None
        self._ring = bytearray()
        self._frames = bytearray()
        self._wants: Literal["nothing", "input", "keys"] = "nothing"
        self._program_runs = True
        self._interruptible = False
        self._came_up = False
        self._mode = "friendly"
        self._free_at_s = 0.0
        self._paused: asyncio.TimerHandle | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._start(resume=False)

    def receive(self, data: bytes) -> None:
        """Bytes from the UART. While a program runs, Ctrl-C interrupts it and the rest waits in the ring, or is lost."""
        if self._process is None:
            return
        if self._program_runs and self._wants != "input":
            if self._interruptible and CTRL_C in data:
                # Whether the program had ended already is known to the process alone. A prompt would forget what was typed
                # before a Ctrl-C; left here it would stand before what comes after, and make code of an empty line.
                data = data[data.rindex(CTRL_C) + 1 :]
                self._interrupt(self._process)
            data = data[: max(0, RING_BYTES - len(self._ring))]
        self._ring += data
        self._hand_over()

    def kill(self) -> None:
        """End it, whatever it is doing; nothing is heard of it afterwards. Harmless when it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        for timer in (self._paused, self._grace):
            if timer is not None:
                timer.cancel()
        self._paused = self._grace = None
        self._loop.remove_reader(process.output)
        process.end()

    def _start(self, *, resume: bool) -> None:
        """Start a process; with `resume` it has to go on where another one had to be killed."""
        self._frames.clear()
        self._wants = "nothing"
        self._program_runs = True
        self._interruptible = False
        self._process = _Process(self._node)
        self._keep(self._process.popen)
        self._loop.add_reader(self._process.output, self._read)
        settings = {"facts": self._hardware.facts, "mode": self._mode, "resume": resume}
        self._process.send("s", json.dumps(settings).encode())

    def _read(self) -> None:
        """Take what the process has written."""
        process = self._process
        if process is None:
            return
        data = os.read(process.output, PIPE_BYTES)
        if not data:
            self.kill()
            self._hardware.died(self._came_up)
            return
        self._came_up = True
        self._frames += data
        if self._grace is not None:
            self._arm_grace()
        while self._process is process and len(self._frames) >= _HEAD_BYTES:
            end = _HEAD_BYTES + int.from_bytes(self._frames[1:_HEAD_BYTES], "little")
            if len(self._frames) < end:
                break
            kind, payload = chr(self._frames[0]), bytes(self._frames[_HEAD_BYTES:end])
            del self._frames[:end]
            self._take(process, kind, payload)

    def _take(self, process: "_Process", kind: str, payload: bytes) -> None:
        """One frame of the process."""
        match kind:
            case "o":
                self._throttle(process, len(payload))
                self._hardware.emit(payload)
            case "c":
                answer = self._hardware.answer(payload.decode())
                if answer.text is not None:
                    self._reply(process, answer.text, answer.busy_s * self._pace)
            case "w":
                self._mode = payload.decode()
                self._program_runs = False
                self._disarm_grace()
                self._wants = "input"
                self._hand_over()
            case "k":
                self._wants = "keys"
                self._hand_over()
            case "b":
                self._mode = payload.decode()
                self._program_runs, self._interruptible = True, False
            case "p":
                self._interruptible = True

    def _reply(self, process: "_Process", text: str, delay_s: float) -> None:
        """Answer a call, when the flash is ready."""
        if delay_s > 0:
            self._loop.call_later(delay_s, self._reply, process, text, 0.0)
        elif self._process is process:
            process.send("a", text.encode())

    def _hand_over(self) -> None:
        """Give what is in the ring to a process that waits for it, up to where a program may begin to run."""
        if self._process is None or self._wants == "nothing" or not self._ring:
            return
        length = KEYS_BYTES
        if self._wants == "input":
            ends = [self._ring.find(end) + 1 for end in _ENDS_OF_INPUT]
            first = min((end for end in ends if end > 0), default=0)
            self._program_runs = self._interruptible = 0 < first <= LINE_BYTES
            length = first if self._program_runs else LINE_BYTES
        chunk = bytes(self._ring[:length])
        del self._ring[:length]
        self._wants = "nothing"
        self._process.send("i", chunk)

    def _interrupt(self, process: "_Process") -> None:
        """A Ctrl-C for the running program."""
        process.interrupt()
        if self._wants == "keys":
            self._wants = "nothing"
            process.send("i", b"")
        if self._grace is None:
            self._arm_grace()

    def _arm_grace(self) -> None:
        self._disarm_grace()
        self._grace = self._loop.call_later(INTERRUPT_GRACE_S, self._give_up)

    def _disarm_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _give_up(self) -> None:
        """The program does not obey. A chip would stop it and keep its memory; here the memory goes with the process."""
        if self._paused is not None:
            self._arm_grace()
            return
        self.kill()
        self._start(resume=True)

    def _throttle(self, process: "_Process", sent_bytes: int) -> None:
        """Stop reading while the transmitter is busy; the pipe fills and the program waits, as on a chip."""
        now_s = self._loop.time()
        cost_s = sent_bytes * max(FASTEST_BYTE_S, WIRE_BYTE_S * self._pace)
        self._free_at_s = max(now_s, self._free_at_s) + cost_s
        if self._free_at_s - now_s > BACKLOG_S and self._paused is None:
            self._loop.remove_reader(process.output)
            self._paused = self._loop.call_at(self._free_at_s, self._resume_reading)

    def _resume_reading(self) -> None:
        self._paused = None
        if self._process is not None:
            self._loop.add_reader(self._process.output, self._read)


_HEAD_BYTES = 5


class _Process:
    """A node process and its three pipes."""

    def __init__(self, node: list[str]) -> None:
        interrupts, self._interrupts = os.pipe2(os.O_NONBLOCK)
        try:
            self.popen = subprocess.Popen(  # noqa: S603 - our own file, run by the node we found
                [*node, *NODE_FLAGS, str(HOST_MJS), str(interrupts)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(interrupts,),
                start_new_session=True,  # a Ctrl-C at the terminal is for the station
            )
        finally:
            os.close(interrupts)
        assert self.popen.stdin is not None  # noqa: S101 - both were asked for
        assert self.popen.stdout is not None  # noqa: S101
        self._input = self.popen.stdin.fileno()
        self.output = self.popen.stdout.fileno()
        fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with suppress(ProcessLookupError):
            resource.prlimit(self.popen.pid, resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
            # A bench that goes before everything else does not take its boards' programs along. It begins with our
            # priority all the same: until it has its own program, we wait for it.
            if os.getpriority(os.PRIO_PROCESS, 0) < 0:
                os.setpriority(os.PRIO_PROCESS, self.popen.pid, 0)

    def send(self, kind: str, payload: bytes) -> None:
        """One frame. The process waits for it, so it fits the pipe; when the process is gone, its end will be read."""
        with suppress(BrokenPipeError):
            os.write(self._input, kind.encode() + len(payload).to_bytes(4, "little") + payload)

    def interrupt(self) -> None:
        """One Ctrl-C."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._interrupts, CTRL_C)

    def end(self) -> None:
        """Kill it and close the pipes."""
        self.popen.kill()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()
        os.close(self._interrupts)

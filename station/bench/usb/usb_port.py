"""The host's side of a virtual programmer as a USB device: what `PtyPort` is for a pty, over one USB/IP stream.

Promises that the driver's writes are taken no faster than the wire takes them, that a read waits until there is something
and never ends empty, that the modem lines it asks for are moved in the order of its requests, and that every transfer that
the driver wants back is given back. While nobody has the port open, what the board says is lost. Plays the faults of the
adapter. It must never block the loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from station.bench.port import PortEvents
from station.bench.usb.ch340 import (
    CLEAR_HALT,
    IN_ENDPOINT,
    INTERRUPT_ENDPOINT,
    OUT_ENDPOINT,
    QUIRK_PROBE,
    Ch340,
)
from station.bench.usb.usbip import DONE, STALLED, BrokenStream, Framing, Submit, Unlink, ret_submit, ret_unlink

MISHAP_BYTES = 20_000
"""After so many bytes from the host the faults of the middle of a job begin: the stub is up, the write is not done."""
MAX_WAITING_BYTES = 1 << 16
"""What a host that does not read may leave lying; more is lost. Far more than a CH340 has: an emulated host is slow."""
RECEIVE_BYTES = 1 << 16


class UsbPort:
    """A CH340 at the end of `stream`. Make it, and call everything, on the loop's thread.

    `has_fault` says of a token of `faults.USB_FAULT_TOKENS`, or of `adapter_hung`, whether the adapter has it. `opens` and
    `line_moves` count how often a client opened the port and moved a line.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        events: PortEvents,
        *,
        stream: socket.socket,
        path: str,
        has_fault: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.path = path
        self.opens = 0
        self._loop, self._events, self._stream, self._has_fault = loop, events, stream, has_fault
        self._chip = Ch340(stalls_probe=has_fault("usb_probe_stall"), limited=has_fault("usb_limited"))
        self._framing = Framing()
        self._answers: list[bytes] = []
        self._waiting = bytearray()
        self._bulk_in: deque[tuple[int, int]] = deque()
        self._bulk_out: deque[Submit] = deque()
        """Not taken yet: the wire is busy with those before."""
        self._on_the_wire: list[tuple[int, int]] = []
        """Taken, and not ended yet."""
        self._interrupts: set[int] = set()
        self._never_answered: set[int] = set()
        self._taken_bytes = 0
        self._control_stuck = self._in_halted = self._out_stuck = self._struck = False
        stream.setblocking(False)
        loop.add_reader(stream.fileno(), self._receive)

    @property
    def baud(self) -> int:
        """The rate the host has set."""
        return self._chip.baud

    @property
    def has_client(self) -> bool:
        """Whether anybody has the port open: exactly then the driver listens to the interrupt endpoint."""
        return bool(self._interrupts)

    def write(self, data: bytes) -> int:
        """Give this to the host; returns how many bytes were lost because nobody reads."""
        if not self._interrupts or self._in_halted:
            self._waiting.clear()
            return len(data)
        room = MAX_WAITING_BYTES - len(self._waiting)
        self._waiting += data[:room]
        self._serve_reads()
        self._send()
        return max(0, len(data) - room)

    def resume(self) -> None:
        """The wire is free: end the writes that are on it, and take the next."""
        self._end_writes()
        self._take_writes()
        self._send()

    def close(self) -> None:
        """Pull the adapter."""
        if self._stream.fileno() >= 0:
            self._loop.remove_reader(self._stream.fileno())
            with suppress(OSError):  # a process that is just being started has it too, for a moment
                self._stream.shutdown(socket.SHUT_RDWR)
            self._stream.close()

    def _receive(self) -> None:
        """Take what the kernel asks."""
        try:
            data = self._stream.recv(RECEIVE_BYTES)
            requests = self._framing.feed(data)
        except BlockingIOError:
            return
        except (OSError, BrokenStream):
            data, requests = b"", []
        if not data:  # it was detached from the other side: the programmer is out, the hand just does not know yet
            self.close()
            return
        for request in requests:
            if isinstance(request, Unlink):
                self._answers.append(ret_unlink(request.seqnum, was_pending=self._give_back(request.victim)))
            else:
                self._submit(request)
        if self._waiting:
            self._serve_reads()
        if self._bulk_out and not self._on_the_wire:
            self._take_writes()
        self._send()

    def _submit(self, request: Submit) -> None:
        """One transfer."""
        match request.endpoint, request.is_in:
            case 0, _:
                self._control(request)
            case endpoint, True if endpoint == IN_ENDPOINT:
                if self._in_halted:
                    self._answers.append(ret_submit(request.seqnum, STALLED, 0))
                else:
                    self._bulk_in.append((request.seqnum, request.length_bytes))
            case endpoint, False if endpoint == OUT_ENDPOINT:
                self._bulk_out.append(request)
            case endpoint, True if endpoint == INTERRUPT_ENDPOINT:
                # Nothing ever changes at the modem inputs of an ESP-01's programmer, so this one only waits.
                self.opens += not self._interrupts
                self._interrupts.add(request.seqnum)
            case _:
                self._answers.append(ret_submit(request.seqnum, STALLED, 0))

    def _control(self, request: Submit) -> None:
        if self._control_stuck:
            self._never_answered.add(request.seqnum)
            return
        before = self._chip.dtr, self._chip.rts
        answer = self._chip.control(request.setup)
        if answer is None:
            self._answers.append(ret_submit(request.seqnum, STALLED, 0))
        else:
            self._answers.append(ret_submit(request.seqnum, DONE, len(answer), answer))
        after = self._chip.dtr, self._chip.rts
        if after != before:
            self._events.lines(*after)
        if request.setup.startswith(CLEAR_HALT):
            self._in_halted = False
        if request.setup == QUIRK_PROBE:
            self._control_stuck = self._has_fault("adapter_hung")

    def _take_writes(self) -> None:
        """Put on the wire what has come, in one piece; end it at once, or when the wire says so."""
        while self._bulk_out and not self._on_the_wire and not self._out_stuck:
            taken = list(self._bulk_out)
            self._bulk_out.clear()
            self._on_the_wire = [(request.seqnum, len(request.data)) for request in taken]
            data = taken[0].data if len(taken) == 1 else b"".join(request.data for request in taken)
            self._taken_bytes += len(data)
            if self._taken_bytes >= MISHAP_BYTES and not self._struck:
                self._strike()
            if self._events.take(data):
                self._end_writes()

    def _end_writes(self) -> None:
        if not self._out_stuck:
            self._answers += [ret_submit(seqnum, DONE, size) for seqnum, size in self._on_the_wire]
            self._on_the_wire.clear()

    def _serve_reads(self) -> None:
        """End reads with what waits."""
        while self._waiting and self._bulk_in:
            seqnum, length = self._bulk_in.popleft()
            piece = bytes(self._waiting[:length])
            del self._waiting[:length]
            self._answers.append(ret_submit(seqnum, DONE, len(piece), piece))

    def _strike(self) -> None:
        """The faults of the middle of a job; once in a plug."""
        self._struck = True
        self._control_stuck |= self._has_fault("usb_control_stuck")
        self._out_stuck = self._has_fault("usb_out_stuck")
        if self._has_fault("usb_in_halted"):
            self._in_halted = True
            self._waiting.clear()
            self._answers += [ret_submit(seqnum, STALLED, 0) for seqnum, _ in self._bulk_in]
            self._bulk_in.clear()

    def _give_back(self, victim: int) -> bool:
        """Forget a transfer; returns whether it was still pending. The driver does that to each when the port is closed."""
        if victim in self._interrupts:
            self._interrupts.discard(victim)
            # Who opens the port again starts anew: nothing of before is waiting, and the driver reads again.
            self._waiting.clear()
            self._in_halted = False
            return True
        if victim in self._never_answered:
            self._never_answered.discard(victim)
            return True
        for queue in (self._bulk_in, self._on_the_wire):
            for entry in queue:
                if entry[0] == victim:
                    queue.remove(entry)
                    return True
        for request in self._bulk_out:
            if request.seqnum == victim:
                self._bulk_out.remove(request)
                return True
        return False

    def _send(self) -> None:
        """Answer in one piece. It always fits: the driver has a handful of transfers under way, and no more."""
        if not self._answers:
            return
        answers, self._answers = b"".join(self._answers), []
        try:
            self._stream.sendall(answers)
        except OSError:  # the kernel has let go of the device; the next read says so
            return

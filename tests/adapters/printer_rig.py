"""A label printer for tests: a real TCP socket that speaks as much ZPL as a station hears."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Mood = Literal["well", "paper out", "head open", "paused", "mute", "breaks", "hangs", "hangs up"]
_FLAGS = {"paper out": (0, 1), "paused": (0, 2), "head open": (1, 2)}


@dataclass(slots=True)
class FakePrinter:
    """What it got, and how it is; change `mood` at any time."""

    mood: Mood = "well"
    port: int = 0
    labels: list[bytes] = field(default_factory=list)
    """Every whole label, in order."""
    at_once: int = 0
    """The most connections that were open at the same time."""
    came: threading.Event = field(default_factory=threading.Event)
    open_now: int = 0

    @property
    def url(self) -> str:
        """How a station is told of it."""
        return f"tcp://127.0.0.1:{self.port}"

    def said_on(self, number: int) -> list[str]:
        """The fields of a label as they are printed."""
        return fields_of(self.labels[number])

    def status(self) -> bytes:
        """The answer to `~HS`."""
        strings = [
            ["030", "0", "0", "1245", "000", "0", "0", "0", "000", "0", "0", "0"],
            ["000", "0", "0", "0", "0", "2", "4", "0", "00000000", "1", "000"],
            ["1234", "0"],
        ]
        if self.mood in _FLAGS:
            string, flag = _FLAGS[self.mood]
            strings[string][flag] = "1"
        return b"".join(b"\x02" + ",".join(string).encode() + b"\x03\r\n" for string in strings)


def fields_of(zpl: bytes) -> list[str]:
    """What the fields of a label say once the printer has undone the escapes."""
    found = re.findall(r"\^FH\^FD(.*?)\^FS", zpl.decode("ascii"), re.DOTALL)
    return [re.sub(rb"_([0-9A-F]{2})", lambda hit: bytes([int(hit[1], 16)]), one.encode()).decode() for one in found]


@contextmanager
def printing(mood: Mood = "well") -> Iterator[FakePrinter]:
    """Switch a printer on, and off at the end."""
    printer = FakePrinter(mood)
    with socket.create_server(("127.0.0.1", 0)) as server:
        printer.port = server.getsockname()[1]
        off = threading.Event()
        thread = threading.Thread(target=_serve, args=(printer, server, off))
        thread.start()
        try:
            yield printer
        finally:
            off.set()
            thread.join(20)


def _serve(printer: FakePrinter, server: socket.socket, off: threading.Event) -> None:
    talks: list[threading.Thread] = []
    while not off.is_set():
        if select.select([server], [], [], 0.05)[0]:
            connection, _ = server.accept()
            talks.append(threading.Thread(target=_talk, args=(printer, connection, off)))
            talks[-1].start()
    for talk in talks:
        talk.join(20)


def _talk(printer: FakePrinter, connection: socket.socket, off: threading.Event) -> None:
    printer.open_now += 1
    printer.at_once = max(printer.at_once, printer.open_now)
    got = b""
    with connection, contextlib.suppress(OSError):
        if printer.mood == "hangs":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        while not off.is_set():
            if not select.select([connection], [], [], 0.05)[0]:
                continue
            if printer.mood == "hangs" and got:
                off.wait(0.05)
                continue
            data = connection.recv(16 if printer.mood == "breaks" else 4096)
            if not data or printer.mood == "hangs up":
                break
            got += data
            if b"~HS" in got:
                got = got.partition(b"~HS")[2].lstrip(b"\r\n")
                if printer.mood != "mute":
                    connection.sendall(printer.status())
            if printer.mood == "breaks" and got:
                # The kernel has taken the rest of it by now.
                off.wait(0.1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                break
            while b"^XZ" in got:
                label, _, got = got.partition(b"^XZ")
                printer.labels.append(label.strip() + b"\n^XZ\n")
                printer.came.set()
    printer.open_now -= 1

# mypy: ignore-errors
"""The sys module, and os.uname(), of an ESP8266 with the firmware that is in the flash.

Runs inside MicroPython. What is not the board's is the interpreter's own.
"""

import io as _io
import sys as _sys
from collections import namedtuple

import _host
from _link import facts

for _name in dir(_sys):
    if not _name.startswith("__"):
        globals()[_name] = getattr(_sys, _name)

platform = "esp8266"
version = "3.4.0; MicroPython " + facts["version"]
_Implementation = namedtuple("implementation", ("name", "version", "_machine", "_mpy", "_build"))
_Uname = namedtuple("uname", ("sysname", "nodename", "release", "version", "machine"))
_numbers = tuple(int(part) for part in facts["release"].split(".") if part.isdigit())
# .mpy version 6.3 for the xtensa architecture.
implementation = _Implementation(
    "micropython", _numbers + ("",), facts["machine"], 6 | 3 << 8 | 9 << 10, facts["build"]
)


def uname():
    """What os.uname() says."""
    return _Uname("esp8266", "esp8266", facts["sdk"], facts["version"], facts["machine"])


class _BinaryIn(_io.IOBase):
    """sys.stdin.buffer: the UART's receiver."""

    def read(self, size=-1):
        """That many bytes, as they are typed; up to Ctrl-D without a size."""
        typed = b""
        while size < 0 or len(typed) < size:
            byte = _host.key()
            if byte < 0 or (size < 0 and byte == 4):
                break
            typed += bytes((byte,))
        return typed

    def readinto(self, buffer):
        """Fill the buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _BinaryOut(_io.IOBase):
    """sys.stdout.buffer: the UART's transmitter, without the CR before every LF."""

    def write(self, data):
        """Send bytes as they are."""
        _host.write(bytes(data).hex())
        return len(data)


class _TextIn(_io.IOBase):
    """sys.stdin."""

    buffer = _BinaryIn()

    def read(self, size=-1):
        """That many characters."""
        return self.buffer.read(size).decode()

    def readline(self):
        """A line, ended by CR or LF; it comes back with LF."""
        line = b""
        while True:
            byte = self.buffer.read(1)
            if byte in (b"\r", b"\n", b""):
                return line.decode() + ("\n" if byte else "")
            line += byte


class _TextOut(_io.IOBase):
    """sys.stdout and sys.stderr."""

    buffer = _BinaryOut()

    def write(self, text):
        """Send text, or the bytes of one."""
        return _sys.stdout.write(text if isinstance(text, str) else bytes(text))

    def flush(self):
        """Nothing is held back."""


stdin = _TextIn()
stdout = stderr = _TextOut()

"""esptool 5.6 as a library: loaded once, silent, free of configuration files, and with result codes as numbers.

The only module of the station that imports esptool, and it does so when first asked: the import takes 0.15 s. Promises
that nothing esptool wants to say reaches a terminal, that no `esptool.cfg` in the working directory or at home changes
a timeout or a reset, and that a refusal keeps its two status bytes. It must never decide what a failure means.
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from station.errors import ConfigurationError

CONFIG_VARIABLE = "ESPTOOL_CFGFILE"
STATUS_BYTES = 2
_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the station uses of esptool, and nothing else; a test names every part of it and its signature."""

    rom: Any
    """ESP8266ROM, with `check_command` of ours; `rom.STUB_CLASS` is the stub's side of it."""
    stub_program: Any
    """The flasher stub that is uploaded, read once: version 2."""
    legacy_stub_program: Any
    """Version 1: slower to upload, but it obeys RUN_USER_CODE, which version 2 takes and ignores."""
    attach_flash: Any
    """`attach_flash(esp)`: configure SPI, wake a stuck XMC flash, reset the flash."""
    detect_flash_size: Any
    """`detect_flash_size(esp)`: the size that belongs to the cached JEDEC id, as text; None when it names none."""
    flash_size_bytes: Any
    """That text in bytes."""
    fatal_error: type[Exception]
    """What esptool raises when a conversation fails."""
    refused: type[Exception]
    """A `fatal_error` that carries the loader's two status bytes as `code`."""
    default_timeout_s: float
    erase_write_timeout_s_per_mb: float


def library() -> Library:
    """Return esptool, loading it the first time; raises `ConfigurationError` when a configuration got into it."""
    with _LOADING:
        return _load()


@functools.cache
def _load() -> Library:
    with _no_configuration() as ours:
        from esptool import cmds, config, loader, logger, util
        from esptool.targets import esp8266

        _, found = config.load_config_file()
    if found not in (None, ours):
        raise ConfigurationError(
            file=found, problem="esptool has read it and would change its timeouts and resets", fix="remove it"
        )
    _silence(loader, logger)
    refused = _refused(util.FatalError)
    rom = _rom(esp8266.ESP8266ROM, esp8266.ESP8266StubLoader, util.FatalError, refused)
    return Library(
        rom=rom,
        stub_program=_stub_program(loader, rom, "2"),
        legacy_stub_program=_stub_program(loader, rom, "1"),
        attach_flash=cmds.attach_flash,
        detect_flash_size=cmds.detect_flash_size,
        flash_size_bytes=util.flash_size_bytes,
        fatal_error=util.FatalError,
        refused=refused,
        default_timeout_s=loader.DEFAULT_TIMEOUT,
        erase_write_timeout_s_per_mb=loader.ERASE_WRITE_TIMEOUT_PER_MB,
    )


@contextmanager
def _no_configuration() -> Iterator[str]:
    """Name an empty configuration while esptool is imported: it reads one then, from the working directory first."""
    before = os.environ.get(CONFIG_VARIABLE)
    with tempfile.NamedTemporaryFile("w", prefix="esptool-", suffix=".cfg") as empty:
        empty.write("[esptool]\n")
        empty.flush()
        os.environ[CONFIG_VARIABLE] = empty.name
        try:
            yield empty.name
        finally:
            del os.environ[CONFIG_VARIABLE]
            if before is not None:
                os.environ[CONFIG_VARIABLE] = before


def _stub_program(loader: Any, rom: Any, version: str) -> Any:
    """Read one version of the flasher stub, without esptool's process-wide choice of another."""

    class OneVersion(loader.StubFlasher):  # type: ignore[misc]  # esptool has no types
        STUB_SUBDIRS = (version,)

    return OneVersion(rom)


def _silence(loader: Any, logger: Any) -> None:
    """Install a logger that says nothing, and stop the hex dumps.

    esptool formats every frame for its trace even when tracing is off: 80 % of the processor time of a flash, with the
    interpreter lock held (measured: 0.43 s of it per board, 0.08 s without).
    """

    class Silence(logger.TemplateLogger):  # type: ignore[misc]  # esptool has no types
        """The documented hook for a logger of one's own, doing nothing."""

        def print(self, *args: object, **kwargs: object) -> None: ...

        def note(self, message: str) -> None: ...

        def warning(self, message: str) -> None: ...

        def error(self, message: str) -> None: ...

        def stage(self, finish: bool = False) -> None: ...  # noqa: FBT001, FBT002 - esptool's signature

        def progress_bar(self, *args: object, **kwargs: object) -> None: ...

        def set_verbosity(self, verbosity: str) -> None: ...

    logger.log.set_logger(Silence())
    loader.HexFormatter.__str__ = lambda _self: ""


def _refused(fatal_error: type[Exception]) -> type[Exception]:
    class Refused(fatal_error):  # type: ignore[misc, valid-type]  # the base is known only at run time
        """The loader answered with an error; `code` is its two status bytes, big-endian."""

        def __init__(self, doing: str, code: int) -> None:
            self.code = code
            super().__init__(f"{doing}: the loader answers {code:04x}")

    return Refused


def _rom(rom: Any, stub: Any, fatal_error: type[Exception], refused: type[Exception]) -> Any:
    """Return esptool's class for the ESP8266, its stub's class within, that keeps the status bytes of an answer."""

    class Answers:
        """esptool's own `check_command` puts the status into the words of an exception and forgets it."""

        command: Any

        def check_command(
            self,
            op_description: str,
            op: int | None = None,
            data: bytes = b"",
            chk: int = 0,
            resp_data_len: int = 0,
            timeout: float = 3,
        ) -> Any:
            """Send a command; return the answer's data when some is expected, else the answer's word."""
            value, answer = self.command(op, data, chk, timeout=timeout)
            whole = len(answer) >= resp_data_len + STATUS_BYTES
            status = answer[resp_data_len : resp_data_len + STATUS_BYTES] if whole else answer[:STATUS_BYTES]
            if len(status) < STATUS_BYTES:
                raise fatal_error(f"{op_description}: an answer without status")
            if status[0]:
                raise refused(op_description, int.from_bytes(status, "big"))
            if not whole:
                raise fatal_error(f"{op_description}: an answer of {len(answer)} bytes")
            return answer[:resp_data_len] if resp_data_len else value

    class Stub(Answers, stub):  # type: ignore[misc]  # esptool has no types
        """The flasher stub's side."""

    class Rom(Answers, rom):  # type: ignore[misc]  # esptool has no types
        """The ROM loader's side."""

        STUB_CLASS = Stub

    return Rom

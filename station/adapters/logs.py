"""The station's log: one event, one line, whatever a board says; JSON for journald, readable on a terminal.

Events are `noun.verb` with keys; slot, job and mac are bound once per job with `structlog.contextvars.bound_contextvars`
(in the job's own thread: a thread does not inherit them, and its next job must not find them). Every text is escaped and
capped before it is rendered. Writing is done by one thread behind a bounded queue, so that a log nobody reads costs lost
lines, which are counted and confessed, and never a stalled bench. Importing this module changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from station.secrets import Vault

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

MOST_CHARACTERS = 2000
"""Of one value; the longest useful one is a traceback from a board."""
QUEUE_LINES = 10_000
CLOSE_TIMEOUT_S = 2.0

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# sd-daemon(3): a line that starts with <n> gets that priority in the journal.
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
# Their information is either ours as well (uvicorn's start and stop) or too much of it (alembic's every step).
_QUIET_LIBRARIES: Final = ("uvicorn", "sqlalchemy", "alembic", "asyncio")


def one_line(text: str | bytes, most_characters: int = MOST_CHARACTERS) -> str:
    r"""Return `text` fit for one line of a log: bytes decoded as UTF-8, what is not printable as `\n`, `\x1b`, capped."""
    # Four bytes are the longest character, so the cut before decoding never loses one that would be kept.
    shown = text[: 4 * most_characters].decode(errors="backslashreplace") if isinstance(text, bytes) else text
    return _escaped(shown, len(text), most_characters)


class LogWriter:
    """The thread that writes lines, and the bounded queue before it. Close it last, to flush what is queued.

    `on_drop` is called, from any thread, for each line that is thrown away; `confess` renders the line that says how many
    were, once there is room again.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        confess: Callable[[int], str],
        on_drop: Callable[[], None] = lambda: None,
        most_lines: int = QUEUE_LINES,
    ) -> None:
        self._stream = stream
        self._confess = confess
        self._on_drop = on_drop
        self._lines: queue.Queue[str | None] = queue.Queue(most_lines)
        self._lock = threading.Lock()
        self._dropped = 0
        self._unconfessed = 0
        self._closing = False
        self._thread = threading.Thread(target=self._write_all, name="station-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were thrown away so far: the queue was full, or the stream is broken."""
        return self._dropped

    def put(self, line: str) -> None:
        """Queue one line (without its end) from any thread; returns at once, also when nobody reads."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._drop(to_confess=1)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Write what is queued and end the thread; gives up after `timeout_s` when nobody reads."""
        self._closing = True
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)  # only wakes the thread
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while not (self._closing and self._lines.empty()):
            line = self._lines.get()
            if line is not None:
                self._write(line)
            if self._unconfessed and self._lines.qsize() <= self._lines.maxsize // 2:
                with self._lock:
                    lost, self._unconfessed = self._unconfessed, 0
                self._write(self._confess(lost))
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            if self._lines.empty():
                self._stream.flush()
        except (OSError, ValueError):
            # The reader is gone or the stream is closed: a lost log is counted, never a reason to stop a bench. It is not
            # confessed either, since that line would be lost as well, and confessed, for ever.
            self._drop(to_confess=0)

    def _drop(self, *, to_confess: int) -> None:
        with self._lock:
            self._dropped += 1
            self._unconfessed += to_confess
        self._on_drop()


@contextlib.contextmanager
def configure_logging(
    level: LogLevel,
    log_format: LogFormat,
    stream: TextIO,
    *,
    on_drop: Callable[[], None] = lambda: None,
    vault: Vault | None = None,
) -> Iterator[LogWriter]:
    """Send all events, and those of libraries that use `logging`, to `stream` while the context is open; flush at its end.

    `auto` writes for people when `stream` is a terminal and JSON otherwise. `on_drop` is called from any thread for each
    lost line. What is in the `vault` is taken out of every value. It is the outermost context of a program: what is logged
    after it goes where structlog sends it by default.
    """
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        partial(_without_secrets, vault or Vault()),
        _make_safe,
        _for_journald() if as_json else _for_people(colors=stream.isatty()),
    ]
    writer = LogWriter(stream, confess=partial(_confession, processors), on_drop=on_drop)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=False,
    )
    try:
        with _stdlib_taken_over(level):
            yield writer
    finally:
        structlog.reset_defaults()
        writer.close()


def _confession(processors: list[Processor], lines: int) -> str:
    """Render the event that says how many lines were lost; made here because the queue must not be needed for it."""
    event: Any = {"event": "log.dropped", "lines": lines}
    for process in processors:
        event = process(None, "warning", event)
    return str(event)


class _Lines:
    """What structlog calls at the end of its chain: every level puts the rendered line into the queue."""

    def __init__(self, writer: LogWriter) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = writer.put


class _FromStdlib(logging.Handler):
    """Passes records of the standard library's `logging` on as `library.said` with the library's name."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        # structlog knows the five levels only; libraries make up others (uvicorn's TRACE is 5).
        level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))
        structlog.get_logger().log(level, "library.said", library=record.name, said=message, exc_info=record.exc_info)


@contextlib.contextmanager
def _stdlib_taken_over(level: LogLevel) -> Iterator[None]:
    bridge = _FromStdlib()
    levels = {None: _LEVELS[level]} | dict.fromkeys(_QUIET_LIBRARIES, max(_LEVELS[level], logging.WARNING))
    before = {name: logging.getLogger(name).level for name in levels}
    for name, each in levels.items():
        logging.getLogger(name).setLevel(each)
    logging.getLogger().addHandler(bridge)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(bridge)
        for name, each in before.items():
            logging.getLogger(name).setLevel(each)


def _without_secrets(vault: Vault, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take out what nobody may see, before anything is escaped or cut."""
    return {key: _hidden(vault, value) for key, value in event.items()}


def _hidden(vault: Vault, value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return vault.value(value)
        case bytes():
            return vault.data(value)
        case _:
            return vault.text(str(value))


def _make_safe(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape and cap every value; numbers, truth and None stay what they are."""
    return {key: _safe_value(key, value) for key, value in event.items()}


def _safe_value(key: str, value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no NaN
    if value is None or isinstance(value, bool | int | float):
        return value
    if key == "exception":
        # Our own traceback: its line breaks are kept, everything else in it may come from a board.
        return "\n".join(one_line(line) for line in str(value)[-8 * MOST_CHARACTERS :].split("\n"))
    return one_line(value if isinstance(value, bytes) else str(value))


def _escaped(text: str, whole_length: int, most_characters: int) -> str:
    shown = text[:most_characters]
    if not shown.isprintable():
        # Not printable, by Unicode's own categories: controls, line separators, marks that reorder or hide text on a
        # terminal (Unicode TR 36), lone surrogates, unassigned.
        shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)
    return shown if whole_length <= most_characters else f"{shown}… ({whole_length} in all)"


def _for_journald() -> Processor:
    render = structlog.processors.JSONRenderer()

    def with_priority(logger: WrappedLogger, method: str, event: EventDict) -> str:
        ordered = {key: event[key] for key in ("timestamp", "level", "event")} | dict(event)
        return f"<{_PRIORITIES[event['level']]}>{render(logger, method, ordered)!s}"

    return with_priority


def _for_people(*, colors: bool) -> Processor:
    render = structlog.dev.ConsoleRenderer(colors=colors)

    def with_indented_traceback(logger: WrappedLogger, method: str, event: EventDict) -> str:
        traceback = str(event.pop("exception", ""))
        line = str(render(logger, method, event))
        return line + "".join(f"\n    | {each}" for each in traceback.splitlines())

    return with_indented_traceback

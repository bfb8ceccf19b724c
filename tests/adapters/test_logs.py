"""The log as journald and a person read it: one event, one line, whatever is in it and whoever reads it."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import bound_contextvars

from station.adapters.logs import LogWriter, configure_logging, one_line


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Whether a person reads."""
        return True


def events_of(stream: io.StringIO) -> list[tuple[int, dict[str, Any]]]:
    """Return priority and fields of each line."""
    lines = stream.getvalue().splitlines()
    return [(int(line[1]), json.loads(line[3:])) for line in lines]


def test_json_lines_carry_the_priority():
    """For journald each event is one JSON line behind the priority of its level, the words first."""
    stream = io.StringIO()
    with configure_logging("debug", "auto", stream):
        log = structlog.get_logger()
        log.debug("slot.seen")
        log.info("job.begun", attempt=1, baud=460800, ok=True, rate=0.5, nothing=None)
        log.warning("link.slow")
        log.error("records.unwritable")
        log.critical("station.dead")
    lines = events_of(stream)
    assert [(priority, event["event"]) for priority, event in lines] == [
        (7, "slot.seen"),
        (6, "job.begun"),
        (4, "link.slow"),
        (3, "records.unwritable"),
        (2, "station.dead"),
    ]
    _, begun = lines[1]
    assert list(begun)[:3] == ["timestamp", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", begun["timestamp"])
    assert {key: begun[key] for key in ("attempt", "baud", "ok", "rate", "nothing")} == {
        "attempt": 1,
        "baud": 460800,
        "ok": True,
        "rate": 0.5,
        "nothing": None,
    }


def test_level_and_format_are_obeyed():
    """Events below the level are not written, and a terminal gets readable lines without being asked."""
    stream = Terminal()
    with configure_logging("warning", "auto", stream):
        structlog.get_logger().info("job.begun")
        structlog.get_logger().warning("link.slow", slot="A3")
    text = stream.getvalue()
    assert "job.begun" not in text
    assert "link.slow" in text
    assert not text.startswith("<")
    stream = Terminal()
    with configure_logging("info", "json", stream):
        structlog.get_logger().info("job.begun")
    assert events_of(stream)[0][1]["event"] == "job.begun"


def test_slot_and_job_belong_to_their_thread():
    """What a job binds is on all its events and on nobody else's, and its thread's next job does not find it."""
    stream = io.StringIO()
    with configure_logging("info", "json", stream):
        both_bound = threading.Barrier(2)

        def work(slot: str) -> None:
            with bound_contextvars(slot=slot, job=f"job-{slot}", mac="5c:cf:7f:dd:c1:42"):
                both_bound.wait(30)
                structlog.get_logger().info("phase.begun", phase="FLASH")
            structlog.get_logger().info("slot.idle")

        threads = [threading.Thread(target=work, args=(slot,)) for slot in ("A1", "A2")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        structlog.get_logger().info("station.calm")
    events = [event for _, event in events_of(stream)]
    flashed = [event for event in events if event["event"] == "phase.begun"]
    assert {(event["slot"], event["job"], event["mac"]) for event in flashed} == {
        ("A1", "job-A1", "5c:cf:7f:dd:c1:42"),
        ("A2", "job-A2", "5c:cf:7f:dd:c1:42"),
    }
    assert all("slot" not in event for event in events if event["event"] in {"slot.idle", "station.calm"})


def test_a_board_cannot_forge_a_line():
    """Line breaks, escape sequences, NUL, reversed text and broken UTF-8 from a board stay visible text in one line."""
    said = 'x\r\n<3>{"event":"job.passed"}\x1b[2J\x00\u202egnp\ud800\x9b1m'
    for stream, log_format in ((io.StringIO(), "json"), (Terminal(), "console")):
        with configure_logging("info", log_format, stream):  # type: ignore[arg-type]
            structlog.get_logger().info("board.said", said=said, raw=b"\xff\xfe\n\x1b[0m")
        written = re.sub(r"\x1b\[\d*m", "", stream.getvalue()) if stream.isatty() else stream.getvalue()
        assert len(written.splitlines()) == 1
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", written)
    stream = io.StringIO()
    with configure_logging("info", "json", stream):
        structlog.get_logger().info("board.said", said=said, raw=b"\xff\xfe\n\x1b[0m")
    ((_, event),) = events_of(stream)
    assert event["said"] == r'x\r\n<3>{"event":"job.passed"}\x1b[2J\x00\u202egnp\ud800\x9b1m'
    assert event["raw"] == r"\xff\xfe\n\x1b[0m"


@given(st.one_of(st.text(), st.binary()), st.integers(1, 50))
def test_one_line_is_always_one_safe_line(said, most):
    """Whatever goes in, what comes out is one printable line of bounded length that survives UTF-8."""
    line = one_line(said, most)
    assert line.isprintable()
    assert len(line.encode()) <= 16 * most + 40


def test_floods_are_capped():
    """A value of any length costs one line of bounded length that says how much there was."""
    stream = io.StringIO()
    with configure_logging("info", "json", stream):
        structlog.get_logger().info("board.said", text="A" * 1_000_000, raw=b"B" * 1_000_000, many=["C"] * 100_000)
    ((_, event),) = events_of(stream)
    assert event["text"] == "A" * 2000 + "… (1000000 in all)"
    assert event["raw"] == "B" * 2000 + "… (1000000 in all)"
    assert len(event["many"]) < 2100


def test_numbers_json_cannot_say_become_text():
    """NaN and infinity do not break the JSON of a line."""
    stream = io.StringIO()
    with configure_logging("info", "json", stream):
        structlog.get_logger().info("measured", value=float("nan"), high=float("inf"))
    line = stream.getvalue()
    event = json.loads(line[3:], parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert (event["value"], event["high"]) == ("nan", "inf")


def raise_board_text() -> None:
    """Fail with words of a board in the message."""
    raise ValueError("board said \x1b[31m<3>boom")


def test_tracebacks_stay_in_their_event():
    """An exception is one JSON line with its traceback, and indented lines on a terminal, with its message made safe."""
    for log_format in ("json", "console"):
        stream = io.StringIO()
        with configure_logging("info", log_format, stream):
            try:
                raise_board_text()
            except ValueError:
                structlog.get_logger().exception("job.bug")
        assert "\x1b" not in stream.getvalue()
        if log_format == "json":
            ((priority, event),) = events_of(stream)
            assert priority == 3
            assert event["exception"].splitlines()[-1] == r"ValueError: board said \x1b[31m<3>boom"
        else:
            first, *rest = stream.getvalue().splitlines()
            assert "job.bug" in first
            assert all(line.startswith("    | ") for line in rest)
            assert rest[-1] == r"    | ValueError: board said \x1b[31m<3>boom"


def test_libraries_are_heard():
    """What libraries say through `logging` is an event like any other; their chatter below a warning is not."""
    stream = io.StringIO()
    with configure_logging("info", "json", stream):
        logging.getLogger("uvicorn.error").info("Started server process")
        logging.getLogger("alembic.runtime").info("Context impl SQLiteImpl.")
        logging.getLogger("uvicorn.error").warning("Exceeded %s\nlimit", "concurrency")
        logging.getLogger("pyudev").info("%d devices", 3)
        logging.getLogger("odd").log(25, "between two levels")
        logging.getLogger("odd").log(99, "beyond all levels")
    events = [(priority, event["library"], event["said"]) for priority, event in events_of(stream)]
    assert events == [
        (4, "uvicorn.error", r"Exceeded concurrency\nlimit"),
        (6, "pyudev", "3 devices"),
        (6, "odd", "between two levels"),
        (2, "odd", "beyond all levels"),
    ]


def test_a_library_that_logs_wrongly_is_heard_too():
    """A record whose words and arguments do not fit is passed on as it is, and raises nothing where it was logged."""
    stream = io.StringIO()
    with configure_logging("info", "json", stream):
        ours = logging.getLogger().handlers[-1]
        ours.handle(logging.LogRecord("pyudev", logging.INFO, __file__, 1, "%d devices", ("many",), None))
    ((_, event),) = events_of(stream)
    assert event["said"] == "%d devices"


def test_leaves_logging_as_it_was():
    """At the end of its context everything it changed is back, and its thread is gone."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("uvicorn").level)
    with configure_logging("debug", "json", io.StringIO()):
        assert any(thread.name == "station-log" for thread in threading.enumerate())
    assert (list(root.handlers), root.level, logging.getLogger("uvicorn").level) == before
    assert not structlog.is_configured()
    assert not any(thread.name == "station-log" for thread in threading.enumerate())


def test_everything_is_written_at_the_end(tmp_path):
    """Leaving the context has written all that was logged, in order, into a file that is still open."""
    path = tmp_path / "log"
    for number_of_events in (1, 5000):
        with path.open("w", encoding="utf-8") as stream:
            with configure_logging("info", "json", stream):
                for number in range(number_of_events):
                    structlog.get_logger().info("tick", number=number)
            written = [json.loads(line[3:])["number"] for line in path.read_text().splitlines()]
            assert written == list(range(number_of_events))


NOBODY_READS = """
import structlog, sys, time
from station.adapters.logs import configure_logging
with configure_logging("info", "json", sys.stdout) as writer:
    for number in range(20_000):
        structlog.get_logger().info("tick", number=number, padding="x" * 100)
    print(writer.dropped, file=sys.stderr, flush=True)
sys.exit(3)
"""


def test_a_log_nobody_reads_stalls_nobody():
    """With its reader asleep the log loses lines and counts them; the program runs on and ends with its own exit code."""
    with subprocess.Popen(
        [sys.executable, "-c", NOBODY_READS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        dropped = int(program.stderr.readline())
        assert program.wait(60) == 3
        kept = [json.loads(line[3:])["number"] for line in program.stdout.readlines()[:-1]]
        assert program.stderr.read() == ""
    assert dropped > 5000
    assert kept == list(range(len(kept)))
    assert len(kept) > 100


def test_lost_lines_are_confessed():
    """Once there is room again the log says itself how many lines it lost."""

    class SlowReader(io.StringIO):
        """Lets the first line through only when told to."""

        def __init__(self) -> None:
            super().__init__()
            self.awake = threading.Event()

        def write(self, text: str) -> int:
            assert self.awake.wait(30)
            return super().write(text)

    stream = SlowReader()
    drops: list[int] = []
    with configure_logging("info", "json", stream, on_drop=lambda: drops.append(1)) as writer:
        for number in range(10_050):
            structlog.get_logger().info("tick", number=number)
        lost = writer.dropped
        assert lost == len(drops) >= 49
        stream.awake.set()
    confessions = [event for _, event in events_of(stream) if event["event"] == "log.dropped"]
    assert sum(event["lines"] for event in confessions) == lost
    assert all(event["level"] == "warning" for event in confessions)


def test_a_vanished_reader_is_survived():
    """A broken pipe or a closed stream costs the lines, each counted once, and nothing else."""

    class NobodyThere(io.StringIO):
        """The write end of a pipe whose reader is gone."""

        def write(self, _text: str) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (NobodyThere(), closed):
        log_writer = LogWriter(stream, confess=str)
        for number in range(10):
            log_writer.put(str(number))
        log_writer.close(timeout_s=30)
        assert log_writer.dropped == 10

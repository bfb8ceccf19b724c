"""The lane of the labels, with real records and a printer at a real socket: each label once, whatever the printer does."""

from __future__ import annotations

import functools
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from station.adapters import label_lane, printer
from station.adapters.label_lane import LabelLane, label_maker
from station.adapters.printer import open_printer
from station.adapters.records import Database
from station.adapters.records.schema_labels import label
from station.config import Config, LabelSection
from station.errors import PrinterTrouble, RecordsUnwritable
from station.model import Lot
from tests.adapters.printer_rig import FakePrinter, printing
from tests.adapters.records.samples import PASSED, T0, board, make_lot, record, url_of

PATIENCE_S = 30


class Gauges:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.waiting = 0

    def labels_waiting(self, labels: int) -> None:
        """So many."""
        self.waiting = labels

    def label_ended(self, state: str) -> None:
        """One more."""
        self.ended[str(state)] += 1


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """Look and try again at once, and hear the end of every talk."""
    monkeypatch.setattr(label_lane, "LOOK_S", 0.02)
    monkeypatch.setattr(label_lane, "RETRY_S", 0.05)
    # Every printer here closes when it has heard the end, or breaks off: on a busy machine that may take a while.
    monkeypatch.setattr(printer, "GOODBYE_S", 10.0)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Lot]:
    """Records with a lot."""
    file = tmp_path_factory.mktemp("records") / "empty.db"
    with Database.open(url_of(file), now=lambda: T0) as database:
        return file, make_lot(database)


@pytest.fixture
def books(empty: tuple[Path, Lot], tmp_path: Path) -> Iterator[Database]:
    """A copy of them, where every PASS asks for a label."""
    file = Path(shutil.copy(empty[0], tmp_path / "station.db"))
    with Database.open(url_of(file), station_id="bench-1") as database:
        database.labels.wanted = True
        yield database


def lane_of(books: Database, at: FakePrinter, gauges: Gauges | None = None) -> LabelLane:
    """A lane between them."""
    make = label_maker(Config(label=LabelSection(url="http://station")), b"")
    opened = functools.partial(open_printer, at.url)
    return LabelLane(books.labels, open_printer=opened, render=make, gauges=gauges or Gauges())


def passes(books: Database, lot: Lot, *numbers: int) -> None:
    """Let these boards pass."""
    for number in numbers:
        record(books, f"job-{number}", lot, PASSED, identity=board(number))


def until(true: Callable[[], object]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def urls(at: FakePrinter) -> list[str]:
    """Whose labels were printed, by the address on them."""
    return [at.said_on(number)[0].rpartition("/")[2] for number in range(len(at.labels))]


def test_every_pass_gets_its_label_one_after_the_other(books: Database, empty: tuple[Path, Lot]) -> None:
    """In the order in which they passed, one connection at a time."""
    gauges = Gauges()
    with printing() as at, lane_of(books, at, gauges) as lane:
        passes(books, empty[1], 1, 2, 3)
        until(lambda: gauges.ended["printed"] == 3)
        assert urls(at) == ["18fe34000001", "18fe34000002", "18fe34000003"]
        until(lambda: gauges.waiting == 0)
        assert (at.at_once, lane.trouble) == (1, "")
    assert [label.state for label in _labels(books)] == ["printed"] * 3


@pytest.mark.parametrize("mood", ["paper out", "paused", "head open"])
def test_a_printer_that_cannot_print_is_waited_for(books: Database, empty: tuple[Path, Lot], mood) -> None:
    """The page says what it needs and how many wait; as soon as it can, each label comes once."""
    gauges = Gauges()
    with printing(mood) as at, lane_of(books, at, gauges) as lane:
        passes(books, empty[1], 1, 2)
        until(lambda: lane.trouble == f"{mood}; 2 labels wait")
        assert at.labels == []
        at.mood = "well"
        until(lambda: gauges.ended["printed"] == 2)
        assert urls(at) == ["18fe34000001", "18fe34000002"]
        assert lane.trouble == ""


def test_a_label_that_broke_off_is_not_sent_again(books: Database, empty: tuple[Path, Lot]) -> None:
    """A part of it may be on paper: it is lost, said so, and the next one is printed; a person asks for another."""
    gauges = Gauges()
    with printing("breaks") as at, lane_of(books, at, gauges) as lane:
        passes(books, empty[1], 1)
        until(lambda: gauges.ended["failed"] == 1)
        assert "station label print 18:fe:34:00:00:01" in lane.trouble
        at.mood = "well"
        passes(books, empty[1], 2)
        until(lambda: gauges.ended["printed"] == 1)
        assert urls(at) == ["18fe34000002"]
        books.labels.ask_again("18:fe:34:00:00:01", "Ada", "broke off")
        until(lambda: gauges.ended["printed"] == 2)
        assert urls(at) == ["18fe34000002", "18fe34000001"]


def test_a_printer_that_breaks_off_costs_one_label_at_a_time(
    books: Database, empty: tuple[Path, Lot], monkeypatch
) -> None:
    """After a label that broke off the others wait a while: they are not all thrown at what breaks labels."""
    monkeypatch.setattr(label_lane, "RETRY_S", 3600.0)
    gauges = Gauges()
    with printing("breaks") as at:
        passes(books, empty[1], 1, 2, 3)
        with lane_of(books, at, gauges) as lane:
            until(lambda: gauges.ended["failed"])
            until(lambda: "2 labels wait" in lane.trouble)
    assert [label.state for label in _labels(books)] == ["failed", "queued", "queued"]


def test_a_printer_that_hangs_up_at_once_is_waited_for(books: Database, empty: tuple[Path, Lot]) -> None:
    """Nothing was sent: the label waits, and comes once."""
    with printing("hangs up") as at, lane_of(books, at) as lane:
        passes(books, empty[1], 1)
        until(lambda: "hangs up" in lane.trouble)
        at.mood = "well"
        until(lambda: at.labels)
        until(lambda: [label.state for label in _labels(books)] == ["printed"])
    assert urls(at) == ["18fe34000001"]


@pytest.mark.parametrize("name", ["begin", "back"])
def test_a_label_of_which_nothing_was_sent_is_not_forgotten(
    books: Database, empty: tuple[Path, Lot], monkeypatch, name
) -> None:
    """The records break down around its row, before or after it was written: it waits again, and comes once."""
    really, broke = getattr(books.labels, name), threading.Event()

    def breaking(label_id: str) -> bool | None:
        if broke.is_set():
            return really(label_id)
        broke.set()
        if name == "begin":
            really(label_id)
        raise RecordsUnwritable("disk full")

    monkeypatch.setattr(books.labels, name, breaking)
    if name == "back":
        refused = iter([PrinterTrouble("it takes no data", sent=False)])
        sent = printer._Link.send

        def send(link: printer._Link, zpl: bytes) -> None:
            for trouble in refused:
                raise trouble
            sent(link, zpl)

        monkeypatch.setattr(printer._Link, "send", send)
    with printing() as at, lane_of(books, at):
        passes(books, empty[1], 1)
        until(lambda: at.labels)
        until(lambda: [label.state for label in _labels(books)] == ["printed"])
        assert broke.is_set()
    assert urls(at) == ["18fe34000001"]


def test_what_waits_survives_a_restart_and_comes_once(books: Database, empty: tuple[Path, Lot]) -> None:
    """A label that was never sent is printed by the next station, one that was printed is not printed again."""
    with printing("paused") as at:
        with lane_of(books, at) as lane:
            passes(books, empty[1], 1)
            until(lambda: lane.trouble)
        at.mood = "well"
        for _ in range(2):
            gauges = Gauges()
            with lane_of(books, at, gauges):
                until(lambda: at.labels and not books.labels.waiting())
        assert urls(at) == ["18fe34000001"]


def test_a_death_in_the_middle_prints_nothing_twice(books: Database, empty: tuple[Path, Lot]) -> None:
    """The row said that it was being sent: nobody knows, so nobody sends it again, and the page says so."""
    passes(books, empty[1], 1)
    wanted = books.labels.next()
    assert wanted is not None
    books.labels.begin(wanted.id)
    with printing() as at, lane_of(books, at) as lane:
        until(lambda: lane.trouble)
        assert "1 labels may have been printed" in lane.trouble
        assert at.labels == []
    assert [label.state for label in _labels(books)] == ["failed"]


def test_a_label_whose_end_cannot_be_written_is_not_printed_again(
    books: Database, empty: tuple[Path, Lot], monkeypatch
) -> None:
    """It was printed, and the disk is full: what it came to is written as soon as that can be, before anything else."""
    gauges, full = Gauges(), threading.Event()
    really = books.labels.end

    def end(*what) -> None:
        if not full.is_set():
            full.set()
            raise RecordsUnwritable("disk full")
        really(*what)

    monkeypatch.setattr(books.labels, "end", end)
    with printing() as at, lane_of(books, at, gauges):
        passes(books, empty[1], 1, 2)
        until(lambda: len(at.labels) == 2 and not books.labels.waiting())
        until(lambda: [label.state for label in _labels(books)] == ["printed", "printed"])
        assert urls(at) == ["18fe34000001", "18fe34000002"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_of_ours_costs_labels_and_is_said(books: Database, empty: tuple[Path, Lot]) -> None:
    """The lane dies, and nobody waits for labels in vain: the page says so until the station is restarted."""

    def broken(_wanted: object) -> bytes:
        raise RuntimeError("ours")

    with printing() as at:
        opened = functools.partial(open_printer, at.url)
        with LabelLane(books.labels, open_printer=opened, render=broken, gauges=Gauges()) as lane:
            assert lane.trouble == ""
            passes(books, empty[1], 1)
            until(lambda: "restarted" in lane.trouble)
        assert at.labels == []


def _labels(books: Database):
    """The rows of the labels, oldest first."""
    return books._read(lambda connection: connection.execute(select(label).order_by(label.c.sequence)).all())

"""The lane of the labels: one thread that prints what waits in the records, one label at a time.

A PASS never waits for it and never hears of it. A printer that is off, paused or out of paper keeps the labels waiting and
is asked again every few seconds; one that breaks off in the middle of a label costs that label, and a person asks for another
one. Nothing that may have left this machine is sent twice. `trouble` is for the notices of the page.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Protocol, Self

import structlog

from station.adapters.printer import Printer
from station.adapters.records import LabelBook, LabelState, WantedLabel
from station.boarddata import SERIAL
from station.config import Config
from station.errors import PrinterTrouble, RecordsUnwritable
from station.labels import LabelText, board_url, zpl_for

LOOK_S = 1.0
"""So often the records are asked for a label."""
RETRY_S = 5.0
"""So long a printer that cannot print is left alone."""
CLOSE_S = 20.0
"""So long the end of the station waits for the label that is being sent."""
log = structlog.get_logger()


def label_maker(config: Config, template: bytes) -> Callable[[WantedLabel], bytes]:
    """Return what makes ZPL of a label that is wanted."""

    def make(wanted: WantedLabel) -> bytes:
        given = dict(wanted.values)
        text = LabelText(
            mac=wanted.mac,
            chip_id=wanted.chip_id,
            serial=given.pop(SERIAL, ""),
            product=wanted.product,
            bench=wanted.station_id,
            slot=wanted.slot,
            url=board_url(config.label, config.http.listen, wanted.station_id, wanted.mac),
            attempt=wanted.attempt,
            values=tuple(given.items()),
        )
        return zpl_for(text, config.label, template)

    return make


class LabelGauges(Protocol):
    """What the lane reports to the metrics."""

    def labels_waiting(self, labels: int) -> None:
        """So many wait."""

    def label_ended(self, state: str) -> None:
        """One was printed, or is lost."""


class LabelLane:
    """Prints labels from `__enter__` to `__exit__`. `trouble` may be read from any thread."""

    def __init__(
        self,
        book: LabelBook,
        *,
        open_printer: Callable[[], AbstractContextManager[Printer]],
        render: Callable[[WantedLabel], bytes],
        gauges: LabelGauges,
    ) -> None:
        self._book, self._open_printer, self._render, self._gauges = book, open_printer, render, gauges
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)
        self._trouble = ""
        self._waiting = 0
        self._owed: Callable[[], None] | None = None
        """What the records have to take before anything else: how the last label ended, or that it waits again."""

    @property
    def trouble(self) -> str:
        """What a person must know; empty while all is well."""
        if not self._thread.is_alive() and not self._finish.is_set():
            return "no labels are printed until the station is restarted"
        waiting = f"; {self._waiting} labels wait" if self._waiting else ""
        return f"{self._trouble}{waiting}" if self._trouble else ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        recovered = False
        while not self._finish.is_set():
            pause_s = LOOK_S
            try:
                if not recovered:
                    self._recover()
                    recovered = True
                pause_s = self._step()
            except RecordsUnwritable as error:
                # The page says so already, in large letters.
                log.info("label.waits", problem=str(error))
            if pause_s:
                self._finish.wait(pause_s)

    def _recover(self) -> None:
        lost = self._book.recover()
        if lost:
            self._trouble = (
                f"{lost} labels may have been printed or not when the station went down (station label list)"
            )
            log.warning("label.recovered", labels=lost)
        for _ in range(lost):
            self._gauges.label_ended(LabelState.FAILED)

    def _step(self) -> float:
        """Print the label that has waited longest; return how long to wait before the next look."""
        self._pay()
        wanted = self._book.next()
        self._note_waiting()
        if wanted is None:
            return LOOK_S
        try:
            with self._open_printer() as printer:
                # Whatever becomes of this row when the records cannot be written: nothing was sent of its label.
                self._owed = partial(self._book.back, wanted.id)
                begun = self._book.begin(wanted.id)
                self._owed = None
                if begun:
                    return self._print(printer, wanted)
            self._gauges.label_ended(LabelState.FAILED)
        except PrinterTrouble as trouble:
            self._in_trouble(trouble.problem)
            return RETRY_S
        self._note_waiting()
        return 0.0

    def _print(self, printer: Printer, wanted: WantedLabel) -> float:
        """Send a label whose row says that it is being sent; whatever happens, the row says how it ended."""
        try:
            printer.send(self._render(wanted))
        except PrinterTrouble as trouble:
            if not trouble.sent:
                self._owed = partial(self._book.back, wanted.id)
                self._pay()
                raise
            self._in_trouble(
                f"label of {wanted.mac} broke off ({trouble.problem}): look, then station label print {wanted.mac}"
            )
            self._end(wanted, LabelState.FAILED, trouble.problem)
            # What broke one label off is not to be fed with all the others.
            return RETRY_S
        self._trouble = ""
        self._end(wanted, LabelState.PRINTED)
        return 0.0

    def _end(self, wanted: WantedLabel, state: LabelState, detail: str = "") -> None:
        self._gauges.label_ended(state)
        log.info("label.ended", mac=wanted.mac, attempt=wanted.attempt, state=state, problem=detail)
        self._owed = partial(self._book.end, wanted.id, state, detail)
        self._pay()
        self._note_waiting()

    def _pay(self) -> None:
        if self._owed is not None:
            self._owed()
            self._owed = None

    def _in_trouble(self, problem: str) -> None:
        if problem != self._trouble:
            log.warning("label.not_printed", problem=problem)
        self._trouble = problem

    def _note_waiting(self) -> None:
        self._waiting = self._book.waiting()
        self._gauges.labels_waiting(self._waiting)

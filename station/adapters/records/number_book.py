"""The numbers of this station, asked from outside a transaction: what jobs, commands and metrics call.

Each call is one transaction through the lane of `Database`, durable when it returns. Before its commit the high-water file
beside the records has what they will say.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from station.adapters.records import numbers
from station.adapters.records.numbers import Ledger, Span, Word
from station.model import Issued

T = TypeVar("T")


class Transact(Protocol):
    """Does work in one transaction."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Return what the work returned, after its commit."""


class NumberBook:
    """The numbers of one station. Thread-safe."""

    def __init__(
        self, *, read: Transact, write: Transact, file: Path, station_id: str, now: Callable[[], datetime]
    ) -> None:
        self._read, self._write, self._now = read, write, now
        self._file, self._station_id = file, station_id

    def ledger(self, connection: Connection) -> Ledger:
        """Return the numbers inside a transaction that somebody else commits."""
        return Ledger(connection, self._file, self._station_id)

    def reserve_number(self, pool: str, mac: str, job_id: str, labels: tuple[str, ...] = ()) -> Issued | None:
        """Return this MAC's number in the pool: the one it has, else the lowest that is free; None when none is.

        With `labels`, number 1 is the first of them; a number beyond them is not handed out. Raises `RecordsUnwritable`.
        """
        now = self._now()
        return self._write(lambda connection: self.ledger(connection).reserve(pool, mac, job_id, labels, now))

    def grant(self, span: Span, person: str, reason: str, station_id: str = "") -> None:
        """Give a range to this station, or say that another one has it; raises `ConfigurationError` for an overlap."""
        word = self._word(person, reason)
        self._write(lambda connection: self.ledger(connection).grant(span, station_id or self._station_id, word))

    def burn(self, span: Span, person: str, reason: str) -> int:
        """See to it that nobody gets these numbers; return how many. Raises `ConfigurationError` for none."""
        word = self._word(person, reason)
        return self._write(lambda connection: self.ledger(connection).burn(span, word))

    def release(self, span: Span, person: str, reason: str) -> int:
        """Let burned numbers be handed out after all; return how many. Raises `ConfigurationError` for none."""
        word = self._word(person, reason)
        return self._write(lambda connection: self.ledger(connection).release(span, word))

    def left(self) -> dict[str, int]:
        """Return pool -> how many numbers this station can still hand out."""
        return self._read(lambda connection: numbers.left(connection, self._station_id))

    def _word(self, person: str, reason: str) -> Word:
        return Word(person=person, reason=reason, now=self._now())

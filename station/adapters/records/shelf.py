"""The bundles in the records, and the lots that succeed one another: what `Database.shelf` offers.

It reads and writes through the database's own lane; see `Database` for what a write promises.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from station.adapters.records import bundles, successions
from station.adapters.records.bundles import BundleEvent, BundleRow, BundleState, KeptBundle
from station.adapters.records.lots import LotRequest
from station.adapters.records.successions import PendingChoice, Succeeded
from station.model import Lot

T = TypeVar("T")


class Lane(Protocol):
    """How a database is asked."""

    def __call__(self, work: Callable[[Connection], T], /) -> T:
        """Do `work` in a transaction of its own."""


class Shelf:
    """The bundles that the records keep. Thread-safe."""

    def __init__(self, *, read: Lane, write: Lane, now: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self._read, self._write, self._now, self._new_id = read, write, now, new_id

    def keep(self, row: BundleRow) -> None:
        """Keep a bundle as a draft, unless it is kept already."""
        now = self._now()
        self._write(lambda connection: bundles.keep(connection, row, now))

    def say(
        self, key: str, event: BundleEvent, *, person: str, reason: str, first_article_job: str | None = None
    ) -> KeptBundle:
        """Release or withdraw the bundle that the first digits `key` of its sha256 name; raises `ConfigurationError`."""
        now = self._now()
        self._write(lambda connection: bundles.say(connection, key, event, person, reason, first_article_job, now))
        return self.find(key)

    def find(self, key: str) -> KeptBundle:
        """Return the bundle that the first digits of its sha256 name; raises `ConfigurationError`."""
        return self._read(lambda connection: bundles.one(connection, key))

    def kept(self) -> tuple[KeptBundle, ...]:
        """Return all bundles, newest first."""
        return self._read(bundles.kept)

    def state(self, sha256: str) -> BundleState | None:
        """Return what people last said of a bundle; None for one that is not kept."""
        return self._read(lambda connection: bundles.state(connection, sha256))

    def content(self, sha256: str) -> bytes:
        """Return a bundle byte for byte; raises LookupError for one that is not kept."""
        return self._read(lambda connection: bundles.content(connection, sha256))

    def of_recipe(self, recipe_hash: str) -> tuple[str, ...]:
        """Return the sha256 of every bundle of a recipe, newest first."""
        return self._read(lambda connection: bundles.of_recipe(connection, recipe_hash))

    def succeed(self, old: Lot, request: LotRequest, choice: PendingChoice) -> Succeeded:
        """Close a lot and open its successor in one step; raises `ConfigurationError` (see `successions.succeed`)."""
        now, new_id = self._now(), self._new_id
        return self._write(lambda connection: successions.succeed(connection, old, request, choice, new_id, now))

    def is_finished_later(self, lot_id: str) -> bool:
        """Whether the boards that wait in this closed lot shall be tested under its own recipe."""
        return self._read(lambda connection: successions.is_finished_later(connection, lot_id))

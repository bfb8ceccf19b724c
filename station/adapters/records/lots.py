"""The rows of lots: who opened, paused and closed which work order, and what a person booked out of it by hand.

Every change is a row of its own in `lot_event`; `lot.state` is the last of them. A closed lot stays closed. Every function
takes the connection of a transaction that somebody else begins and commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from station.adapters.records.jobs import next_sequence
from station.adapters.records.schema import firmware, lot, lot_event, recipe, reject
from station.errors import ConfigurationError
from station.model import Lot, LotState

THE_STATION = "station"
"""The person of what the station does by itself."""
_EVENTS = {LotState.OPEN: "open", LotState.PAUSED: "pause", LotState.CLOSED: "close"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareRow:
    """An image that a recipe may put on a board."""

    sha256: str
    version: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRow:
    """What the records keep of a recipe and its image, so that a job can be understood without the files."""

    hash: str
    name: str
    version: str
    text: str
    """The canonical recipe that `hash` is the sha256 of."""
    firmware_sha256: str
    firmware_version: str = ""
    firmware_size_bytes: int | None = None
    images: tuple[FirmwareRow, ...] = ()
    """Every image that it may put on a board, by the flash that is found; the one above need not be among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LotRequest:
    """A work order as a person, or the configuration, asks for it."""

    recipe_hash: str
    product: str
    person: str
    supplier_batch: str = ""
    target_quantity: int | None = None


class RejectReason(StrEnum):
    """Why a person booked a module out of a lot."""

    NO_ANSWER = "no_answer"
    """It stays silent after it was seated once more."""
    DAMAGED = "damaged"
    WRONG_PART = "wrong_part"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectRow:
    """One module that a person books out of a lot; it has no MAC, and is in no yield."""

    id: str
    lot_id: str
    reason: RejectReason
    person: str
    slot: str = ""


def ensure_recipe(connection: Connection, row: RecipeRow, now: datetime) -> None:
    """Write recipe and firmware unless they are known; both are named by their content, so they never change."""
    images = [(row.firmware_sha256, row.firmware_version, row.firmware_size_bytes)]
    images += [(image.sha256, image.version, image.size_bytes) for image in row.images]
    for sha256, version, size_bytes in images:
        if connection.execute(select(firmware.c.sha256).where(firmware.c.sha256 == sha256)).first() is None:
            made = insert(firmware).values(sha256=sha256, version=version, size_bytes=size_bytes, first_used_at=now)
            connection.execute(made)
    if connection.execute(select(recipe.c.hash).where(recipe.c.hash == row.hash)).first() is None:
        made = insert(recipe).values(hash=row.hash, name=row.name, version=row.version, text=row.text)
        connection.execute(made.values(firmware_sha256=row.firmware_sha256, first_used_at=now))


def standing(connection: Connection, request: LotRequest, lot_id: str, now: datetime) -> Lot:
    """Return the standing lot of a recipe, product and supplier batch, made as `lot_id` if there is none.

    Standing lots of other recipes stay as they are: a technician's `station flash` has its own beside the daemon's.
    """
    return known_standing(connection, request) or _create(connection, request, lot_id, now, is_standing=True)


def known_standing(connection: Connection, request: LotRequest) -> Lot | None:
    """Return the standing lot of a recipe, product and supplier batch that is not closed; None when there is none."""
    standing_ones = _not_closed(connection, standing=True)
    return next((lot_of(row) for row in standing_ones if _order_of(row) == _order_of(request)), None)


def open_by_hand(connection: Connection, request: LotRequest, lot_id: str, now: datetime) -> Lot:
    """Open a lot as `lot_id`, or open again the paused one of the same recipe, product and supplier batch.

    Raises `ConfigurationError` while another lot opened by hand is not closed: the bench makes one thing at a time.
    """
    for row in _not_closed(connection, standing=False):
        if _order_of(row) == _order_of(request):
            return change(connection, row.id, LotState.OPEN, request.person, now)
        raise ConfigurationError(
            file=f"lot {row.id}",
            problem=f"the lot {row.product!r} opened by {row.person!r} is still {row.state}",
            fix="station lot close",
        )
    return _create(connection, request, lot_id, now, is_standing=False)


def change(connection: Connection, lot_id: str, state: LotState, person: str, now: datetime) -> Lot:
    """Pause or close a lot; asking for the state it has changes nothing. Raises `ConfigurationError`."""
    row = _one(connection, lot_id)
    if row is None:
        raise ConfigurationError(file=f"lot {lot_id}", problem="there is no such lot", fix="station lot open")
    if row.state == state:
        return lot_of(row)
    if row.state == LotState.CLOSED:
        raise ConfigurationError(file=f"lot {lot_id}", problem="it is closed", fix="open a new one: station lot open")
    return _change(connection, lot_id, state, person, now)


def pause_hand_opened(connection: Connection, now: datetime) -> int:
    """Pause every open lot that a person opened; return their number."""
    to_pause = [row for row in _not_closed(connection, standing=False) if row.state == LotState.OPEN]
    for row in to_pause:
        _change(connection, row.id, LotState.PAUSED, THE_STATION, now)
    return len(to_pause)


def one(connection: Connection, lot_id: str) -> Lot | None:
    """Return a lot as it is now; None when there is no such lot."""
    row = _one(connection, lot_id)
    return None if row is None else lot_of(row)


def current(connection: Connection) -> Lot | None:
    """Return the lot opened by hand that is not closed, be it open or paused; None when there is none."""
    rows = _not_closed(connection, standing=False)
    return lot_of(rows[0]) if rows else None


def add_rejects(connection: Connection, rows: Sequence[RejectRow], now: datetime) -> None:
    """Write what a person booked out, each row once; raises `ConfigurationError` for an unknown or closed lot."""
    for row in rows:
        if connection.execute(select(reject.c.id).where(reject.c.id == row.id)).first() is not None:
            continue
        found = _one(connection, row.lot_id)
        if found is None or found.state == LotState.CLOSED:
            problem = "there is no such lot" if found is None else "it is closed"
            raise ConfigurationError(file=f"lot {row.lot_id}", problem=problem, fix="station lot open")
        made = insert(reject).values(id=row.id, sequence=next_sequence(connection, reject), lot_id=row.lot_id)
        connection.execute(made.values(reason=row.reason, person=row.person, slot=row.slot, happened_at=now))


def rejected(connection: Connection, lot_id: str) -> int:
    """Return how many modules were booked out of a lot."""
    return connection.execute(select(func.count()).select_from(reject).where(reject.c.lot_id == lot_id)).scalar_one()


def _not_closed(connection: Connection, *, standing: bool) -> Sequence[Row[Any]]:
    """Newest first."""
    of_kind = select(lot).where(lot.c.state != LotState.CLOSED, lot.c.standing.is_(standing))
    return connection.execute(of_kind.order_by(lot.c.sequence.desc())).all()


def _order_of(lot_or_request: Row[Any] | LotRequest) -> tuple[str, str, str]:
    """What makes two lots the same work order."""
    return lot_or_request.recipe_hash, lot_or_request.product, lot_or_request.supplier_batch


def _one(connection: Connection, lot_id: str) -> Row[Any] | None:
    return connection.execute(select(lot).where(lot.c.id == lot_id)).one_or_none()


def _create(connection: Connection, request: LotRequest, lot_id: str, now: datetime, *, is_standing: bool) -> Lot:
    row = insert(lot).values(
        id=lot_id,
        sequence=next_sequence(connection, lot),
        recipe_hash=request.recipe_hash,
        product=request.product,
        person=request.person,
        state=LotState.OPEN,
        standing=is_standing,
        supplier_batch=request.supplier_batch,
        target_quantity=request.target_quantity,
        opened_at=now,
    )
    connection.execute(row)
    return _log_event(connection, lot_id, LotState.OPEN, request.person, now)


def _change(connection: Connection, lot_id: str, state: LotState, person: str, now: datetime) -> Lot:
    closed_at = now if state is LotState.CLOSED else None
    connection.execute(update(lot).where(lot.c.id == lot_id).values(state=state, closed_at=closed_at))
    return _log_event(connection, lot_id, state, person, now)


def _log_event(connection: Connection, lot_id: str, state: LotState, person: str, now: datetime) -> Lot:
    count = select(func.count()).select_from(lot_event).where(lot_event.c.lot_id == lot_id)
    position = connection.execute(count).scalar_one()
    row = insert(lot_event).values(lot_id=lot_id, position=position, event=_EVENTS[state], person=person)
    connection.execute(row.values(happened_at=now))
    return lot_of(connection.execute(select(lot).where(lot.c.id == lot_id)).one())


def lot_of(row: Row[Any]) -> Lot:
    """Return the lot that a row of the table `lot` holds; raises ValueError for a state that is none."""
    return Lot(
        id=row.id,
        recipe_hash=row.recipe_hash,
        product=row.product,
        person=row.person,
        state=LotState(row.state),
        standing=row.standing,
        supplier_batch=row.supplier_batch,
    )

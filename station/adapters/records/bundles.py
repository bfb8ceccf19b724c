"""The rows of recipe bundles: kept byte for byte, and what people said of each: draft, released, withdrawn.

Every word is a row of its own in `bundle_event`; the last one is what holds. A withdrawn bundle stays withdrawn, and a bundle
is never changed or deleted. Every function takes the connection of a transaction that somebody else begins and commits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from station.adapters.records.jobs import next_sequence
from station.adapters.records.schema import job
from station.adapters.records.schema_bundles import bundle, bundle_event
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import Outcome

FEWEST_DIGITS = 6
"""So many digits of a bundle's sha256 name it, where they name one only."""
AFTER_WITHDRAWAL = "mend the recipe and give it a new version, freeze and import it, then: station lot succeed"
"""The fix of whatever a withdrawn bundle stops."""
_LIST = "station recipe list"


class BundleState(StrEnum):
    """What people last said of a bundle."""

    DRAFT = "draft"
    RELEASED = "released"
    WITHDRAWN = "withdrawn"


class BundleEvent(StrEnum):
    """What a person says of a bundle."""

    RELEASE = "release"
    WITHDRAW = "withdraw"


_STATES = {"draft": BundleState.DRAFT, "release": BundleState.RELEASED, "withdraw": BundleState.WITHDRAWN}


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRow:
    """A bundle, and who brought it."""

    sha256: str
    """Of the whole file."""
    recipe_hash: str
    name: str
    version: str
    content: bytes
    signed_by: str
    """The public key whose signature it carries; empty when it carries none."""
    person: str
    reason: str
    """Why it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """One row of what people said of a bundle."""

    event: str
    person: str
    reason: str
    first_article_job: str
    """Empty where none was named."""
    happened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBundle:
    """A bundle as it stands in the records, without its content."""

    sha256: str
    recipe_hash: str
    name: str
    version: str
    size_bytes: int
    signed_by: str
    person: str
    added_at: datetime
    state: BundleState
    sayings: tuple[Saying, ...]
    """Oldest first; the first one is `draft`."""

    @property
    def short(self) -> str:
        """The first twelve digits of the name, for people."""
        return self.sha256[:12]


def keep(connection: Connection, row: BundleRow, now: datetime) -> None:
    """Write a bundle as a draft, unless it is kept already; raises ValueError for content of another name."""
    if hashlib.sha256(row.content).hexdigest() != row.sha256:
        raise ValueError(f"bundle {row.sha256} has other content")
    if connection.execute(select(bundle.c.sha256).where(bundle.c.sha256 == row.sha256)).first() is not None:
        return
    made = insert(bundle).values(sha256=row.sha256, recipe_hash=row.recipe_hash, name=row.name, version=row.version)
    made = made.values(content=row.content, signed_by=row.signed_by, person=row.person, added_at=now)
    connection.execute(made.values(sequence=next_sequence(connection, bundle)))
    _say(connection, row.sha256, "draft", row.person, row.reason, None, now)


def say(
    connection: Connection,
    sha256: str,
    event: BundleEvent,
    person: str,
    reason: str,
    first_article_job: str | None,
    now: datetime,
) -> None:
    """Release or withdraw a bundle; raises `ConfigurationError` where that cannot be said of it."""
    found = one(connection, sha256)
    file = f"bundle {found.short}"
    if found.state is BundleState.WITHDRAWN:
        raise ConfigurationError(file=file, problem="it is withdrawn, for ever", fix=AFTER_WITHDRAWAL)
    if event is BundleEvent.RELEASE and found.state is BundleState.RELEASED:
        raise ConfigurationError(file=file, problem="it is released already", fix=_LIST)
    if first_article_job is not None:
        _check_first_article(connection, found, first_article_job)
    _say(connection, found.sha256, event, person, reason, first_article_job, now)


def state(connection: Connection, sha256: str) -> BundleState | None:
    """Return what people last said of a bundle; None for one that is not kept."""
    said = select(bundle_event.c.event).where(bundle_event.c.bundle_sha256 == sha256)
    row = connection.execute(said.order_by(bundle_event.c.position.desc()).limit(1)).one_or_none()
    return None if row is None else _STATES[row.event]


def content(connection: Connection, sha256: str) -> bytes:
    """Return a bundle byte for byte; raises LookupError for one that is not kept, `RecordsUnwritable` for a damaged one."""
    row = connection.execute(select(bundle.c.content).where(bundle.c.sha256 == sha256)).one_or_none()
    if row is None:
        raise LookupError(f"bundle {sha256} is not kept")
    if hashlib.sha256(row.content).hexdigest() != sha256:
        raise RecordsUnwritable(f"the database is corrupt: bundle {sha256[:12]} is not what was kept")
    return bytes(row.content)


def of_recipe(connection: Connection, recipe_hash: str) -> tuple[str, ...]:
    """Return the names of the bundles of a recipe, newest first."""
    named = select(bundle.c.sha256).where(bundle.c.recipe_hash == recipe_hash).order_by(bundle.c.sequence.desc())
    return tuple(connection.execute(named).scalars())


def kept(connection: Connection) -> tuple[KeptBundle, ...]:
    """Return all bundles, newest first."""
    return tuple(_kept(connection, row) for row in _rows(connection))


def one(connection: Connection, key: str) -> KeptBundle:
    """Return the bundle that the first digits of its sha256 name; raises `ConfigurationError` for none and for several."""
    wanted = key.lower()
    file = f"bundle {key}"
    if not re.fullmatch(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}", wanted):
        raise ConfigurationError(
            file=file, problem=f"no name of a bundle (at least {FEWEST_DIGITS} digits of its sha256)", fix=_LIST
        )
    rows = [row for row in _rows(connection) if row.sha256.startswith(wanted)]
    if len(rows) != 1:
        problem = "is not kept here" if not rows else f"names {len(rows)} bundles"
        raise ConfigurationError(
            file=file, problem=problem, fix=_LIST if rows else "station recipe import FILE --by NAME"
        )
    return _kept(connection, rows[0])


def _rows(connection: Connection) -> Sequence[Row[Any]]:
    """Newest first, without the content."""
    columns: list[Any] = [column for column in bundle.c if column.name != "content"]
    asked = select(*columns, func.length(bundle.c.content).label("size_bytes"))
    return tuple(connection.execute(asked.order_by(bundle.c.sequence.desc())))


def _kept(connection: Connection, row: Row[Any]) -> KeptBundle:
    said = select(bundle_event).where(bundle_event.c.bundle_sha256 == row.sha256).order_by(bundle_event.c.position)
    sayings = tuple(
        Saying(
            event=each.event,
            person=each.person,
            reason=each.reason,
            first_article_job=each.first_article_job or "",
            happened_at=each.happened_at,
        )
        for each in connection.execute(said)
    )
    return KeptBundle(
        sha256=row.sha256,
        recipe_hash=row.recipe_hash,
        name=row.name,
        version=row.version,
        size_bytes=row.size_bytes,
        signed_by=row.signed_by,
        person=row.person,
        added_at=row.added_at,
        state=_STATES[sayings[-1].event],
        sayings=sayings,
    )


def _check_first_article(connection: Connection, of: KeptBundle, job_id: str) -> None:
    made = connection.execute(select(job.c.outcome, job.c.recipe_hash).where(job.c.id == job_id)).one_or_none()
    problem = ""
    if made is None:
        problem = "there is no such job"
    elif made.recipe_hash != of.recipe_hash:
        problem = f"its board was made with recipe {made.recipe_hash[:8]}, not with {of.recipe_hash[:8]}"
    elif made.outcome != Outcome.PASS:
        problem = f"it did not end in PASS but in {made.outcome or 'nothing yet'}"
    if problem:
        raise ConfigurationError(
            file=f"job {job_id}", problem=problem, fix="make a board with: station flash --recipe BUNDLE; name its job"
        )


def _say(
    connection: Connection,
    sha256: str,
    event: str,
    person: str,
    reason: str,
    first_article_job: str | None,
    now: datetime,
) -> None:
    count = select(func.count()).select_from(bundle_event).where(bundle_event.c.bundle_sha256 == sha256)
    row = insert(bundle_event).values(bundle_sha256=sha256, position=connection.execute(count).scalar_one())
    row = row.values(event=event, person=person, reason=reason, first_article_job=first_article_job)
    connection.execute(row.values(happened_at=now))

"""What a person is shown: of one slot, of the whole bench, and of a visit under way.

Page, terminal, `/api/slots` and log take what they show from these, and from nothing else. Frozen data without behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from station.model import Light, Outcome, Phase

PENDING_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a running visit, for the tile, the terminal and the log."""

    phase: Phase
    fraction: float | None = None
    """0..1 within the phase, None where it is not known."""
    note: str = ""
    mac: str | None = None
    chip_id: int | None = None
    allow_s: float | None = None
    """So long the next sign of progress may take; None for the configured deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """One slot as a person sees it: what page, terminal and `/api/slots` show, and nothing else."""

    slot: str
    """The label, e.g. `A3`; for a place outside the slot map the short hub path."""
    place: str
    known: bool
    """False for a place that is not in the slot map: shown, never flashed."""
    light: Light
    headline: str
    """The one big word: EMPTY, BUSY, GOOD, BAD, AGAIN, CALL, WAIT …"""
    words: str
    """What happened, in a few words; from `station.reasons`."""
    deed: str
    """What the hand does next; empty when nothing is to be done."""
    phase: Phase | None = None
    fraction: float | None = None
    note: str = ""
    mac: str = ""
    chip_id: str = ""
    """Formatted as `0x00ddc142`, empty while unknown."""
    outcome: Outcome | None = None
    reason: str = ""
    cause: str = ""
    job_id: str = ""
    values: tuple[tuple[str, str], ...] = ()
    """Name and value of what the board was given and may be seen: its serial number first."""
    changed_at: str = ""
    """UTC, ISO 8601."""
    unwatched: bool = False
    """The board runs firmware that cannot be probed and may have left unseen: what is shown is as old as `changed_at`."""
    properties: str = ""
    """What the slot is, for people: `reset lines, gpio0 hand, board moves, make`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingView:
    """One board that was flashed and waits for its test."""

    mac: str
    chip_id: str
    slot: str
    """Where it was flashed."""
    product: str
    since: str
    """UTC, ISO 8601: when it was flashed."""
    words: str
    """What it waits for; from `station.reasons`."""


class Level(StrEnum):
    """How bad a diagnosis is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One line of `station doctor`: what was looked at, how it is, and what to do about it."""

    check: str
    """A fixed word per check, e.g. `brltty`: also the label of the metric."""
    level: Level
    said: str
    """What was found, in one line that names the thing."""
    fix: str = ""
    """What to do, in words; empty when all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StationView:
    """The whole bench as a person sees it."""

    station_id: str
    product: str
    """Name of the recipe; empty without one."""
    recipe_version: str
    recipe_hash: str
    """The first eight digits."""
    lot_state: str
    """open, paused, closed, or empty when there is no lot."""
    lot_person: str
    notices: tuple[str, ...]
    """Things that concern the whole bench and what to do about them; worst first."""
    slots: tuple[SlotView, ...]
    pending: tuple[PendingView, ...]
    """Boards that are flashed and not tested, longest waiting first; at most `PENDING_SHOWN` of them."""
    pending_count: int
    """How many there are in all."""
    rejected_count: int
    """Modules that a person booked out of the current lot by hand, without a MAC; in no yield."""
    ready: bool
    udev_heard: bool
    database_writable: bool
    recipe_loaded: bool
    light_healthy: bool = True
    diagnoses: tuple[Diagnosis, ...] = ()
    """What `station doctor` found when it last looked, without what is well."""

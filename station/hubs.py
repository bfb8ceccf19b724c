"""Which hub of the bench is disturbed: three slots of it lost within two seconds are one event, and no board's fault.

A hub is known by the places behind it, that is by USB topology alone. A slot is lost when its programmer vanishes while it
worked or waited for work, or when the line of its running visit breaks; a programmer that is pulled from a result is not,
for that is the operator's daily work. A hub that is disturbed is so until nothing was attached or detached behind it for
ten seconds. Thread-safe, pure, on the clock it is given; it never waits, and it decides about no board.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

WITHIN_S = 2.0
STILL_S = 10.0
SLOTS = 3
# `pci-0000:00:14.0-usb-0:2.3:1.0`, with `:1` appended for a port of an adapter that has several.
_PLACE = re.compile(r"(?P<root>.*usb\w*-\d+):(?P<ports>\d+(\.\d+)*):\d+\.\d+(:\d+)?")


@lru_cache(maxsize=1024)
def hubs_of(place: str) -> tuple[str, ...]:
    """Return the hubs that carry this place, the nearest one first.

    Outer hubs count, since a box of seven sockets is a hub behind a hub. The root hub counts for its own ports alone:
    without a hub between them, sockets share the controller. A place that is no USB path is a hub of its own.
    """
    path = _PLACE.fullmatch(place)
    if path is None:
        return (place,)
    root, ports = path["root"], path["ports"].split(".")
    return tuple(f"{root}:{'.'.join(ports[:depth])}" for depth in range(len(ports) - 1, 0, -1)) or (root,)


def short_hub(hub: str) -> str:
    """Return how a person calls this hub: `hub 2.4`, or `root hub`."""
    ports = re.search(r":(\d+(\.\d+)*)$", hub)
    return f"hub {ports[1]}" if ports else "root hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubNews:
    """A hub was disturbed, or has been still for long enough."""

    hub: str
    places: frozenset[str]
    """Of the slots that were lost by then; empty when it is still."""


@dataclass(slots=True, kw_only=True)
class _Lost:
    at_s: float
    in_visit_at_s: float
    """When a visit was lost here; the same slot may be lost once more, waiting, when its programmer is seen to go."""


@dataclass(slots=True, kw_only=True)
class _Disturbance:
    changed_at_s: float
    """When something was last attached, detached or lost behind this hub."""
    places: set[str] = field(default_factory=set)


class Hubs:
    """Every hub that carries a programmer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._attached: dict[str, tuple[str, ...]] = {}
        """The hubs of every place that holds a programmer."""
        self._lost: dict[str, _Lost] = {}
        self._disturbed: dict[str, _Disturbance] = {}
        self._ended: dict[str, float] = {}
        """When the last disturbance of a hub was over."""
        self._news: list[HubNews] = []
        self._lock = threading.Lock()

    def plugged(self, place: str) -> None:
        """A programmer is in this place now."""
        with self._lock:
            self._attached[place] = hubs_of(place)
            self._stir(place)

    def unplugged(self, place: str, *, lost: bool, in_visit: bool = False) -> None:
        """The programmer of this place is gone; `lost` unless its slot showed a result, `in_visit` while it was worked on."""
        with self._lock:
            self._stir(place)
            if lost:
                self._lose(place, in_visit=in_visit)
            self._attached.pop(place, None)

    def broke(self, place: str) -> None:
        """The line of the visit that ran in this place is broken, whether or not its programmer was seen to go."""
        with self._lock:
            self._stir(place)
            self._lose(place, in_visit=True)

    def verdict(self, place: str, since_s: float) -> bool | None:
        """Whether a hub of this place was disturbed since then; None as long as that may still come of what was lost just now.

        `since_s` is when the line broke or the asking began: two seconds later there is an answer.
        """
        with self._lock:
            now = self._forget_the_past()
            over = any(self._ended.get(hub, -math.inf) >= since_s for hub in hubs_of(place))
            if over or self._hub_that_is_disturbed(place):
                return True
            waited = now - since_s >= WITHIN_S
            return None if not waited and any(self._may_come(hub) for hub in hubs_of(place)) else False

    def disturbed(self, place: str) -> str:
        """Return the disturbed hub that carries this place; empty while all of them are still."""
        with self._lock:
            self._forget_the_past()
            return self._hub_that_is_disturbed(place)

    def all_disturbed(self) -> dict[str, frozenset[str]]:
        """Return the places that were lost, by hub, of every hub that is disturbed now."""
        with self._lock:
            self._forget_the_past()
            return {hub: frozenset(disturbance.places) for hub, disturbance in self._disturbed.items()}

    def news(self) -> tuple[HubNews, ...]:
        """Return what has changed since the last call, in order."""
        with self._lock:
            self._forget_the_past()
            news, self._news = self._news, []
            return tuple(self._told_whole(one) for one in news)

    # -- inside, with the lock held --------------------------------------------------------------------------------

    def _told_whole(self, one: HubNews) -> HubNews:
        """What was lost since it became an event belongs to the same event."""
        now = self._disturbed.get(one.hub)
        return HubNews(hub=one.hub, places=frozenset(now.places)) if now is not None and one.places else one

    def _lose(self, place: str, *, in_visit: bool) -> None:
        now, before = self._clock(), self._lost.get(place)
        in_visit_at_s = now if in_visit else before.in_visit_at_s if before else -math.inf
        self._lost[place] = _Lost(at_s=now, in_visit_at_s=in_visit_at_s)
        hub = self._hub_that_is_disturbed(place)
        if hub:
            self._disturbed[hub].places.add(place)
            return
        for hub in hubs_of(place):
            lost = self._lost_behind(hub)
            if len(lost) >= SLOTS and any(now - each.in_visit_at_s <= WITHIN_S for each in lost.values()):
                self._disturb(hub, set(lost))
                return

    def _disturb(self, hub: str, places: set[str]) -> None:
        """One event: what was an inner hub's alone until now is this hub's."""
        for inner in [each for each in self._disturbed if each.startswith(f"{hub}.")]:
            places |= self._disturbed.pop(inner).places
            self._news = [one for one in self._news if one.hub != inner]
        self._disturbed[hub] = _Disturbance(changed_at_s=self._clock(), places=places)
        self._news.append(HubNews(hub=hub, places=frozenset(places)))

    def _stir(self, place: str) -> None:
        self._forget_the_past()
        hub = self._hub_that_is_disturbed(place)
        if hub:
            self._disturbed[hub].changed_at_s = self._clock()

    def _forget_the_past(self) -> float:
        now = self._clock()
        for place in [place for place, lost in self._lost.items() if now - lost.at_s > WITHIN_S]:
            del self._lost[place]
        for hub in [hub for hub, one in self._disturbed.items() if now - one.changed_at_s >= STILL_S]:
            self._ended[hub] = self._disturbed.pop(hub).changed_at_s + STILL_S
            self._news.append(HubNews(hub=hub, places=frozenset()))
        return now

    def _hub_that_is_disturbed(self, place: str) -> str:
        return next((hub for hub in hubs_of(place) if hub in self._disturbed), "")

    def _lost_behind(self, hub: str) -> dict[str, _Lost]:
        return {place: lost for place, lost in self._lost.items() if hub in hubs_of(place)}

    def _may_come(self, hub: str) -> bool:
        lost = self._lost_behind(hub)
        occupied = lost.keys() | {place for place, hubs in self._attached.items() if hub in hubs}
        return bool(lost) and len(occupied) >= SLOTS

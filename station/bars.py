"""Which slots may make boards, as the records said last: what is still to be proven, quarantine, and the first article.

For eyes and for the gate (`station.gate`) only. Read in a thread every few seconds and kept for the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from station.errors import RecordsUnwritable
from station.model import Lot
from station.ports import ProofKeeper
from station.properties import SlotProperties
from station.proving import Standing, bar_of
from station.reasons import Reason
from station.recipe import PolicySection
from station.transitions import Blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the records said at one look."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    has_pass: bool = False


class Bars:
    """What keeps single slots from making boards. Used on the event loop, `look` aside."""

    def __init__(self, proofs: ProofKeeper | None, policy: PolicySection) -> None:
        self._proofs, self._policy = proofs, policy
        self._bars: dict[str, Blocked] = {}
        self.wants_first_article = proofs is not None and policy.first_article != "none"
        """Whether boards are made one at a time, until one passes."""

    def look(self, slots: Mapping[str, SlotProperties], lot: Lot, shift_began: datetime | None) -> _Seen | None:
        """Ask the records, in a thread; None where they cannot be read: then everything stays as it was."""
        if self._proofs is None:
            return None
        since = shift_began if self._policy.first_article == "shift" else None
        try:
            return _Seen(
                standings=self._proofs.standings(tuple(slots), lot.id, shift_began),
                has_pass=self._policy.first_article != "none" and self._proofs.has_pass(lot.id, since),
            )
        except RecordsUnwritable:
            return None

    def take(self, seen: _Seen, slots: Mapping[str, SlotProperties]) -> tuple[str, ...]:
        """Keep what was seen; return the labels of the slots where something has changed."""
        found: dict[str, Blocked] = {}
        for label, standing in seen.standings.items():
            prove = self._policy.prove if label in slots and slots[label].tests else ()
            bar = bar_of(standing, prove)
            if bar is not None:
                found[label] = Blocked(*bar)
        before, self._bars = self._bars, found
        self.wants_first_article = self._policy.first_article != "none" and not seen.has_pass
        return tuple(label for label in {*before, *found} if before.get(label) != found.get(label))

    def of(self, label: str) -> Blocked | None:
        """Why this slot may make no boards; None when it may."""
        return self._bars.get(label)

    @property
    def quarantined(self) -> Mapping[str, str]:
        """Label of each slot in quarantine, and why."""
        return {label: bar.detail for label, bar in self._bars.items() if bar.reason is Reason.SLOT_QUARANTINED}

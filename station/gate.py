"""What keeps slots from beginning now: the whole bench, a disturbed hub, the first article, and what a slot has to prove.

Answered at once, whenever a slot could begin, from what the records said last: the event loop never waits for a disk. It is
for eyes and for order on the bench; what decides about a board is asked of the records in its own visit (`station.proofs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from station.bars import Bars
from station.bookkeeping import Bookkeeping
from station.hubs import short_hub
from station.proving import shift_began
from station.reasons import Reason
from station.recipe import PolicySection, Recipe
from station.slot import Slot
from station.transitions import Blocked
from station.visit import Tools


class Gate:
    """What keeps slots from working. Used on the event loop."""

    def __init__(
        self,
        recipe: Recipe | None,
        clerk: Bookkeeping,
        tools: Tools,
        *,
        shifts: Sequence[str],
        slots: Callable[[], Mapping[str, Slot]],
    ) -> None:
        self.bars = Bars(tools.proofs, recipe.policy if recipe else PolicySection())
        self.closed = False
        """The station ends: nothing begins any more."""
        self._recipe, self._clerk, self._tools = recipe, clerk, tools
        self._shifts, self._slots = shifts, slots

    def blocked(self, label: str) -> Blocked | None:
        """Return why this slot may not work now; the first obstacle is the one to clear first."""
        slots = self._slots()
        if label not in slots:
            return Blocked(Reason.UNKNOWN_PLACE)
        if (whole := self._bench_blocked()) is not None:
            return whole
        hub = self._tools.hubs.disturbed(slots[label].place)
        if hub:
            return Blocked(Reason.HUB_DISTURBED, short_hub(hub))
        maker = self._first_article_in(label)
        return Blocked(Reason.FIRST_ARTICLE_RUNS, maker) if maker else None

    def for_proofs_only(self, label: str) -> bool:
        """Whether this slot, let in beside the first article, may judge known boards and make none."""
        return self.bars.wants_first_article and self.bars.of(label) is not None

    def shift_began(self) -> datetime | None:
        """Return when the shift of this moment began; None without shifts."""
        return shift_began(self._tools.now(), self._shifts)

    async def look(self) -> tuple[str, ...]:
        """Ask the records which slots may make boards; return the labels of those where that has changed."""
        lot = self._clerk.lot
        if lot is None or self.closed:
            return ()
        slots = {label: slot.properties for label, slot in self._slots().items()}
        seen = await asyncio.to_thread(self.bars.look, slots, lot, self.shift_began())
        return self.bars.take(seen, slots) if seen is not None else ()

    def _bench_blocked(self) -> Blocked | None:
        """Return why no slot may work now."""
        if self._recipe is None:
            return Blocked(Reason.NO_RECIPE)
        if self._clerk.image_changed:
            return Blocked(Reason.IMAGE_CHANGED, self._clerk.image_changed)
        if not self._clerk.writable:
            return Blocked(Reason.RECORDS_UNWRITABLE)
        if self._clerk.unreleased:
            return Blocked(Reason.NOT_RELEASED, self._clerk.unreleased)
        return Blocked(Reason.NO_WORK_ORDER) if self.closed or not self._clerk.lot_is_open else None

    def _first_article_in(self, label: str) -> str:
        """Return the other slot that makes a board for which this one has to wait; empty when it need not.

        What still has to prove itself makes nothing, so it neither waits nor is waited for.
        """
        makers = [
            other
            for other, slot in self._slots().items()
            if slot.properties.flashes and self.bars.of(other) is None and (slot.busy or other == label)
        ]
        waits = self.bars.wants_first_article and label in makers
        return next((other for other in makers if other != label), "") if waits else ""

"""Who has the line of one slot: its visit, or who looks into its socket; and since when it has been asked back.

Asking takes the line away at once, and no more than that: whoever had it still has to come back, and until then nobody else
gets it. Who takes longer than `LET_GO_S` is stuck. It decides nothing about states: what follows is the slot's.
"""

from __future__ import annotations

from station.lookout import Lookout
from station.model import StopCause
from station.ports import Clock
from station.visiting import Visiting

LET_GO_S = 45.0
"""So long whoever has the line may take to give it back; a close whose output cannot drain takes 31 s (faults.md B-9)."""


class LineOwners:
    """The two that use the line of a slot, one at a time. Used on the event loop."""

    def __init__(self, visiting: Visiting, lookout: Lookout, clock: Clock) -> None:
        self._visiting, self._lookout, self._clock = visiting, lookout, clock
        self.stuck = False
        """Whether the slot has given up waiting for its line; the next plug, or the line itself, may change that."""
        self._asked_at: float | None = None

    @property
    def back(self) -> bool:
        """Whether no thread of this slot has its line."""
        return self._visiting.free and self._lookout.free

    @property
    def kept(self) -> bool:
        """Whether it was asked for long ago, is not back, and nobody has given it up yet."""
        return self._asked_at is not None and self._clock() - self._asked_at >= LET_GO_S and not self.stuck

    def take(self, cause: StopCause) -> None:
        """Ask whoever has the line to give it back: at once, and no more can be done."""
        if self._asked_at is None and not self.back:
            self._asked_at = self._clock()
        self._visiting.interrupt(cause)
        self._lookout.interrupt(cause)

    def came_back(self) -> None:
        """Whoever had it is back: nothing is asked for any more."""
        self._asked_at, self.stuck = None, False

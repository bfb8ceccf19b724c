"""Which MAC is alive in which slot: the one thing that all visits of a station share.

One MAC in two slots holds both boards, but only where both places answer a fresh probe: a board that merely moved is no
duplicate of itself. Who asks waits in its own slot's thread, gives way at once when its own plug ends, and never waits for
ever. A place that was not heard loses its claim; if its board speaks again later, the two are rivals then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from station.errors import JobEnded
from station.ports import Stop
from station.reasons import Reason

CONFIRM_S = 10.0
"""So long another place may take to answer; whatever has not answered by then counts as gone."""
LOOK_S = 0.05


def _believed(_slot: str, _mac: str) -> Future[bool]:
    """The answer where nobody can be asked: the claim stands."""
    answer: Future[bool] = Future()
    answer.set_result(True)
    return answer


class Claims:
    """Which MAC is alive in which slot right now, to notice one MAC in two places. Thread-safe."""

    def __init__(self) -> None:
        self.confirm: Callable[[str, str], Future[bool]] = _believed
        """Called, in the second board's thread, with a slot and a MAC: does that board answer there now?"""
        self.on_contest: Callable[[str, str], None] = lambda _slot, _other: None
        """Called, in a visit's thread, with the slot that had the MAC and the one that has it now."""
        self.on_lifted: Callable[[str, str], None] = lambda _slot, _mac: None
        """Called, in the second board's thread, with a slot in which the board with this MAC was not heard any more."""
        self._macs: dict[str, str] = {}
        self._contested: dict[str, str] = {}
        self._unheard: dict[str, str] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()

    def claim(self, mac: str, slot: str, stop: Stop) -> None:
        """Say that `mac` answers in `slot`; raises `JobEnded` in this slot, and later in the other, when it is in two.

        Raises `LineStopped` as soon as `stop` ends the visit that asks.
        """
        with self._lock:
            # From here on a later claim of this MAC asks us, never we it: two that meet cannot wait for each other.
            self._macs[slot] = mac
            self._unheard.pop(slot, None)
            others = [other for other, claimed in self._macs.items() if claimed == mac and other != slot]
            self._asking.add(slot)
        try:
            for other in others:
                if self._answers(other, mac, stop):
                    self._contest(other, slot)
                else:
                    self._lift(other, mac)
        finally:
            with self._lock:
                self._asking.discard(slot)
        self.check(slot)

    def check(self, slot: str) -> None:
        """Say that the board in `slot` is alive; raises `JobEnded` when its MAC answers in another slot too."""
        with self._lock:
            mac = self._unheard.pop(slot, None)
            rivals = [other for other, claimed in self._macs.items() if claimed == mac and other != slot]
            if mac is not None:
                self._macs[slot] = mac
        for rival in rivals:
            self._contest(rival, slot)
        with self._lock:
            contender = self._contested.get(slot)
        if contender is not None:
            raise JobEnded(Reason.DUPLICATE_MAC, f"{slot} and {contender}")

    def release(self, slot: str) -> None:
        """The board of `slot` is not there any more."""
        with self._lock:
            for of_slots in (self._macs, self._contested, self._unheard):
                of_slots.pop(slot, None)

    def _answers(self, other: str, mac: str, stop: Stop) -> bool:
        """Wait until slot `other` has answered, has let go of the MAC, or has taken too long."""
        answer, patience_s = self.confirm(other, mac), CONFIRM_S
        try:
            while patience_s > 0:
                if answer.done():
                    return not answer.cancelled() and answer.result()
                with self._lock:
                    let_go, asks_itself = self._macs.get(other) != mac, other in self._asking
                if let_go:
                    return False
                stop.wait(LOOK_S)
                # While that slot waits for a third one it can show no sign of life, and is not silent either.
                patience_s -= 0 if asks_itself else LOOK_S
            return False
        finally:
            answer.cancel()

    def _contest(self, had: str, has: str) -> None:
        with self._lock:
            self._contested[had], self._contested[has] = has, had
        self.on_contest(had, has)

    def _lift(self, other: str, mac: str) -> None:
        """Take the MAC from a slot that did not answer for it; its own visit, if there is one, may still claim it back."""
        with self._lock:
            if self._macs.get(other) != mac:
                return
            self._unheard[other] = self._macs.pop(other)
        self.on_lifted(other, mac)

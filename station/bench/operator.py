"""The person at the virtual bench: carries boards to slots, looks at the lights, reads the words, and obeys them or not.

Three manners: `careful` does what the words say and nothing else, `hasty` pulls boards too early, `confused` forgets the
jumper, plugs in empty programmers, carries boards to the wrong slot and leaves one for tomorrow. All three keep on until the
words put every board away. An operator knows a slot by what a person sees of it; it never looks into a chip or a record.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Protocol

from station.bench.bench import VirtualBench
from station.bench.chip import Chip
from station.model import Light, Phase
from station.views import SlotView

RESULT_SEEN_S = 0.6
"""So long a result stays in place before the operator takes the board, at pace 1."""
STAGGER_S = 0.25
"""A hand needs so long from one socket to the next, at pace 1."""
HAND_S = 1.0
"""No hand lifts or seats a board faster, at any pace: the station looks into such a socket once a second of real time."""
TWO_HANDS_S = 3.0
"""A person has two hands: no third board is pulled early within this time, at any pace. Three at once are a hub (hubs.py)."""
MOST_TRIES = 8
"""An operator who was sent back so often with one board gives it to the shift leader."""
EMPTY_PLUGS, EARLY_PULLS, FORGOTTEN_JUMPERS, MIX_UPS = 0.2, 0.5, 0.4, 0.5
"""How likely each mistake is, of an operator who makes it at all."""
_TEST_SLOT = re.compile(r"test slot ([A-Z]+\d+)")
_OTHER_SLOT = re.compile(r"try slot ([A-Z]+\d+)")
_LATCHED = ("unplugged", "board_removed", "test_interrupted")
_EARLY = (Phase.CONNECT, Phase.FLASH, Phase.VERIFY, Phase.BOOT, Phase.SELF_TEST)


class Manner(StrEnum):
    """How an operator works."""

    CAREFUL = "careful"
    HASTY = "hasty"
    CONFUSED = "confused"


class Watched(Protocol):
    """What the operator sees of one slot."""

    visits_ended: int

    @property
    def busy(self) -> bool:
        """Whether the slot works."""

    def view(self) -> SlotView:
        """Light and words."""


class Bench(Protocol):
    """What the operator sees of the station."""

    @property
    def slots(self) -> Mapping[str, Watched]:
        """By label."""

    async def wait_change(self, seen: int) -> int:
        """Return when something can be seen that was not there at revision `seen`."""


class Operator:
    """One person, and the boards that are to be made."""

    def __init__(
        self,
        bench: VirtualBench,
        station: Bench,
        boards: Mapping[str, Sequence[Chip]],
        *,
        manner: Manner,
        board_moves: Collection[str],
        seed: int,
    ) -> None:
        """`board_moves`: the slots whose programmers stay plugged in."""
        self._bench, self._station = bench, station
        self._manner, self._board_moves = manner, board_moves
        self._dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._queues = {label: deque(boards.get(label, ())) for label in station.slots}
        self._unsettled = sum(len(queue) for queue in self._queues.values())
        self._arrived = asyncio.Event()
        self._jumper_off: set[int] = set()
        """Boards, by object, that get power without the jumper: the words want it, or the hand forgot."""
        self._forgotten: set[int] = set()
        self._tries: dict[int, int] = {}
        self._pulled_once: set[int] = set()
        self._pulls: deque[float] = deque((-math.inf, -math.inf), maxlen=2)
        """When the last two boards were pulled early."""
        self._drawer: list[tuple[str, Chip]] = []
        """What is left for tomorrow, and the slot that it was to go to."""
        self._jumper_off |= {id(chip) for queue in self._queues.values() for chip in queue if self._forgets()}

    async def work(self) -> None:
        """Serve all slots until every board is put away."""
        async with asyncio.TaskGroup() as hands:
            for number, label in enumerate(self._queues):
                hands.create_task(self._serve(label, STAGGER_S * self._bench.pace * number))

    async def _serve(self, label: str, delay_s: float) -> None:
        if label in self._board_moves:
            await asyncio.to_thread(self._bench.plug, label, None)
        await asyncio.sleep(delay_s)
        while (chip := await self._next_board(label)) is not None:
            if self._manner is Manner.CONFUSED and label not in self._board_moves and self._dice.random() < EMPTY_PLUGS:
                await self._try_once(label, None)
            view = await self._try_once(label, chip)
            following = self._decide(label, chip, view)
            if following is None:
                self._unsettled -= 1
            elif self._leaves_for_tomorrow(chip):
                self._drawer.append((following, chip))
            else:
                self._queues[following].appendleft(chip)
            self._open_drawer()
            self._arrived.set()

    async def _next_board(self, label: str) -> Chip | None:
        """The next board for this slot; None when all boards of the shift are put away."""
        while not self._queues[label]:
            if not self._unsettled:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._queues[label].popleft()

    async def _try_once(self, label: str, chip: Chip | None) -> SlotView:
        """Put the board in, wait for the end of the visit, read the words, and take the board out again."""
        slot = self._station.slots[label]
        ended = slot.visits_ended
        await asyncio.to_thread(self._bench.set_jumper, label, low=id(chip) not in self._jumper_off)
        if label in self._board_moves and chip is not None:
            await asyncio.sleep(HAND_S)
            await asyncio.to_thread(self._bench.seat, label, chip)
        else:
            await asyncio.to_thread(self._bench.plug, label, chip)
        if chip is not None and self._pulls_early(chip):
            await self._until(partial(_has_come_to, slot, ended, self._dice.choice(_EARLY)))
            now = asyncio.get_running_loop().time()
            if slot.visits_ended == ended and now - self._pulls[0] > TWO_HANDS_S:
                self._pulls.append(now)
                await self._take_out(label)
                await self._until(lambda: slot.visits_ended > ended)
                return slot.view()
        await self._until(lambda: slot.visits_ended > ended and not slot.busy)
        view = slot.view()
        at_least_s = HAND_S if label in self._board_moves else 0.0
        await asyncio.sleep(max(RESULT_SEEN_S * self._bench.pace, at_least_s))
        await self._take_out(label)
        await self._until(partial(_is_free, slot, board_moves=label in self._board_moves))
        await asyncio.sleep(STAGGER_S * self._bench.pace)
        return view

    async def _take_out(self, label: str) -> None:
        await asyncio.to_thread(self._bench.lift if label in self._board_moves else self._bench.unplug, label)

    def _decide(self, label: str, chip: Chip, view: SlotView) -> str | None:
        """Where the board goes next by the words; None when they put it away."""
        said = f"{view.words}; {view.deed}"
        self._tries[id(chip)] = self._tries.get(id(chip), 0) + 1
        if self._tries[id(chip)] >= MOST_TRIES:
            return None
        if view.light is Light.EMPTY:
            # Taken out in the very moment in which the result came: nobody saw it.
            return label
        if sent := _TEST_SLOT.search(said) or _OTHER_SLOT.search(said):
            return sent[1] if sent[1] in self._queues else None
        if "GPIO0 off GND" in said:
            if id(chip) in self._forgotten or not self._forgets():
                self._jumper_off.add(id(chip))
            else:
                self._forgotten.add(id(chip))
            return self._dice.choice(list(self._queues)) if self._mixes_up() else label
        if "GPIO0 to GND" in said:
            self._jumper_off.discard(id(chip))
            return label
        again = ("plug in again", "seat the board", "re-seat", "seat it again")
        return label if any(words in view.deed for words in again) else None

    def _pulls_early(self, chip: Chip) -> bool:
        """A hasty hand pulls every second board once."""
        if self._manner is not Manner.HASTY or id(chip) in self._pulled_once or self._dice.random() >= EARLY_PULLS:
            return False
        self._pulled_once.add(id(chip))
        return True

    def _forgets(self) -> bool:
        return self._manner is Manner.CONFUSED and self._dice.random() < FORGOTTEN_JUMPERS

    def _mixes_up(self) -> bool:
        return self._manner is Manner.CONFUSED and self._dice.random() < MIX_UPS

    def _leaves_for_tomorrow(self, chip: Chip) -> bool:
        """The confused one goes home over the first board that has to be plugged in a second time."""
        if self._manner is not Manner.CONFUSED or self._pulled_once:
            return False
        self._pulled_once.add(id(chip))
        return True

    def _open_drawer(self) -> None:
        """It is tomorrow: everything else is done, and the board from the drawer goes on."""
        if self._drawer and self._unsettled == len(self._drawer):
            for label, chip in self._drawer:
                self._queues[label].append(chip)
            self._drawer.clear()

    async def _until(self, true: Callable[[], bool]) -> None:
        """Look at the lights until it is so."""
        seen = -1
        while not true():
            seen = await self._station.wait_change(seen)


def _is_free(slot: Watched, *, board_moves: bool) -> bool:
    """Whether the next board may come: the light is off, or stays on because it cannot know, or to say what went wrong."""
    view = slot.view()
    if slot.busy:
        return False
    if not board_moves:
        return view.light in (Light.EMPTY, Light.ACTION)
    return view.light is Light.EMPTY or view.unwatched or view.reason in _LATCHED


def _has_come_to(slot: Watched, ended: int, phase: Phase) -> bool:
    """Whether the slot is in this phase, or has ended its visit without coming to it."""
    return slot.visits_ended > ended or slot.view().phase is phase

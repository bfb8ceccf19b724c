"""A person shows the station its sockets, one plug after another: which is A1, which is A2, and which hub was moved.

Every place is on disk before the next one is asked for, so an end at any moment leaves a map that is whole, and a later run
goes on where this one stopped. Nothing is ever moved on a suspicion: a person says yes, or has said so beforehand. A
running station keeps the map it started with; nothing here opens a port or talks to a board.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from station.adapters.udev import UdevWatcher
from station.config import Config
from station.errors import ConfigurationError
from station.model import Programmer
from station.slotmap import SLOTS_PER_ROW, known_places, move_taught, next_label, read_taught, write_taught
from station.sockets import (
    MOST_COLUMNS,
    MOST_ROWS,
    MovedHub,
    bench_order,
    drawing,
    grid_labels,
    grid_of,
    hub_path_of,
    label_range,
    moved_hub,
    moves_of,
)

RESTART = "a station that runs uses it from its next start on: sudo systemctl restart station"


class Voice(Protocol):
    """How a person is spoken to; a wizard's and a command's are the same."""

    def say(self, text: str = "") -> None:
        """Say something."""

    def ask(self, question: str, default: str) -> str:
        """Return the answer, the default for an empty one."""

    def confirm(self, question: str, *, default: bool) -> bool:
        """Return yes or no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is to be taught."""

    rows: int = 0
    """0: no grid; the next free label, until `count` or an end from outside."""
    columns: int = 0
    count: int | None = None
    """Stop after so many sockets."""
    may_ask: bool = True
    """Whether somebody is there to be asked about a hub that moved."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the grid, in the order in which they are asked for."""
        return grid_labels(self.rows, self.columns)

    def wanted(self, config: Config, known: Mapping[str, str]) -> str:
        """Return the label to teach next, one that is configured without a place first; empty when all are taught."""
        for label in config.slots:
            if label not in known:
                return label
        if not self.rows:
            return next_label(known)
        return next((label for label in self.labels if label not in known), "")


def grid_wanted(config: Config, voice: Voice, rows: int | None, columns: int | None) -> tuple[int, int]:
    """Return rows and columns, asking for what is not given; what is known of the bench is the default."""
    known_rows, known_columns = grid_of(known_places(config))
    usual = known_columns if known_rows > 1 else max(known_columns, SLOTS_PER_ROW)
    rows = rows or _number(voice, "How many rows of sockets does the bench have?", max(known_rows, 1), MOST_ROWS)
    return rows, columns or _number(voice, "How many sockets are in a row?", usual, MOST_COLUMNS)


def run_lesson(config: Config, voice: Voice, rows: int, columns: int, count: int | None, *, may_ask: bool) -> bool:
    """Teach until the grid is done or `count` is reached; False when Ctrl-C came first."""
    lesson = Lesson(rows=rows, columns=columns, count=count, may_ask=may_ask)
    done = until_ctrl_c(teach(config, lesson, voice))
    if done and rows:
        voice.say(taught_so_far(config))
    return done is not None


def taught_so_far(config: Config) -> str:
    """Return which slots have a place, in a few words. Raises `ConfigurationError`."""
    known = known_places(config)
    return f"{label_range(known)} {'is' if len(known) == 1 else 'are'} taught"


def until_ctrl_c(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it and return what it returns; None when a person ended it."""
    try:
        return asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return None


def _number(voice: Voice, question: str, default: int, most: int) -> int:
    while True:
        answer = voice.ask(question, str(min(default, most)))
        if answer.isascii() and answer.isdecimal() and 1 <= int(answer[:4]) <= most:
            return int(answer)
        voice.say(f"a number from 1 to {most}")


async def teach(config: Config, lesson: Lesson, voice: Voice) -> int:
    """Give each newly seen place the next label, and save the map after every one; return how many were taught.

    Raises `ConfigurationError`, and `asyncio.CancelledError` on SIGINT and SIGTERM.
    """
    known = known_places(config)
    before = dict(known)
    if not lesson.wanted(config, known):
        voice.say(f"all {lesson.rows * lesson.columns} sockets are taught; was a hub moved? station slots moved")
        return 0
    done = 0
    async with _plugs(config, voice) as plugs:
        _show(lesson, config, known, voice)
        async for programmer, attached in plugs:
            moved = _moved(config, before, programmer, attached) if lesson.may_ask else None
            if moved is not None and _agreed(moved, voice):
                _keep_moved(config, moved, voice)
                known.update(moved.places)
                before.update(moved.places)
                _show(lesson, config, known, voice)
                continue
            taught = _learn(config, lesson, known, programmer, voice)
            done += taught
            if done == lesson.count or not lesson.wanted(config, known):
                break
            if taught and lesson.rows:
                _show(lesson, config, known, voice)
    if lesson.rows:
        voice.say(drawing(lesson.rows, lesson.columns, done=known, wanted=""))
    return done


async def find_moved(config: Config, label: str, voice: Voice, *, yes: bool) -> bool:
    """Ask for one plug into the socket of `label`, and take along what moved with it; return whether anything did.

    `yes`: the widest reading of that plug is right, nobody is asked. Raises as `teach` does.
    """
    known = known_places(config)
    async with _plugs(config, voice) as plugs:
        voice.say(
            f"plug the programmer of {label} in now, where {label} is (when it is in: unplug it first; Ctrl-C ends)"
        )
        async for programmer, attached in plugs:
            here = next((other for other, place in known.items() if place == programmer.place), "")
            if here == label:
                voice.say(f"{label} is where it was ({programmer.hub_path}): nothing has moved")
                return False
            if here:
                voice.say(f"that socket is {here} ({programmer.hub_path}); plug into the one that is {label}")
                continue
            readings = moves_of(known, label, programmer.place, attached)
            if not readings:
                voice.say(
                    f"{programmer.hub_path} cannot be {label}, which was {hub_path_of(known[label])}: another port of its hub"
                )
                voice.say(f"plug into the one that is {label}; for new sockets: station slots teach")
                continue
            for moved in readings:
                if yes or _agreed(moved, voice):
                    _keep_moved(config, moved, voice)
                    return True
            voice.say("nothing was changed")
            return False
    return False


def first_known(config: Config) -> str:
    """Return the first slot of the bench that has a place; empty when none has. Raises `ConfigurationError`."""
    return next(iter(bench_order(known_places(config))), "")


@contextlib.contextmanager
def writing(config: Config) -> Iterator[None]:
    """Say in one line why the slot map cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            file=str(config.state_dir),
            key="station.state_dir",
            problem=f"cannot be written ({error.strerror})",
            fix="run as the station's user, or name another directory",
        ) from None


@asynccontextmanager
async def _plugs(config: Config, voice: Voice) -> AsyncIterator[AsyncIterator[tuple[Programmer, tuple[str, ...]]]]:
    """Yield every new plug from now on, with the places where something is attached."""
    watcher = UdevWatcher(usb_ids=config.usb.ids, excluded_places=config.usb.excluded)
    changed = asyncio.Event()
    watcher.start(changed.set)
    _end_by_signals(asyncio.current_task())
    try:
        seen = watcher.snapshot()
        if seen:
            voice.say(f"{len(seen)} programmers are plugged in already; unplug and plug in the one you mean")

        async def plugs() -> AsyncIterator[tuple[Programmer, tuple[str, ...]]]:
            before = seen
            while True:
                with contextlib.suppress(TimeoutError):  # uevents get lost
                    async with asyncio.timeout(config.usb.reconcile_s):
                        await changed.wait()
                changed.clear()
                attached = watcher.snapshot()
                for programmer in attached:
                    if programmer not in before:
                        yield programmer, tuple(each.place for each in attached)
                before = attached

        yield plugs()
    finally:
        _end_by_signals(None)
        watcher.stop()


def _end_by_signals(task: asyncio.Task[object] | None) -> None:
    """Let SIGINT and SIGTERM cancel this task; None: they do again what they do everywhere."""
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        if task is not None:
            # Set by us: whoever was started in the background has SIGINT ignored, and Python leaves it so.
            loop.add_signal_handler(each, task.cancel)
        else:
            loop.remove_signal_handler(each)


def _show(lesson: Lesson, config: Config, known: Mapping[str, str], voice: Voice) -> None:
    wanted = lesson.wanted(config, known)
    if lesson.rows and wanted:
        voice.say(drawing(lesson.rows, lesson.columns, done=known, wanted=wanted))
    if wanted:
        voice.say(f"plug a programmer into {wanted} now (Ctrl-C ends)")


def _learn(config: Config, lesson: Lesson, known: dict[str, str], programmer: Programmer, voice: Voice) -> int:
    """Label the place of this plug unless it has one; return how many were labelled."""
    for label, place in known.items():
        if place == programmer.place:
            voice.say(f"that place is {label} already ({programmer.hub_path})")
            return 0
    label = lesson.wanted(config, known)
    known[label] = programmer.place
    with writing(config):
        write_taught(config.state_dir, {**read_taught(config.state_dir), label: programmer.place})
    following = "" if lesson.rows else f"; next: {lesson.wanted(config, known)}"
    voice.say(f"{label} is {programmer.hub_path} ({programmer.place}){following}")
    return 1


def _moved(
    config: Config, before: Mapping[str, str], programmer: Programmer, attached: tuple[str, ...]
) -> MovedHub | None:
    """The hub of this plug, if it seems to be one that was taught in an earlier run and hangs elsewhere now."""
    if programmer.place in before.values():
        return None
    current = known_places(config)
    moved = moved_hub({label: place for label, place in before.items() if current.get(label) == place}, attached)
    taken = {place for label, place in current.items() if moved is not None and label not in moved.places}
    if moved is None or programmer.place not in moved.places.values() or taken & set(moved.places.values()):
        return None
    return moved


def _agreed(moved: MovedHub, voice: Voice) -> bool:
    """Ask the one question; while it waits, Ctrl-C must end it."""
    words = "are" if len(moved.places) > 1 else "is"
    instead = f"ports {moved.now} instead of {moved.before}"
    _end_by_signals(None)
    try:
        return voice.confirm(f"{moved.labels} {words} now here ({instead})?", default=False)
    finally:
        _end_by_signals(asyncio.current_task())


def _keep_moved(config: Config, moved: MovedHub, voice: Voice) -> None:
    """Write the new places; those that a person wrote into the configuration are his to change."""
    taught = {label: place for label, place in moved.places.items() if label not in config.places}
    with writing(config):
        move_taught(config.state_dir, taught)
    voice.say(f"{moved.labels}: now at {moved.now}")
    for label in moved.places:
        if label in config.places:
            voice.say(f'{label} has its place in the configuration; write there: {label} = "{moved.places[label]}"')

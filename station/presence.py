"""Who sits in a socket whose programmer stays: a light probe over the open line, between the visits of a slot.

`await_board` watches an empty socket, `await_departure` one whose board has its result on screen, `still_there` asks once
for one very board. All three run in the slot's own thread and end by `LineStopped` when their `Stop` says so. A socket is
asked once a second, and at once (four times a second at most) when a byte came; between that the thread sleeps in one read.
A firmware that was started by a job is never sent a byte: it is only listened to, at the rate of the ROM's boot message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from station import selftest
from station.errors import LineError, PortGone, PortMissing, StationError
from station.link import BOOT_LOG_BAUD, BOOT_MODE_LOADER, ROM_BAUD, hear_boot_mode
from station.model import Answer, BootInto, Peek, Programmer
from station.ports import Clock, Line, Loader, Stop
from station.properties import Gpio0, Reset, Role, SlotProperties
from station.visit import Tools

ASK_EVERY_S = 1.0
ASK_AGAIN_S = 0.25
SILENT_ASKS = 2
"""So many asks in a row without an answer, and the board is gone."""
UNCLEAR_ASKS = 3
"""So many unclear answers in a row, and a visit shall find out what is there."""
BURST_BYTES = 16
"""A seated board says more than this when it starts; a contact that bounces says less."""
FORGET_S = 5.0
"""After such a silence bytes that nobody explained belong to nothing."""
WAKE_EVERY_S = 5.0
"""So often an empty socket with reset lines is reset: there is nobody whom it could disturb."""
PORT_RETRY_S = 2.0
LISTEN_S = 30.0
"""So long one read may sleep; it wakes for every byte and for the stop."""
BETWEEN_BOARDS_S = 0.8
"""A hand takes longer to exchange two boards than a board that restarts by itself needs."""
PROMPT_S, ANSWER_S = 3.0, 1.5

_BOOT_MESSAGE = re.compile(rb"ets Jan|boot mode:\(")
_MESSAGE_BYTES = 128


class Seen(StrEnum):
    """What ended a watch."""

    BOARD = "board"
    """There is something to visit: a board, or a port of which a visit has to find out what ails it."""
    GONE = "gone"
    OTHER_BOARD = "other_board"
    """Another board than the one that was watched, or one that was seated anew."""


class Left(StrEnum):
    """What the visit that ended left in the socket, as far as it knows."""

    LOADER = "loader"
    """Perhaps a board in its loader: it may be asked."""
    FIRMWARE = "firmware"
    """A running firmware: it is left alone."""
    NOBODY = "nobody"
    """Nobody answered: the socket counts as empty, and what is on screen stays there until somebody does."""
    PORT = "port"
    """Nothing is known: the port could not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """One programmer that stays, and all that is needed to look into it."""

    programmer: Programmer
    properties: SlotProperties
    stop: Stop
    tools: Tools


@dataclass(frozen=True, slots=True, kw_only=True)
class Seated:
    """The board whose result is on screen."""

    mac: str
    """Empty where nobody knows it."""
    left: Left
    seat_again: bool = False
    """Whether this very board, seated anew, is to be visited again: no job came of it."""
    unwatched: Callable[[bool], None] = lambda _unwatched: None
    """Called in the watching thread: whether the board may leave unseen from now on."""


def await_board(socket: Socket) -> Seen:
    """Wait until there is something to visit in an empty socket; raises `LineStopped`."""
    try:
        with _opened(socket) as line:
            _until_somebody_answers(socket, line)
    except (PortGone, PortMissing):
        # Most likely unplugged: the uevent stops us here. If not, a visit says what is the matter.
        socket.stop.wait(PORT_RETRY_S)
    except LineError:
        pass
    return Seen.BOARD


def await_departure(socket: Socket, board: Seated) -> Seen:
    """Wait until the board that is on screen has left its socket: `GONE` or `OTHER_BOARD`; raises `LineStopped`."""
    refused = board.left is Left.PORT
    while True:
        try:
            with _opened(socket) as line:
                if refused and not board.mac:
                    # What was on screen was about the port, and the port is well again.
                    return Seen.GONE
                if board.left is Left.NOBODY:
                    # What only makes noise was visited already: that alone is no reason for another visit.
                    _until_somebody_answers(socket, line, clearly=True)
                    return Seen.OTHER_BOARD
                return _until_it_leaves(socket, line, board)
        except LineError:
            refused = True
            socket.stop.wait(PORT_RETRY_S)


def still_there(socket: Socket, mac: str) -> bool:
    """Whether the board with this MAC, and no other, answers in this socket now; raises `LineStopped`.

    It may be reset into its loader by that. Takes at most about 8 s.
    """
    try:
        with _opened(socket) as line:
            return _answering_mac(socket, line) == mac
    except StationError:
        return False


@contextmanager
def _opened(socket: Socket) -> Iterator[Line]:
    opener, stop = socket.tools.opener, socket.stop
    line = opener.open(socket.programmer, ROM_BAUD, stop, may_reset=socket.properties.may_reset)
    try:
        yield line
    finally:
        stop.attach(None)
        line.close()


def _until_somebody_answers(socket: Socket, line: Line, *, clearly: bool = False) -> None:
    """Return when a board answers, or, unless it has to answer `clearly`, says things that only a visit can explain."""
    low, clock = socket.properties.role is not Role.TEST, socket.tools.clock
    loader = socket.tools.flasher.loader(line)
    _wake_silent_board(socket, line, low=low)
    heard, unclear, byte_at, woken_at = 0, 0, clock(), clock()
    while (answer := loader.peek(knock=True).answer) not in (Answer.LOADER, Answer.FIRMWARE, Answer.ECHO):
        asked_at = clock()
        if asked_at - woken_at >= WAKE_EVERY_S and not heard:
            _wake_silent_board(socket, line, low=low)
            woken_at = asked_at
        if answer is Answer.NOISE:
            heard, byte_at = heard + BURST_BYTES, asked_at
        unclear = unclear + 1 if heard >= BURST_BYTES else 0
        if unclear > UNCLEAR_ASKS and not clearly:
            return
        if asked_at - byte_at > FORGET_S:
            heard = unclear = 0
        every_s = ASK_AGAIN_S if answer is Answer.NOISE else ASK_EVERY_S
        if said := _sleep_until_next_ask(line, clock, asked_at, every_s):
            heard, byte_at = heard + said, clock()


def _wake_silent_board(socket: Socket, line: Line, *, low: bool) -> None:
    """Let a board show itself that sits here without a word: seated before the port was open, or in a bad moment.

    GPIO0 is held as this slot wants it for a board that gets power from now on.
    """
    if socket.properties.may_reset:
        line.reset_board(BootInto.LOADER if low else BootInto.FIRMWARE)
    line.hold_boot_pin(low=low)


def _sleep_until_next_ask(line: Line, clock: Clock, asked_at: float, every_s: float = ASK_EVERY_S) -> int:
    """Sleep until it is time to ask again, sooner after a byte; return how many bytes came by themselves."""
    due, heard = asked_at + every_s, 0
    while (now := clock()) < due:
        if data := line.read_some(due - now):
            heard, due = heard + len(data), asked_at + ASK_AGAIN_S
    return heard


def _until_it_leaves(socket: Socket, line: Line, board: Seated) -> Seen:
    loader = socket.tools.flasher.loader(line)
    left, started = board.left, False
    if _reaches_loader(socket.properties):
        if not _shows_itself(line, loader):
            return Seen.GONE
        left = Left.LOADER
    while True:
        if left is not Left.FIRMWARE:
            first = _ask_patiently(socket, loader)
            if first.answer is Answer.LOADER and _is_another(first, board, started=started):
                return Seen.OTHER_BOARD
            if first.answer in (Answer.LOADER, Answer.ECHO):
                board.unwatched(False)
                known = Peek(answer=first.answer, mac=board.mac or first.mac)
                return _until_it_is_silent(socket, line, loader, known, seat_again=board.seat_again)
        board.unwatched(True)
        if _hear_a_start(socket, line):
            return Seen.OTHER_BOARD
        left, started = Left.LOADER, True


def _is_another(peek: Peek, board: Seated, *, started: bool) -> bool:
    """Whether this loader is not that of the board on screen; who that is may be learned as long as nothing `started`."""
    if started and board.seat_again:
        return True
    return bool(peek.mac) and peek.mac != board.mac and (started or bool(board.mac))


def _reaches_loader(properties: SlotProperties) -> bool:
    """Whether a reset by the lines ends in the loader, so that a board can be asked afterwards."""
    free_in_test = properties.role is Role.TEST and properties.gpio0 is Gpio0.HAND
    return properties.reset is Reset.LINES and properties.gpio0 is not Gpio0.NEVER_LOW and not free_in_test


def _shows_itself(line: Line, loader: Loader) -> bool:
    """Reset the board by the lines, twice if need be, and hear its boot message; GPIO0 is held low again after it."""
    there = any(loader.probe_presence() is not False for _ in range(2))
    line.hold_boot_pin(low=True)
    return there


def _ask_patiently(socket: Socket, loader: Loader) -> Peek:
    """Ask who is there; a loader that has just started may miss the first question."""
    peek = loader.peek(knock=False)
    for _ in range(UNCLEAR_ASKS - 1):
        if peek.answer is Answer.LOADER:
            break
        socket.stop.wait(ASK_AGAIN_S)
        peek = loader.peek(knock=False)
    return peek


def _until_it_is_silent(socket: Socket, line: Line, loader: Loader, board: Peek, *, seat_again: bool) -> Seen:
    """Ask once a second, and after a byte at once, until this board does not answer any more, or another one does."""
    clock, by_lines = socket.tools.clock, _reaches_loader(socket.properties)
    silent = unclear = heard = 0
    while True:
        heard += _sleep_until_next_ask(line, clock, clock())
        peek = loader.peek(knock=False)
        if _same(peek, board):
            if seat_again and silent and heard >= BURST_BYTES:
                # A loader says nothing by itself: after a silence it has got power again, by a hand.
                return Seen.OTHER_BOARD
            silent = unclear = heard = 0
        elif peek.answer is Answer.NOTHING and by_lines:
            if seen := _after_silence(socket, line, loader, board):
                return seen
        elif peek.answer is Answer.NOTHING:
            silent += 1
        else:
            unclear += 1
        if peek.answer is Answer.LOADER and not _same(peek, board):
            return Seen.OTHER_BOARD
        if silent >= SILENT_ASKS or unclear >= UNCLEAR_ASKS:
            return Seen.GONE if silent >= SILENT_ASKS else Seen.OTHER_BOARD


def _after_silence(socket: Socket, line: Line, loader: Loader, board: Peek) -> Seen | None:
    """A reset by the lines tells at once whether a silent board is gone or is another one; None: it is there again."""
    if not _shows_itself(line, loader):
        return Seen.GONE
    return None if _same(_ask_patiently(socket, loader), board) else Seen.OTHER_BOARD


def _same(peek: Peek, board: Peek) -> bool:
    """Whether this is the answer of that board; a MAC that could not be read is nobody else's."""
    return peek.answer is board.answer and peek.mac in ("", board.mac)


def _hear_a_start(socket: Socket, line: Line) -> bool:
    """Listen for the ROM's boot message without sending anything; True when it was not the loader that started.

    False: a loader may be there to be asked. A board that restarts by itself without a pause was not exchanged, so its
    firmware starting again says nothing.
    """
    clock = socket.tools.clock
    line.set_baud(BOOT_LOG_BAUD)
    said, byte_at, pause_s = b"", clock(), 0.0
    while True:
        data = line.read_some(LISTEN_S)
        if not data:
            continue
        now = clock()
        if now - byte_at >= BETWEEN_BOARDS_S:
            said, pause_s = b"", now - byte_at
        said, byte_at = said + data, now
        if not _BOOT_MESSAGE.search(said):
            said = said[-_MESSAGE_BYTES:]
            continue
        # The message takes about 10 ms.
        mode = hear_boot_mode(line, clock, ASK_AGAIN_S, said)
        if mode is None or mode == BOOT_MODE_LOADER:
            break
        if pause_s >= BETWEEN_BOARDS_S:
            return True
        said = b""
    line.set_baud(ROM_BAUD)
    return False


def _answering_mac(socket: Socket, line: Line) -> str:
    """Ask by the loader, by a reset into the loader, by the firmware's prompt, in this order; empty for no clear answer."""
    loader = socket.tools.flasher.loader(line)
    peek = loader.peek(knock=False)
    if peek.answer not in (Answer.LOADER, Answer.ECHO) and line.reset_board(BootInto.LOADER):
        peek = _ask_patiently(socket, loader)
    if peek.answer in (Answer.LOADER, Answer.ECHO):
        return peek.mac
    line.set_baud(ROM_BAUD)
    repl = socket.tools.make_repl(line, socket.stop)
    repl.await_prompt(PROMPT_S)
    identity, _ = selftest.board_that_answers(
        repl.run(selftest.IDENTITY_CODE, ANSWER_S), repl.run(selftest.FLASH_CODE, ANSWER_S)
    )
    repl.leave()
    return identity.mac

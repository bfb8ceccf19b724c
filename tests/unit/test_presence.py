"""Who sits in a socket: the watch of an empty one, of one with a result on screen, and the single look, on a scripted line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from station import selftest
from station.claims import Claims
from station.config import FlashingSection
from station.errors import AdapterHung, LineStopped, NothingBoots, PortBusy, PortDenied, PortGone, PortMissing
from station.model import Answer, BootInto, Peek, Programmer, StopCause
from station.ports import Line, Loader, Repl, Stop
from station.presence import Left, Seated, Seen, Socket, await_board, await_departure, still_there
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties
from station.visit import Tools

MAC, OTHER = "5c:cf:7f:dd:c1:42", "5c:cf:7f:00:00:07"
BY_LINES = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD)
BY_HAND = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND, moves=Moves.BOARD)
PROGRAMMER = Programmer(place="hub:1", node="/dev/ttyUSB0", sysfs_path="", generation="1")
NOBODY = Peek(answer=Answer.NOTHING)
INTO_LOADER = b"\r\n ets Jan  8 2013,rst cause:1, boot mode:(1,7)\r\n"
INTO_FIRMWARE = b"\r\n ets Jan  8 2013,rst cause:1, boot mode:(3,6)\r\n"


def loader_of(mac: str) -> Peek:
    """What a board in its loader answers."""
    return Peek(answer=Answer.LOADER, mac=mac)


@dataclass
class Bench:
    """One socket and a clock: what happens in it is a list of moments, and time passes only while somebody waits."""

    here: Peek = NOBODY
    properties: SlotProperties = BY_LINES
    now_s: float = 100.0
    runs_after_reset: Peek | None = None
    """Who answers after a reset by the lines into the loader; None: whoever answers now."""
    refuses: list[Exception] = field(default_factory=list)
    """What the next attempts to open the port meet."""
    repl_mac: str = ""
    moments: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    journal: list[tuple[float, str]] = field(default_factory=list)
    unwatched: list[bool] = field(default_factory=list)
    input: bytes = b""
    waits: int = 0
    open_lines: int = 0
    gone: bool = False

    def __post_init__(self) -> None:
        self.stop = _BenchStop(self)

    def at(self, after_s: float, what: Callable[[], None]) -> Bench:
        """Let something happen so many seconds after the beginning."""
        self.moments.append((100.0 + after_s, what))
        self.moments.sort(key=lambda moment: moment[0])
        return self

    def seat(self, peek: Peek, says: bytes = b"") -> Callable[[], None]:
        """Somebody answers from now on, after saying this."""

        def happen() -> None:
            self.here, self.input = peek, self.input + says

        return happen

    def unplug_at(self, after_s: float) -> Bench:
        """The programmer is pulled, and the slot takes the line away."""
        return self.at(after_s, lambda: self.stop.request(StopCause.UNPLUGGED))

    def note(self, what: str) -> None:
        """Something was done to the socket."""
        self.journal.append((round(self.now_s - 100.0, 3), what))

    def count(self, what: str) -> int:
        """How often it was done."""
        return sum(done == what for _, done in self.journal)

    def pass_time(self, seconds: float, until: Callable[[], object] = lambda: False) -> None:
        """Let time go by, at most to the moment at which `until` holds."""
        self.waits += 1
        assert self.waits < 20_000, "a busy loop"
        end = self.now_s + max(seconds, 0.0)
        while not until():
            if not self.moments or self.moments[0][0] > end:
                self.now_s = end
                return
            when, what = self.moments.pop(0)
            self.now_s = max(self.now_s, when)
            what()

    def socket(self) -> Socket:
        """What the watch is given."""
        tools = Tools(
            opener=self,
            flasher=_Flasher(self),
            make_repl=lambda _line, _stop: cast("Repl", _Repl(self)),
            recorder=cast("Any", None),
            settings=FlashingSection(),
            claims=Claims(),
            host=cast("Any", None),
            clock=lambda: self.now_s,
            now=lambda: datetime(2025, 11, 22, tzinfo=UTC),
            new_id=lambda: "id",
            on_record=lambda _start, _end: None,
        )
        return Socket(programmer=PROGRAMMER, properties=self.properties, stop=self.stop, tools=tools)

    def open(self, programmer: Programmer, baud: int, stop: Stop, *, may_reset: bool = True) -> Line:
        """The seam: open the port."""
        stop.check()
        self.note(f"open may_reset={may_reset}")
        if self.refuses:
            raise self.refuses.pop(0)
        self.open_lines += 1
        return cast("Line", _Line(self))

    def board(self, left: Left = Left.LOADER, *, mac: str = MAC, seat_again: bool = False) -> Seated:
        """The board that is on screen."""
        return Seated(mac=mac, left=left, seat_again=seat_again, unwatched=self.unwatched.append)


class _BenchStop(Stop):
    """A stop whose waits are the bench's time."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def wait(self, timeout_s: float) -> None:
        """Let the time pass."""
        self._bench.pass_time(timeout_s, lambda: self.cause)
        self.check()


class _Line:
    """The open port."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.baud = 115_200

    def stop(self, cause: StopCause) -> None:
        """The bench's time ends with the stop."""

    def close(self) -> None:
        """Released."""
        self.bench.open_lines -= 1

    def set_baud(self, baud: int) -> None:
        """Our side's rate."""
        self.baud = baud

    def read_some(self, timeout_s: float) -> bytes:
        """What came, or the time that passed without."""
        assert timeout_s > 0
        self.bench.pass_time(timeout_s, lambda: self.bench.input or self.bench.stop.cause or self.bench.gone)
        self.bench.stop.check()
        if self.bench.gone:
            raise PortGone("gone")
        data, self.bench.input = self.bench.input, b""
        return data

    def send(self, data: bytes) -> None:
        """Nobody sends by this here."""
        raise AssertionError(data)

    def hold_boot_pin(self, *, low: bool) -> bool:
        """GPIO0 by the line."""
        self.bench.note(f"hold low={low}")
        return self.bench.properties.may_reset

    def reset_board(self, into: BootInto) -> bool:
        """EN by the line."""
        if not self.bench.properties.may_reset:
            return False
        self.bench.note(f"reset into {into}")
        if self.bench.runs_after_reset is not None and into is BootInto.LOADER:
            self.bench.here = self.bench.runs_after_reset
        return True


class _Flasher:
    """Makes loaders."""

    version = "0"

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def loader(self, line: Line) -> Loader:
        """A conversation that can only look."""
        return cast("Loader", _Loader(self.bench, cast("_Line", line)))


class _Loader:
    """Looks."""

    def __init__(self, bench: Bench, line: _Line) -> None:
        self.bench, self.line = bench, line

    def peek(self, *, knock: bool) -> Peek:
        """Who is there."""
        assert self.line.baud == 115_200
        self.bench.stop.check()
        self.bench.note("knock" if knock else "ask")
        self.bench.input = b""
        self.bench.pass_time(0.1)
        return self.bench.here

    def probe_presence(self) -> bool | None:
        """Reset and listen."""
        if not self.line.reset_board(BootInto.LOADER):
            return None
        self.bench.pass_time(0.5)
        return self.bench.here.answer is not Answer.NOTHING


class _Repl:
    """The prompt of the board, when there is one."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def await_prompt(self, timeout_s: float, *, programs: bool = False) -> str:
        """Here it is, or it never comes."""
        self.bench.note("prompt")
        if not self.bench.repl_mac:
            self.bench.pass_time(timeout_s)
            raise NothingBoots("silent")
        return ""

    def run(self, code: str, timeout_s: float) -> bytes:
        """Who it is."""
        mac = self.bench.repl_mac.replace(":", "")
        if code == selftest.IDENTITY_CODE:
            return json.dumps([mac, bytes.fromhex(mac)[:2:-1].hex() + "00"]).encode()
        return b"[1327343, 1048576]"

    def leave(self) -> None:
        """Done."""
        self.bench.note("left")


def departs(bench: Bench, board: Seated) -> tuple[Seen, float]:
    """How the watch of this board ended, and after how many seconds."""
    seen = await_departure(bench.socket(), board)
    assert bench.open_lines == 0
    return seen, bench.now_s - 100.0


def stays(bench: Bench, board: Seated) -> None:
    """The watch goes on until the programmer is pulled."""
    with pytest.raises(LineStopped):
        await_departure(bench.socket(), board)
    assert bench.open_lines == 0


# -- an empty socket ---------------------------------------------------------------------------------------------------


def test_a_board_that_is_seated_is_seen_within_a_second_and_starts_its_loader() -> None:
    """GPIO0 is held low by the line while the socket is empty, and the next question after the seating is answered."""
    bench = Bench()
    bench.at(7.45, bench.seat(loader_of(MAC)))
    assert await_board(bench.socket()) is Seen.BOARD
    assert bench.now_s - 107.45 <= 1.2
    assert (bench.journal[2][1], bench.open_lines) == ("hold low=True", 0)
    assert bench.journal[0] == (0.0, "open may_reset=True")


def test_a_byte_brings_the_question_forward() -> None:
    """A board that says its boot message is asked at once: a quarter of a second after it is enough."""
    bench = Bench(properties=BY_HAND)
    bench.at(7.55, bench.seat(loader_of(MAC), INTO_LOADER))
    await_board(bench.socket())
    assert bench.now_s - 107.55 <= 0.4


@pytest.mark.parametrize("answer", [Answer.LOADER, Answer.FIRMWARE, Answer.ECHO])
def test_whoever_answers_clearly_is_worth_a_visit_at_once(answer: Answer) -> None:
    """A loader, a firmware and an echo are found by the first question."""
    bench = Bench(here=Peek(answer=answer), properties=BY_HAND)
    assert await_board(bench.socket()) is Seen.BOARD
    assert bench.count("knock") == 1


def test_a_test_slot_does_not_hold_the_boot_pin_low() -> None:
    """A board that is to be tested must start its firmware."""
    bench = Bench(properties=SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD, role=Role.TEST))
    bench.at(2.0, bench.seat(Peek(answer=Answer.FIRMWARE)))
    await_board(bench.socket())
    assert (bench.count("hold low=False"), bench.count("hold low=True")) == (1, 0)
    assert bench.count("reset into firmware") == 1


def test_an_idle_socket_costs_one_question_a_second() -> None:
    """In a minute of silence there are at most 60 questions and as many sleeps; a reset every five seconds."""
    bench = Bench().unplug_at(60.0)
    with pytest.raises(LineStopped):
        await_board(bench.socket())
    assert 50 <= bench.count("knock") <= 60
    assert bench.waits <= 125
    assert bench.count("reset into loader") <= 60 / 5
    assert bench.open_lines == 0


def test_a_board_that_was_seated_in_a_bad_moment_shows_itself_within_five_seconds() -> None:
    """It came up without its loader and says nothing: the next reset of the empty socket brings it there."""
    bench = Bench()
    # Who answers changes only with a reset: until then the board is there and silent.
    bench.at(0.5, lambda: setattr(bench, "runs_after_reset", loader_of(MAC)))
    assert await_board(bench.socket()) is Seen.BOARD
    assert bench.now_s - 100.5 <= 6.5


def test_a_start_that_is_read_in_one_large_piece_is_heard() -> None:
    """Boot message and the first words of a firmware may come in one read: the message at its head counts."""
    bench = Bench(properties=BY_HAND)
    bench.at(20.0, bench.seat(NOBODY, INTO_FIRMWARE + b"\xfe" * 400))
    assert await_departure(bench.socket(), bench.board(Left.FIRMWARE)) is Seen.OTHER_BOARD
    assert bench.now_s - 120.0 <= 0.5


@pytest.mark.parametrize("properties", [BY_LINES, BY_HAND])
def test_after_no_answer_only_a_clear_answer_is_another_visit(properties: SlotProperties) -> None:
    """What was visited in vain may make noise for ever: no visit comes of it until somebody says who it is."""
    bench = Bench(properties=properties)
    for tenth in range(200):
        bench.at(tenth / 10, bench.seat(NOBODY, b"?" * 4))
    bench.at(40.0, bench.seat(loader_of(MAC)))
    assert await_departure(bench.socket(), bench.board(Left.NOBODY, mac="", seat_again=True)) is Seen.OTHER_BOARD
    assert 40.0 <= bench.now_s - 100.0 <= 41.5


def test_a_chattering_line_is_asked_four_times_a_second_at_most() -> None:
    """Bytes that never stop do not make a busy loop, and after a few unclear answers a visit finds out."""
    bench = Bench(properties=BY_HAND)
    for tenth in range(100):
        bench.at(tenth / 10, bench.seat(NOBODY, b"?" * 4))
    assert await_board(bench.socket()) is Seen.BOARD
    asked = [when for when, what in bench.journal if what == "knock"]
    assert all(later - earlier >= 0.25 for earlier, later in itertools.pairwise(asked))
    assert bench.now_s <= 103.0


def test_a_contact_that_bounces_is_no_board() -> None:
    """Three stray bytes every now and then do not begin a visit."""
    bench = Bench(properties=BY_HAND).unplug_at(60.0)
    for moment in range(5, 55, 7):
        bench.at(moment, bench.seat(NOBODY, b"\x00\xff\x80"))
    with pytest.raises(LineStopped):
        await_board(bench.socket())


def test_a_board_that_speaks_and_never_answers_is_visited() -> None:
    """A firmware without a prompt says its boot message and nothing else: the visit says what that is."""
    bench = Bench(properties=BY_HAND).unplug_at(60.0)
    bench.at(5.0, bench.seat(NOBODY, INTO_FIRMWARE))
    assert await_board(bench.socket()) is Seen.BOARD
    assert 106.0 < bench.now_s < 109.0


def test_without_reset_lines_no_line_is_moved() -> None:
    """Where the lines reach no reset pin the port is opened without them, and no reset is tried."""
    bench = Bench(properties=BY_HAND).unplug_at(5.0)
    with pytest.raises(LineStopped):
        await_board(bench.socket())
    assert bench.journal[0][1] == "open may_reset=False"
    assert not [what for _, what in bench.journal if what.startswith("reset")]


@pytest.mark.parametrize("problem", [PortBusy("/dev/x", "minicom (7)"), PortDenied("no"), AdapterHung("hung")])
def test_a_port_that_cannot_be_used_is_for_a_visit_to_explain(problem: Exception) -> None:
    """The watch ends at once, so that the visit makes the finding."""
    bench = Bench(refuses=[problem])
    assert await_board(bench.socket()) is Seen.BOARD
    assert bench.now_s == 100.0


@pytest.mark.parametrize("early", [True, False])
def test_a_port_that_vanishes_waits_for_the_unplug(*, early: bool) -> None:
    """The device is gone before the uevent came: no visit begins for it."""
    bench = Bench().unplug_at(3.0)
    if early:
        bench.refuses = [PortMissing("gone")]
        bench.moments[0] = (101.0, bench.moments[0][1])
    else:
        bench.at(2.0, lambda: setattr(bench, "gone", True))
    with pytest.raises(LineStopped):
        await_board(bench.socket())
    assert bench.open_lines == 0


# -- a board with its result on screen ---------------------------------------------------------------------------------


def test_by_the_lines_a_board_is_reset_once_and_asked_once_a_second() -> None:
    """It goes into its loader, GPIO0 stays held, and for as long as the same MAC answers nothing else happens."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), runs_after_reset=loader_of(MAC)).unplug_at(30.0)
    stays(bench, bench.board(Left.FIRMWARE))
    assert bench.count("reset into loader") == 1
    assert bench.journal[2] == (0.5, "hold low=True")
    assert 24 <= bench.count("ask") <= 31
    assert True not in bench.unwatched


def test_by_the_lines_a_lifted_board_is_gone_within_three_seconds() -> None:
    """The first question without an answer is followed by a reset: no boot message, no board."""
    bench = Bench(here=loader_of(MAC)).unplug_at(30.0)
    bench.at(10.2, bench.seat(NOBODY))
    assert departs(bench, bench.board())[0] is Seen.GONE
    assert bench.now_s - 110.2 <= 3.0


def test_a_swap_between_two_questions_is_noticed_by_the_mac() -> None:
    """Another board in the socket within one second: its MAC tells, and no silence is needed."""
    bench = Bench(here=loader_of(MAC)).unplug_at(30.0)
    bench.at(10.2, bench.seat(loader_of(OTHER)))
    assert departs(bench, bench.board())[0] is Seen.OTHER_BOARD
    assert bench.now_s - 110.2 <= 1.2


def test_a_loader_that_hung_is_the_same_board_after_a_reset() -> None:
    """A board that misses questions but comes back by the lines stays on screen."""
    bench = Bench(here=loader_of(MAC), runs_after_reset=loader_of(MAC)).unplug_at(30.0)
    bench.at(10.2, bench.seat(Peek(answer=Answer.NOTHING)))
    # It hangs, but its reset pin still works: the probe hears it.
    bench.runs_after_reset = loader_of(MAC)
    stays(bench, bench.board())
    assert bench.count("reset into loader") == 2


def test_an_empty_socket_behind_a_result_is_found_at_once_by_the_lines() -> None:
    """The board was lifted before the watch began: two resets without a boot message, and it is gone."""
    bench = Bench()
    assert departs(bench, bench.board())[0] is Seen.GONE
    assert bench.count("reset into loader") == 2


def test_without_lines_one_missed_answer_is_not_a_departure_and_two_are() -> None:
    """A loader that already answers is asked once a second; it is gone after two questions in a row without an answer."""
    bench = Bench(here=loader_of(MAC), properties=BY_HAND).unplug_at(60.0)
    bench.at(10.0, bench.seat(NOBODY)).at(11.2, bench.seat(loader_of(MAC)))
    bench.at(30.0, bench.seat(NOBODY))
    assert departs(bench, bench.board())[0] is Seen.GONE
    assert 131.0 <= bench.now_s <= 132.5


def test_damaged_answers_do_not_make_another_board_of_it() -> None:
    """An answer whose MAC could not be read, or a burst of noise, changes nothing on screen."""
    bench = Bench(here=loader_of(MAC), properties=BY_HAND).unplug_at(30.0)
    bench.at(5.0, bench.seat(loader_of(""))).at(8.0, bench.seat(Peek(answer=Answer.NOISE)))
    bench.at(9.2, bench.seat(loader_of(MAC)))
    stays(bench, bench.board())


def test_a_running_firmware_is_never_sent_a_byte() -> None:
    """It is only listened to, however long; that it may leave unseen is said."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND).unplug_at(600.0)
    for second in range(100, 500, 100):
        bench.at(second, bench.seat(Peek(answer=Answer.FIRMWARE), b"temperature 21\r\n"))
    stays(bench, bench.board(Left.FIRMWARE))
    assert [what for _, what in bench.journal] == ["open may_reset=False"]
    assert bench.unwatched == [True]
    assert bench.waits < 40


def test_the_next_board_is_found_by_its_boot_message() -> None:
    """A swap behind a running firmware: the ROM speaks, and the loader that answers has another MAC."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(loader_of(OTHER), INTO_LOADER))
    seen, after_s = departs(bench, bench.board(Left.FIRMWARE))
    assert seen is Seen.OTHER_BOARD
    assert after_s - 20.0 <= 0.5


def test_a_firmware_that_fell_into_its_loader_is_the_same_board_and_watched_again() -> None:
    """The chip restarted by itself with GPIO0 low: the MAC is known, the result stays, and its leaving is seen."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(loader_of(MAC), INTO_LOADER)).at(40.0, bench.seat(NOBODY))
    assert departs(bench, bench.board(Left.FIRMWARE))[0] is Seen.GONE
    assert bench.unwatched == [True, False]
    assert 141.0 <= bench.now_s <= 143.0


def test_a_firmware_that_starts_after_a_pause_was_seated_and_is_not_disturbed() -> None:
    """A boot message into the firmware, after the silence of a hand: a visit shall look, and the watch sends nothing."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(Peek(answer=Answer.FIRMWARE), INTO_FIRMWARE))
    assert departs(bench, bench.board(Left.FIRMWARE))[0] is Seen.OTHER_BOARD
    assert bench.count("ask") == bench.count("knock") == 0


def test_a_firmware_that_restarts_in_mid_sentence_is_the_same_board() -> None:
    """A board in a boot loop says its message without a pause: it keeps its verdict."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND).unplug_at(30.0)
    for half_seconds in range(50):
        bench.at(0.1 + half_seconds / 2, bench.seat(Peek(answer=Answer.FIRMWARE), INTO_FIRMWARE))
    stays(bench, bench.board(Left.FIRMWARE))


def test_a_boot_message_in_pieces_is_one() -> None:
    """It comes in chunks of any size."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND).unplug_at(60.0)
    for number in range(len(INTO_FIRMWARE)):
        bench.at(20.0 + number / 1000, bench.seat(bench.here, INTO_FIRMWARE[number : number + 1]))
    assert departs(bench, bench.board(Left.FIRMWARE))[0] is Seen.OTHER_BOARD


def test_where_nothing_answered_the_words_stay_until_somebody_is_seated() -> None:
    """No answer, and no lines to ask by: the socket is listened to, and the first loader after it is a new board."""
    bench = Bench(properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(loader_of(MAC), INTO_LOADER))
    seen, after_s = departs(bench, bench.board(mac=""))
    assert (seen, bench.unwatched) == (Seen.OTHER_BOARD, [True])
    assert after_s >= 20.0


def test_a_board_nobody_knew_is_learned_and_then_watched() -> None:
    """The visit never read a MAC; the watch does, and a second one is another board."""
    bench = Bench(here=loader_of(MAC), properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(loader_of(OTHER)))
    seen, after_s = departs(bench, bench.board(mac=""))
    assert seen is Seen.OTHER_BOARD
    assert after_s >= 20.0


@pytest.mark.parametrize("seat_again", [True, False])
def test_the_same_board_seated_anew_is_tried_again_only_where_the_words_ask_for_it(*, seat_again: bool) -> None:
    """Words that asked for a hand are obeyed with the same board: it gets its visit; a verdict stays what it is."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(loader_of(MAC), INTO_LOADER))
    board = bench.board(Left.FIRMWARE, seat_again=seat_again)
    if seat_again:
        assert departs(bench, board)[0] is Seen.OTHER_BOARD
    else:
        stays(bench, board)


def test_a_quick_re_seat_in_the_loader_is_a_new_try_where_that_was_asked() -> None:
    """One question without an answer, then a boot message and the same MAC: the hand was there."""
    bench = Bench(here=loader_of(MAC), properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(NOBODY)).at(21.4, bench.seat(loader_of(MAC), INTO_LOADER))
    assert departs(bench, bench.board(seat_again=True))[0] is Seen.OTHER_BOARD


def test_a_loader_that_resets_itself_is_not_tried_again() -> None:
    """A boot message without any silence is a weak supply, not a hand."""
    bench = Bench(here=loader_of(MAC), properties=BY_HAND).unplug_at(60.0)
    for moment in range(5, 50, 3):
        bench.at(moment, bench.seat(loader_of(MAC), INTO_LOADER))
    stays(bench, bench.board(seat_again=True))


def test_an_echo_stays_on_screen_until_the_short_is_gone() -> None:
    """TX and RX touch: the technician's light stays on, and goes with the short."""
    bench = Bench(here=Peek(answer=Answer.ECHO), properties=BY_HAND).unplug_at(60.0)
    bench.at(20.0, bench.seat(NOBODY))
    seen, after_s = departs(bench, bench.board(mac=""))
    assert seen is Seen.GONE
    assert after_s >= 20.0


def test_a_port_that_was_held_is_tried_every_two_seconds_and_is_an_empty_socket_then() -> None:
    """Nothing is known of a board: when the port can be opened the watch of the empty socket tells the rest."""
    bench = Bench(refuses=[PortBusy("/dev/x", "minicom (7)")] * 3, here=loader_of(MAC))
    seen, after_s = departs(bench, bench.board(Left.PORT, mac=""))
    assert (seen, after_s) == (Seen.GONE, 6.0)


def test_a_port_that_fails_for_a_while_does_not_lose_the_board() -> None:
    """The MAC is known, so the watch goes on with it as soon as the port can be opened."""
    bench = Bench(refuses=[PortGone("x"), PortDenied("x")], here=loader_of(MAC)).unplug_at(30.0)
    stays(bench, bench.board())


def test_a_test_slot_without_a_way_into_the_loader_is_not_reset() -> None:
    """Where GPIO0 is never low the loader cannot be asked: the firmware is left alone although the lines could reset it."""
    properties = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.NEVER_LOW, moves=Moves.BOARD, role=Role.TEST)
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=properties).unplug_at(30.0)
    stays(bench, bench.board(Left.FIRMWARE))
    assert [what for _, what in bench.journal] == ["open may_reset=True"]


# -- one look ----------------------------------------------------------------------------------------------------------


def look(bench: Bench) -> bool:
    """Whether the board is still there; the port is released whatever comes."""
    found = still_there(bench.socket(), MAC)
    assert bench.open_lines == 0
    return found


def test_only_the_very_board_is_still_there() -> None:
    """Its MAC answers in the loader: yes; another one, an unreadable one, an echo or silence: no."""
    assert look(Bench(here=loader_of(MAC)))
    for here in (loader_of(OTHER), loader_of(""), Peek(answer=Answer.ECHO), NOBODY):
        assert not look(Bench(here=here)), here


def test_a_running_board_is_asked_by_a_reset_where_the_lines_can() -> None:
    """By the lines it tells its MAC from its loader; its prompt is not needed."""
    bench = Bench(here=Peek(answer=Answer.FIRMWARE), runs_after_reset=loader_of(MAC))
    assert look(bench)
    assert bench.count("prompt") == 0


def test_a_running_board_without_lines_is_asked_by_its_prompt() -> None:
    """The REPL says who it is, and is left as a user expects it."""
    for mac, there in ((MAC, True), (OTHER, False), ("", False)):
        bench = Bench(here=Peek(answer=Answer.FIRMWARE), properties=BY_HAND, repl_mac=mac)
        assert look(bench) is there
        assert bench.count("left") == bool(mac)


@pytest.mark.parametrize("problem", [PortBusy("/dev/x", "minicom (7)"), PortMissing("x"), PortGone("x")])
def test_a_port_that_cannot_be_opened_confirms_nobody(problem: Exception) -> None:
    """Whoever cannot be asked does not answer."""
    assert not look(Bench(here=loader_of(MAC), refuses=[problem]))


def test_a_look_takes_less_than_the_claim_waits() -> None:
    """Even where nothing answers at all the look is over within ten seconds, and an unplug ends it at once."""
    bench = Bench(properties=BY_LINES)
    assert not look(bench)
    assert bench.now_s - 100.0 < 10.0
    pulled = Bench(properties=BY_HAND)
    pulled.stop.request(StopCause.UNPLUGGED)
    with pytest.raises(LineStopped):
        still_there(pulled.socket(), MAC)

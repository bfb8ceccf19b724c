"""What docs/operator.md says a tile says, held against the program, row for row, in every kind of socket there is.

The rows are made from `station.slotwords` and `station.reasons`, which page, terminal and log show as well; nothing of them
is written down here. What a row's socket is called is written by hand, and must name exactly the sockets where it holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from station.model import CommittedJob, JobState, Light, Outcome, Tray
from station.properties import ANY_SLOT, Gpio0, Moves, Reset, Role, SlotProperties, in_words, refusal
from station.reasons import MEANINGS, Reason
from station.slotwords import Texts, texts_of
from station.transitions import LIGHTS, RESULTS, Shown, SlotState, event_of, reason_of
from station.verdict import Verdict, same_in_two_slots
from station.visit import Finding

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operator.md"
DETAIL = "\N{HORIZONTAL ELLIPSIS}"
NOTHING = "\N{EN DASH}"
TRAY_OF_WORD = {tray.value: tray.value for tray in Tray}

COMBINATIONS = tuple(
    properties
    for reset, gpio0, moves, role in itertools.product((None, *Reset), (None, *Gpio0), Moves, Role)
    if not refusal(properties := SlotProperties(reset=reset, gpio0=gpio0, moves=moves, role=role))
)
"""Every socket that the configuration lets through, those included of which something is not known yet."""
STICK, SEAT = ANY_SLOT, SlotProperties(moves=Moves.BOARD)


def has_jumper(slot: SlotProperties) -> bool:
    """A hand moves GPIO0 there, or nobody knows better."""
    return slot.gpio0 is Gpio0.HAND or (slot.gpio0 is None and slot.reset is not Reset.LINES)


KINDS: dict[str, Callable[[SlotProperties], bool]] = {
    "all": lambda _slot: True,
    "jumper": has_jumper,
    "no jumper": lambda slot: not has_jumper(slot),
    "soldered": lambda slot: slot.gpio0 is Gpio0.ALWAYS_LOW,
    "no jumper, not soldered": lambda slot: not has_jumper(slot) and slot.gpio0 is not Gpio0.ALWAYS_LOW,
    "jumper, flashes": lambda slot: has_jumper(slot) and slot.flashes,
    "no jumper, or never flashes": lambda slot: not (has_jumper(slot) and slot.flashes),
    "tests only": lambda slot: slot.role is Role.TEST,
}
"""What a kind of socket is called on the page, and which sockets are of that kind: written by hand."""
MOVES: dict[str, Callable[[SlotProperties], bool]] = {
    "": lambda _slot: True,
    "; plug": lambda slot: not slot.board_moves,
    "; seat": lambda slot: slot.board_moves,
}
"""What follows the kind where it matters what moves."""

PASS = CommittedJob(
    id="job-1",
    slot="A1",
    mac="5c:cf:7f:dd:c1:42",
    chip_id=0xDDC142,
    state=JobState.CLOSED,
    outcome=Outcome.PASS,
    reason="",
    detail="",
    phases=(),
    measurements=(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One thing that a tile can show."""

    name: str
    """As in the first column."""
    state: SlotState
    shown: Shown = None
    light: Light
    tray: Tray = Tray.NONE
    with_stick: bool = True
    """Whether it occurs where the programmer moves."""
    with_seat: bool = True
    """Whether it occurs where only the board moves."""

    def texts(self, slot: SlotProperties) -> Texts:
        """What stands on the tile in such a slot."""
        return texts_of(self.state, self.shown, slot)

    def occurs_in(self, slot: SlotProperties) -> bool:
        """Whether a tile can show it in such a slot at all."""
        return self.with_seat if slot.board_moves else self.with_stick


def of_state(state: SlotState, *, with_stick: bool = True, with_seat: bool = True) -> Situation:
    """A state that needs no reason."""
    return Situation(name=f"`{state}`", state=state, light=LIGHTS[state], with_stick=with_stick, with_seat=with_seat)


def of_pass(attempt: int) -> Situation:
    """A PASS that came at this attempt."""
    name, state = f"`PASS`, attempt {attempt}", SlotState.PASS
    return Situation(name=name, state=state, shown=replace(PASS, attempt=attempt), light=LIGHTS[state], tray=Tray.GOOD)


def of_reason(reason: Reason) -> Situation:
    """What a visit found, or what keeps it from beginning; how it came about does not change the words."""
    meaning, shown = MEANINGS[reason], Finding(visit_id="v", reason=reason, detail=DETAIL)
    return Situation(name=f"`{reason}`", state=SlotState.ACTION, shown=shown, light=meaning.light, tray=meaning.tray)


def of_second_error(reason: Reason) -> Situation:
    """A board that met this ERROR in another slot before: FAIL, with the reason of the ERROR."""
    row = replace(PASS, outcome=Outcome.FAIL, reason=reason.value, detail=DETAIL)
    state = SlotState.FAIL
    return Situation(name=f"`{reason}`", state=state, shown=row, light=LIGHTS[state], tray=Tray.BAD)


def becomes_fail(reason: Reason) -> bool:
    """Whether this ERROR, met in a second slot, is the board's fault."""
    first = Verdict(state=JobState.CLOSED, outcome=MEANINGS[reason].outcome, reason=reason, detail="")
    return same_in_two_slots(first, "A1", [(reason.value, "A2")]).outcome is Outcome.FAIL != first.outcome


WITHOUT_REASON = (
    of_state(SlotState.EMPTY),
    of_state(SlotState.READY, with_stick=False),
    of_state(SlotState.LIFTED, with_seat=False),
    of_state(SlotState.BUSY),
    of_pass(1),
    of_pass(2),
    of_state(SlotState.CLOSING),
)
TRAYS_IN_ORDER = (Tray.GOOD, Tray.BAD, Tray.AGAIN, Tray.NONE, Tray.CALL)
OF_REASONS = tuple(of_reason(reason) for tray in TRAYS_IN_ORDER for reason in Reason if MEANINGS[reason].tray is tray)
EVERYTHING = WITHOUT_REASON + OF_REASONS
SECOND_ERRORS = tuple(of_second_error(reason) for reason in Reason if becomes_fail(reason))


def or_nothing(text: str) -> str:
    """The text, or the sign for none."""
    return text or NOTHING


def everywhere() -> Iterator[tuple[str, ...]]:
    """The rows of the first table: a stick with a jumper, and the hand's deed where only the board moves."""
    for one in EVERYTHING:
        here, seated = one.texts(STICK), one.texts(SEAT)
        yield (
            one.name,
            here.headline,
            one.light,
            or_nothing(here.words),
            one.tray.replace("-", NOTHING),
            or_nothing(here.deed if one.with_stick else ""),
            or_nothing(seated.deed if one.with_seat else ""),
        )


def elsewhere() -> Iterator[tuple[str, ...]]:
    """The rows of the second table: whatever is said in some socket and does not stand in the first one."""
    for one in EVERYTHING:
        said: dict[tuple[str, str], set[SlotProperties]] = {}
        for slot in filter(one.occurs_in, COMBINATIONS):
            texts = one.texts(slot)
            said.setdefault((texts.words, texts.deed), set()).add(slot)
        first = one.texts(STICK)
        in_first_table = {(first.words, first.deed), (first.words, one.texts(SEAT).deed)}
        for (words, deed), slots in said.items():
            if (words, deed) not in in_first_table:
                yield one.name, name_of(slots), words, or_nothing(deed)


def name_of(slots: Iterable[SlotProperties]) -> str:
    """How the page calls exactly these sockets."""
    wanted = set(slots)
    for (name, of_kind), (suffix, moves) in itertools.product(KINDS.items(), MOVES.items()):
        if wanted == {slot for slot in COMBINATIONS if of_kind(slot) and moves(slot)}:
            return name + suffix
    pytest.fail(f"some sockets say what others do not; give them a name in KINDS: {[in_words(one) for one in wanted]}")


def in_two_slots() -> Iterator[tuple[str, ...]]:
    """The rows of the third table: an ERROR that the same board met in two slots."""
    for one in SECOND_ERRORS:
        here, seated = one.texts(STICK), one.texts(SEAT)
        yield one.name, here.headline, one.light, here.words, one.tray, here.deed, seated.deed


def documented(title: str) -> list[tuple[str, ...]]:
    """The rows of the first table under the heading with this title."""
    section = PAGE.read_text("utf-8").partition(f"# {title}\n")[2]
    lines = itertools.takewhile(
        lambda line: line.startswith("|"), itertools.dropwhile(lambda line: line[:1] != "|", section.splitlines())
    )
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in list(lines)[2:]]


def markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """The rows as they have to stand on the page."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


@pytest.mark.parametrize(
    ("title", "rows"),
    [("What every tile says", everywhere), ("Said otherwise", elsewhere), ("The second time", in_two_slots)],
)
def test_the_page_says_what_the_program_says(title: str, rows: Callable[[], Iterator[tuple[str, ...]]]) -> None:
    """Big word, light, words, tray and deed of every state and every reason, in every kind of socket, in this order."""
    expected = list(rows())
    assert documented(title) == expected, f"\nIn {PAGE.name}, under {title!r}, has to stand:\n{markdown(expected)}"


def test_the_page_explains_what_a_tile_says_of_its_socket() -> None:
    """Whoever holds the jumper and whatever moves, the page has a line for it, in the words of the EMPTY tile."""
    said = {part for row in documented("Which socket is it") for part in row[0].split(", ")}
    told = {part for slot in COMBINATIONS for part in in_words(slot).split(", ")[1:3]}
    assert said == told


def test_every_state_of_a_slot_is_in_the_table() -> None:
    """A state has a row of its own, or it shows a reason, and every reason has a row."""
    rows = {one.state for one in WITHOUT_REASON}
    assert rows | {*RESULTS, SlotState.WAITING, SlotState.PULLED} == set(SlotState)
    assert {reason_of(one.shown)[0] for one in OF_REASONS} == set(Reason)


@pytest.mark.parametrize("one", OF_REASONS, ids=lambda one: one.name.strip("`"))
def test_a_reason_says_the_same_in_every_state_that_shows_it(one: Situation) -> None:
    """The table has one row for it, whether the slot waits because of it, shows it as a result, or is empty by now."""
    for slot in (STICK, SEAT):
        said = {texts_of(state, one.shown, slot) for state in (SlotState.WAITING, SlotState.FAULT, SlotState.PULLED)}
        assert said == {one.texts(slot)}


def test_a_pull_says_the_same_while_it_is_closed_and_afterwards() -> None:
    """From the moment of the pull until the next board the tile does not change its words."""
    pulled = of_reason(Reason.UNPLUGGED)
    for slot in COMBINATIONS:
        closing = texts_of(SlotState.CLOSING, None, slot)
        assert (closing.words, closing.deed) == (pulled.texts(slot).words, pulled.texts(slot).deed)


@pytest.mark.parametrize("one", OF_REASONS, ids=lambda one: one.name.strip("`"))
def test_the_big_word_never_contradicts_the_tray(one: Situation) -> None:
    """GOOD, BAD, AGAIN and CALL stand over their own tray only, and GOOD over no reason at all."""
    headline = one.texts(STICK).headline
    assert headline != Tray.GOOD
    assert TRAY_OF_WORD.get(headline, one.tray) == one.tray


def test_good_is_said_of_a_pass_alone() -> None:
    """Of all that a tile can say, GOOD and the light PASS belong to a closed row that says PASS."""
    good = [one for one in (*EVERYTHING, *SECOND_ERRORS) if one.texts(STICK).headline == "GOOD" or one.light == "PASS"]
    assert [one.name for one in good] == ["`PASS`, attempt 1", "`PASS`, attempt 2"]
    assert {event_of(one.shown) for one in good if isinstance(one.shown, CommittedJob)} == {"passed"}

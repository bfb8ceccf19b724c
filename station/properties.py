"""What a slot is: how its programmer resets a board, who moves GPIO0, what moves at a plug, and what the slot is for.

Four independent properties. The first two may be unknown (None): they are found out with the first board and remembered
with the evidence. `refusal` says which combinations make no sense, and why; the rest of the program may rely on never
meeting one of those. Everything here is pure. Decision record 0011 gives the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Reset(StrEnum):
    """How a board's EN pin is pulled low."""

    LINES = "lines"
    """By RTS, through two transistors or directly."""
    NONE = "none"
    """By nothing: only a loss of power restarts the board."""


class Gpio0(StrEnum):
    """Who decides whether GPIO0 is at GND while the board starts."""

    LINES = "lines"
    HAND = "hand"
    """A jumper, a switch or a button."""
    ALWAYS_LOW = "always_low"
    """Soldered: every board comes up in its loader."""
    NEVER_LOW = "never_low"
    """Every board comes up in its firmware."""


class Moves(StrEnum):
    """What the hand takes away when a board is done."""

    PROGRAMMER = "programmer"
    BOARD = "board"
    """The programmer stays plugged; boards come and go without any uevent."""
    EITHER = "either"


class Role(StrEnum):
    """What the slot is for."""

    MAKE = "make"
    FLASH = "flash"
    """Writes only; the board is tested in another slot."""
    TEST = "test"
    """Tests what was flashed elsewhere; never writes flash."""
    INSPECT = "inspect"
    """Reads only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotProperties:
    """The four properties of one slot."""

    reset: Reset | None = None
    gpio0: Gpio0 | None = None
    moves: Moves = Moves.PROGRAMMER
    role: Role = Role.MAKE

    @property
    def board_moves(self) -> bool:
        """Whether boards may come and go while the programmer stays, so that presence has to be probed."""
        return self.moves is not Moves.PROGRAMMER

    @property
    def flashes(self) -> bool:
        """Whether this slot writes flash."""
        return self.role in (Role.MAKE, Role.FLASH)

    @property
    def tests(self) -> bool:
        """Whether this slot may run a self-test."""
        return self.role in (Role.MAKE, Role.TEST)

    @property
    def may_reset(self) -> bool:
        """Whether the modem lines may be moved: known to reach EN, or not known yet."""
        return self.reset is not Reset.NONE

    @property
    def starts_firmware_by_lines(self) -> bool:
        """Whether a reset by the lines may end in the firmware; the unknown counts as may."""
        return self.may_reset and self.gpio0 in (Gpio0.LINES, Gpio0.NEVER_LOW, None)

    @property
    def hand_frees_gpio0(self) -> bool:
        """Whether a hand can take GPIO0 off GND in this slot, so that the next power-up starts the firmware."""
        return self.gpio0 in (Gpio0.HAND, Gpio0.NEVER_LOW) or (self.gpio0 is None and self.reset is not Reset.LINES)

    def learned(self, *, reset: Reset | None = None, gpio0: Gpio0 | None = None) -> SlotProperties:
        """Return these properties with what was unknown filled in; what is known stays."""
        return replace(self, reset=self.reset or reset, gpio0=self.gpio0 or gpio0)


ANY_SLOT = SlotProperties()
"""A slot of which nothing is known yet: a programmer that moves, and makes boards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a visit found out about its slot, and from what."""

    evidence: str
    reset: Reset | None = None
    gpio0: Gpio0 | None = None


def in_words(properties: SlotProperties) -> str:
    """Return the properties for people: `reset lines, gpio0 hand, board moves, make`; what is unknown has a `?`."""
    moves = {Moves.PROGRAMMER: "programmer moves", Moves.BOARD: "board moves", Moves.EITHER: "either moves"}
    return f"reset {properties.reset or '?'}, gpio0 {properties.gpio0 or '?'}, {moves[properties.moves]}, {properties.role}"


def refusal(properties: SlotProperties) -> str:
    """Return why this combination makes no sense and what to write instead, empty when it does."""
    reset, gpio0, role = properties.reset, properties.gpio0, properties.role
    if gpio0 is Gpio0.LINES and reset is Reset.NONE:
        return (
            'gpio0 = "lines" with reset = "none": a line can ground GPIO0 only while the board starts, and nothing here'
            ' restarts it; write gpio0 = "hand", or reset = "lines"'
        )
    if gpio0 is Gpio0.NEVER_LOW and properties.flashes:
        return (
            f'gpio0 = "never_low" with role = "{role}": without GPIO0 at GND no board enters its loader, so nothing can be'
            ' flashed here; write role = "test" or "inspect"'
        )
    if gpio0 is Gpio0.ALWAYS_LOW and role is Role.TEST:
        return (
            'gpio0 = "always_low" with role = "test": a board that gets power here starts its loader, never its firmware;'
            ' write role = "make", "flash" or "inspect"'
        )
    return ""

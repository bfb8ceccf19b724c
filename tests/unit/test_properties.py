"""The four properties of a slot: which combinations there are, what each allows, and how they are said."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest

from station.properties import Gpio0, Moves, Reset, Role, SlotProperties, in_words, refusal

ROLES = (Role.MAKE, Role.FLASH, Role.TEST, Role.INSPECT)
# Written by hand, from decision record 0011. What moves is never a reason to refuse.
#   reset  gpio0       make flash test inspect
COMBINATIONS = """
    lines  lines       yes  yes   yes  yes
    lines  hand        yes  yes   yes  yes
    lines  always_low  yes  yes   no   yes
    lines  never_low   no   no    yes  yes
    lines  ?           yes  yes   yes  yes
    none   lines       no   no    no   no
    none   hand        yes  yes   yes  yes
    none   always_low  yes  yes   no   yes
    none   never_low   no   no    yes  yes
    none   ?           yes  yes   yes  yes
    ?      lines       yes  yes   yes  yes
    ?      hand        yes  yes   yes  yes
    ?      always_low  yes  yes   no   yes
    ?      never_low   no   no    yes  yes
    ?      ?           yes  yes   yes  yes
"""
# What follows from reset and gpio0 alone.
#   reset  gpio0       firmware by the lines  a hand frees GPIO0
ABILITIES = """
    lines  lines       yes                    no
    lines  hand        no                     yes
    lines  always_low  no                     no
    lines  never_low   yes                    yes
    lines  ?           yes                    no
    none   lines       no                     no
    none   hand        no                     yes
    none   always_low  no                     no
    none   never_low   no                     yes
    none   ?           no                     yes
    ?      lines       yes                    no
    ?      hand        no                     yes
    ?      always_low  no                     no
    ?      never_low   yes                    yes
    ?      ?           yes                    yes
"""


def table(text: str) -> dict[tuple[Reset | None, Gpio0 | None], list[bool]]:
    """The rows of a table above: reset and gpio0 -> its columns of yes and no."""
    rows = {}
    for line in text.strip().splitlines():
        reset, gpio0, *cells = line.split()
        assert set(cells) <= {"yes", "no"}
        key = (None if reset == "?" else Reset(reset), None if gpio0 == "?" else Gpio0(gpio0))
        rows[key] = [cell == "yes" for cell in cells]
    return rows


EVERY = [
    SlotProperties(reset=reset, gpio0=gpio0, moves=moves, role=role)
    for reset, gpio0, moves, role in itertools.product([*Reset, None], [*Gpio0, None], Moves, Role)
]


def test_every_combination_is_in_the_table() -> None:
    """Nothing that can be written is left out: two ways of reset or unknown, four of GPIO0 or unknown, 3 moves, 4 roles."""
    assert len(EVERY) == len(set(EVERY)) == 3 * 5 * 3 * 4
    assert set(table(COMBINATIONS)) == set(table(ABILITIES)) == {(slot.reset, slot.gpio0) for slot in EVERY}
    assert sum(not allowed for row in table(COMBINATIONS).values() for allowed in row) == 13


@pytest.mark.parametrize("slot", EVERY, ids=in_words)
def test_a_combination_is_refused_exactly_where_the_table_says_so(slot: SlotProperties) -> None:
    """All 180 combinations against the table written by hand; what moves changes none of them."""
    allowed = dict(zip(ROLES, table(COMBINATIONS)[slot.reset, slot.gpio0], strict=True))[slot.role]
    assert (refusal(slot) == "") is allowed


@pytest.mark.parametrize("slot", [slot for slot in EVERY if refusal(slot)], ids=in_words)
def test_a_refusal_names_what_contradicts_and_what_to_write_works(slot: SlotProperties) -> None:
    """The reason quotes two properties as they stand; each thing it says to write makes the combination a good one."""
    reason, separator, fix = refusal(slot).partition("; write ")
    assert separator
    assert "\n" not in reason
    quoted = dict(re.findall(r'(\w+) = "(\w+)"', reason))
    assert len(quoted) == 2
    assert all(getattr(slot, name) == value for name, value in quoted.items())
    name = ""
    mended = []
    for named, value in re.findall(r'(?:(\w+) = )?"(\w+)"', fix):
        name = named or name
        kind = {"reset": Reset, "gpio0": Gpio0, "role": Role}[name]
        change: dict[str, Any] = {name: kind(value)}
        mended.append(replace(slot, **change))
    assert len(mended) >= 2
    assert [refusal(each) for each in mended] == [""] * len(mended)


@pytest.mark.parametrize("slot", EVERY, ids=in_words)
def test_what_a_slot_may_do_follows_from_its_properties(slot: SlotProperties) -> None:
    """Who flashes, who tests, whether boards come without a plug, whether lines may move: by role, moves and reset alone."""
    assert slot.flashes == (slot.role in {"make", "flash"})
    assert slot.tests == (slot.role in {"make", "test"})
    assert slot.board_moves == (slot.moves in {"board", "either"})
    assert slot.may_reset == (slot.reset != "none")
    by_lines, by_hand = table(ABILITIES)[slot.reset, slot.gpio0]
    assert (slot.starts_firmware_by_lines, slot.hand_frees_gpio0) == (by_lines, by_hand)


@pytest.mark.parametrize(
    ("slot", "words"),
    [
        (SlotProperties(), "reset ?, gpio0 ?, programmer moves, make"),
        (
            SlotProperties(reset=Reset.LINES, gpio0=Gpio0.HAND, moves=Moves.BOARD, role=Role.TEST),
            "reset lines, gpio0 hand, board moves, test",
        ),
        (
            SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW, moves=Moves.EITHER, role=Role.FLASH),
            "reset none, gpio0 always_low, either moves, flash",
        ),
    ],
)
def test_the_properties_are_said_in_four_words(slot: SlotProperties, words: str) -> None:
    """Reset, GPIO0, what moves, role; what is not known yet is a question mark."""
    assert in_words(slot) == words


def test_no_two_slots_are_said_alike() -> None:
    """The words tell every combination from every other, in four parts divided by a comma."""
    assert len({in_words(slot) for slot in EVERY}) == len(EVERY)
    assert {len(in_words(slot).split(", ")) for slot in EVERY} == {4}


def test_learning_fills_in_what_is_unknown_and_changes_nothing_else() -> None:
    """What is known stays, whatever is found out; moves and role are never learned."""
    unknown = SlotProperties(moves=Moves.BOARD, role=Role.FLASH)
    both = unknown.learned(reset=Reset.NONE, gpio0=Gpio0.HAND)
    assert both == SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND, moves=Moves.BOARD, role=Role.FLASH)
    assert unknown.learned(gpio0=Gpio0.HAND) == replace(unknown, gpio0=Gpio0.HAND)
    assert both.learned(reset=Reset.LINES, gpio0=Gpio0.LINES) == both
    assert unknown.learned() == unknown
    assert unknown == SlotProperties(moves=Moves.BOARD, role=Role.FLASH)


def test_a_slot_of_which_nothing_is_known_is_a_place_where_programmers_are_plugged() -> None:
    """Without a word in the configuration a slot makes boards, programmers come and go, and the rest is found out."""
    assert SlotProperties() == SlotProperties(reset=None, gpio0=None, moves=Moves.PROGRAMMER, role=Role.MAKE)

"""What each light looks like: one table for every lamp, terminal and page.

Pure data. The colour is never alone: each light has its own shape and its own word, for people who see red and green
alike. Where one lamp must speak for a whole bench, the most urgent light wins, and green is the last to win but for the
dark: it means that everything plugged in has passed. The reasons are written down in `docs/lights.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from station.model import Light


class Colour(StrEnum):
    """The lamps there may be; GREY is no lamp at all."""

    RED = "red"
    AMBER = "amber"
    GREEN = "green"
    GREY = "grey"


class Rhythm(StrEnum):
    """How a lamp is driven."""

    STEADY = "steady"
    BLINK = "blink"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Appearance:
    """How one light is shown."""

    colour: Colour
    rhythm: Rhythm
    shape: str
    """One character whose outline differs from all the others' without any colour."""

    @property
    def blinks(self) -> bool:
        """Whether a hand is wanted now."""
        return self.rhythm is Rhythm.BLINK


# Most urgent first: this order is the policy of a lamp that speaks for several slots. What blinks wants a person now.
APPEARANCES: Mapping[Light, Appearance] = MappingProxyType(
    {
        Light.FAULT: Appearance(Colour.RED, Rhythm.BLINK, "\N{BLACK DIAMOND}"),
        Light.FAIL: Appearance(Colour.RED, Rhythm.STEADY, "\N{HEAVY BALLOT X}"),
        Light.ACTION: Appearance(Colour.AMBER, Rhythm.BLINK, "\N{BLACK UP-POINTING TRIANGLE}"),
        Light.BUSY: Appearance(Colour.AMBER, Rhythm.STEADY, "\N{CIRCLE WITH LEFT HALF BLACK}"),
        Light.PASS: Appearance(Colour.GREEN, Rhythm.STEADY, "\N{HEAVY CHECK MARK}"),
        Light.EMPTY: Appearance(Colour.GREY, Rhythm.OFF, "\N{WHITE CIRCLE}"),
    }
)
_BY_URGENCY = tuple(APPEARANCES)


def most_urgent(lights: Iterable[Light]) -> Light:
    """Return the light that one lamp shows for all of `lights`; EMPTY when there are none."""
    return min(lights, key=_BY_URGENCY.index, default=Light.EMPTY)

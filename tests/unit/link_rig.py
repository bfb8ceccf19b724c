"""A link to one scripted board, for tests of the retry policy."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import msgspec
import pytest

from station.config import FlashingSection
from station.errors import JobEnded, LinkCorrupt, LinkSilent
from station.flashing import BoardLink, image_for
from station.link import Evidence
from station.model import FlashChip, Measurement
from station.properties import Learned, SlotProperties
from station.recipe import Recipe
from station.views import Progress
from tests.unit.memory_records import AUTO, STICK
from tests.unit.scripted_board import PROGRAMMER, InstantStop, ScriptedBoard
from tests.unit.scripted_talk import ScriptedFlasher, ScriptedOpener
from tests.unit.small_image import small_recipe

LADDER = (460_800, 230_400, 115_200)
SETTINGS = FlashingSection(baud_ladder=LADDER, identity_reads_over_s=0.3)


class Rig:
    """A link to one scripted board, and the three steps of the loader's half of a job."""

    def __init__(
        self,
        board: ScriptedBoard,
        recipe: Recipe,
        flashing: FlashingSection = SETTINGS,
        properties: SlotProperties | None = None,
    ) -> None:
        self.board, self.recipe = board, recipe
        self.learned: list[Learned] = []
        self.evidence = Evidence()
        self.told: list[Progress] = []
        self.stop = InstantStop(board.clock)
        self.link = BoardLink(
            programmer=PROGRAMMER,
            opener=ScriptedOpener(board),
            flasher=ScriptedFlasher(board),
            stop=self.stop,
            settings=flashing,
            evidence=self.evidence,
            clock=board.clock,
            tell=self.told.append,
            properties=properties or (AUTO if board.lines else STICK),
            learn=self._learn,
        )

    def _learn(self, learned: Learned) -> None:
        self.learned.append(learned)
        self.link.properties = self.link.properties.learned(reset=learned.reset, gpio0=learned.gpio0)

    def connect(self) -> FlashChip:
        """CONNECT."""
        self.link.connect()
        return self.link.read_chip(self.recipe)

    def make(self) -> bytes:
        """CONNECT, FLASH and VERIFY; return the image."""
        chip = self.connect()
        image = image_for(self.recipe, chip, "dout")
        self.evidence.flash_mode = "dout"
        self.link.write(image)
        self.link.verify(image, chip)
        return image

    def ends(self) -> JobEnded:
        """Do all of it, which must end early for a reason of the closed list; nothing was proved."""
        with pytest.raises(JobEnded) as ended:
            self.make()
        return ended.value

    def value(self, name: str) -> Measurement | None:
        """The measurement of that name."""
        return next((each for each in self.evidence.measurements if each.name == name), None)


@functools.cache
def link_recipe(size_bytes: int = 0x9400) -> Recipe:
    """A recipe whose image has this size."""
    with tempfile.TemporaryDirectory() as directory:
        return small_recipe(Path(directory), size_bytes=size_bytes)  # type: ignore[arg-type]


def rig(board: ScriptedBoard | None = None, properties: SlotProperties | None = None, **changes) -> Rig:
    """A rig for this board."""
    flashing = msgspec.structs.replace(SETTINGS, **changes)
    return Rig(board or ScriptedBoard(), link_recipe(), flashing, properties)


def silent() -> LinkSilent:
    """Nothing came back."""
    return LinkSilent("nothing came back")


def corrupt() -> LinkCorrupt:
    """Something else came back."""
    return LinkCorrupt("invalid head of packet")


def erases(board: ScriptedBoard) -> list[str]:
    """The rates at which the chip was erased, in order."""
    return [event.removeprefix("erase at ") for event in board.journal if event.startswith("erase")]

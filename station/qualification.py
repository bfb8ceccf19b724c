"""What `station qualify` measured of the slots, and which rates a slot may use because of it.

One JSON file in the state directory, `qualification.json`, written whole or not at all. A rate above `UNPROVEN_BAUD` is used
only in a slot that was measured in this very place, with this very kind of adapter, at this very rate, without one error.
Nothing here talks to a board; decision record 0019 says why the rules are as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from station.errors import ConfigurationError
from station.model import Programmer

FILE_NAME = "qualification.json"
UNPROVEN_BAUD = 460_800
"""The highest rate that a slot may use without having been measured: the field reports of it are good (speed.md §1)."""
MARGIN_ROUNDS = 3
"""So many rounds have to be without any error before a rate counts as clean."""
MARGIN_BYTES = 64 << 10
"""So many random bytes at least go each way in a round."""

Value = float | int | str | bool | None
_QUALIFY = "run: station qualify"


class RateResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one board at one rate under the stub."""

    baud: int
    round_bytes: int
    """So many random bytes were written, and read back, in each round."""
    rounds: int
    """How many were begun; fewer than asked for where the rate could not even be set."""
    clean: int
    """Rounds in which nothing at all went wrong, no block sent twice included."""
    corrupted: int = 0
    """Conversations that broke because bytes arrived damaged."""
    silent: int = 0
    """Conversations that broke because an answer, or its end, was missing."""
    restarted: int = 0
    """The board began anew in the middle: its supply, rather than the rate."""
    repeated_blocks: int = 0
    """Blocks that the stub refused for their checksum and took when they were sent again: a job would not have noticed."""
    wrong: int = 0
    """Rounds whose MD5, or whose bytes as read back, were not those that were sent."""
    change_s: float | None = None
    """From asking for the rate to the first answer at it."""
    write_s: float | None = None
    """The median of the rounds that were written to the end."""
    read_s: float | None = None

    @property
    def is_clean(self) -> bool:
        """Whether this rate may be used as far as this board shows; the margin is `MARGIN_ROUNDS` of `MARGIN_BYTES`."""
        return self.clean == self.rounds >= MARGIN_ROUNDS and self.round_bytes >= MARGIN_BYTES


class BoardResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one board in one slot; with `ended` it is only what was measured until then."""

    mac: str
    measured_at: str
    """UTC, ISO 8601."""
    flash: str = ""
    """The JEDEC id, as reports print it."""
    size_bytes: int | None = None
    complete: bool = False
    ended: str = ""
    """Why it was not measured to the end, in words."""
    values: Mapping[str, Value] = {}
    """By the names of `station.qualifying.assumptions`; what is not there, or None, was not seen."""
    rates: tuple[RateResult, ...] = ()

    @property
    def clean_baud(self) -> int | None:
        """The highest rate that was clean and had no rate below it that was not; None where not even the lowest was."""
        highest = None
        for rate in sorted(self.rates, key=lambda each: each.baud):
            if not rate.is_clean:
                break
            highest = rate.baud
        return highest


class SlotResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of `station qualify` measured in one slot."""

    slot: str
    """Its label at that time."""
    place: str
    adapter: str
    """The kind of adapter that was plugged in there, `usb_id version`."""
    made_at: str
    """UTC, ISO 8601."""
    versions: Mapping[str, str]
    """Of station, esptool and kernel."""
    boards: tuple[BoardResult, ...] = ()

    @property
    def whole_boards(self) -> tuple[BoardResult, ...]:
        """The boards that were measured to the end: the others say nothing for good."""
        return tuple(board for board in self.boards if board.complete)

    @property
    def ceiling_baud(self) -> int | None:
        """The highest rate at which every board that was measured to the end was clean; None where there is none."""
        ceilings = [board.clean_baud or 0 for board in self.whole_boards]
        return min(ceilings, default=0) or None

    @property
    def clean_bauds(self) -> tuple[int, ...]:
        """The rates that were measured with every board, up to the ceiling, rising."""
        ceiling = self.ceiling_baud or 0
        measured = [{rate.baud for rate in board.rates} for board in self.whole_boards]
        return tuple(sorted(baud for baud in set.intersection(*measured) if baud <= ceiling)) if measured else ()


class Qualification(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is in the file; empty where nothing was ever measured."""

    slots: tuple[SlotResult, ...] = ()

    def at(self, place: str) -> SlotResult | None:
        """Return what was measured in this place, with whatever adapter; None where nothing was."""
        return next((slot for slot in self.slots if slot.place == place), None)

    def of(self, place: str, adapter: str) -> SlotResult | None:
        """Return what was measured in this place with this kind of adapter; None where nothing was."""
        found = self.at(place)
        return found if found is not None and found.adapter == adapter else None


NOTHING = Qualification()


def adapter_kind(programmer: Programmer) -> str:
    """Return which kind of adapter this is: what was measured with one kind says nothing about another."""
    return f"{programmer.usb_id} {programmer.adapter_version}".strip()


def ladder_for(ladder: Iterable[int], place: str, adapter: str, qualification: Qualification) -> tuple[int, ...]:
    """Return what of `ladder` may be used in this place with this adapter, in its order, and never nothing.

    Rates up to `UNPROVEN_BAUD` always may, those above it only where they were measured and were clean.
    """
    measured = qualification.of(place, adapter)
    proven = measured.clean_bauds if measured is not None else ()
    return tuple(baud for baud in ladder if baud <= UNPROVEN_BAUD or baud in proven) or (UNPROVEN_BAUD,)


def why_left_out(ladder: Iterable[int], place: str, qualification: Qualification, adapter: str | None = None) -> str:
    """Return in one sentence which rates of `ladder` are left out in this place and why; empty when none is.

    Without `adapter`, as though the one it was measured with were plugged in.
    """
    wanted = tuple(ladder)
    there = qualification.at(place)
    kind = adapter if adapter is not None or there is None else there.adapter
    allowed = ladder_for(wanted, place, kind or "", qualification)
    out = [str(baud) for baud in wanted if baud not in allowed]
    if not out:
        return ""
    rates = " and ".join(part for part in (", ".join(out[:-1]), out[-1]) if part)
    if there is None:
        return f"{rates} baud left out: not measured there; {_QUALIFY}"
    if there.adapter != kind:
        return f"{rates} baud left out: measured with another adapter ({there.adapter}); {_QUALIFY}"
    if there.ceiling_baud is None:
        return f"{rates} baud left out: no rate was clean with every board there; {_QUALIFY}"
    if any(baud <= there.ceiling_baud for baud in wanted if baud not in allowed):
        return f"{rates} baud left out: not measured there (ceiling {there.ceiling_baud}); {_QUALIFY}"
    return f"{rates} baud left out: above the ceiling of {there.ceiling_baud} that was measured there"


def load(state_dir: Path) -> Qualification:
    """Return what the file in `state_dir` says; nothing where there is none. Raises `ConfigurationError`."""
    path = state_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Qualification)
    except FileNotFoundError:
        return NOTHING
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"cannot be read ({error.strerror})", fix="correct its permissions"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(file=str(path), problem=str(error), fix=f"delete it, and {_QUALIFY}") from None


def keep(state_dir: Path, measured: SlotResult) -> None:
    """Put what was measured in one place into the file, instead of what it said of that place. Raises OSError.

    After a loss of power there is the old file or the new one, and it is whole. Raises `ConfigurationError` as `load`.
    """
    others = (slot for slot in load(state_dir).slots if slot.place != measured.place)
    slots = sorted((*others, measured), key=lambda slot: slot.slot)
    # The ceiling is written for people and other programs; whoever reads the file works it out anew.
    written = [{**msgspec.to_builtins(slot), "ceiling_baud": slot.ceiling_baud} for slot in slots]
    path = state_dir / FILE_NAME
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode({"slots": written}), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

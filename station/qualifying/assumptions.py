"""What the emulation assumes of silicon, with the source of each figure, and how a measured value compares with it.

The station was built against an emulated chip; every figure here is one of that chip's, or a limit that the station's own
code relies on, and a test holds them together. `station qualify` measures them on real boards. Pure: values in, verdicts and
text out. It must never call a value assumed or better that was not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from station.link import ROM_BAUD
from station.qualification import MARGIN_BYTES, MARGIN_ROUNDS, UNPROVEN_BAUD, BoardResult, SlotResult, Value

BITS_PER_BYTE = 10
SECTOR_ERASE_S, BLOCK_ERASE_S, CHIP_ERASE_S = 0.045, 0.200, 2.5
PAGE_PROGRAM_S, PAGE_BYTES = 0.0009, 256
INFLATE_S_PER_BYTE = 1.6e-3 / 1024
MD5_S_PER_BYTE = 0.5e-3 / 1024
READ_S_PER_BYTE = 0.7e-3 / 1024
BOOT_TEXT_BAUD = 74_880
SLIP_ESCAPES = 1 + 2 / 256
"""Random bytes grow by so much on the wire: two values of a byte are sent as two bytes."""
STUB_BUFFER_BYTES = 32 << 10
ABOUT = 1.5
"""A time within this factor, either way, is as assumed: the figures are those of a typical part."""
MIB = 1 << 20


class Sense(StrEnum):
    """In which way a measured value is held against the assumed one."""

    ABOUT = "about"
    """A time: shorter is better, within the factor `ABOUT` it is as assumed."""
    AT_MOST = "at most"
    AT_LEAST = "at least"
    EXACTLY = ""


class Verdict(StrEnum):
    """What a measured value says of an assumption."""

    AS_ASSUMED = "as assumed"
    BETTER = "better"
    WORSE = "worse"
    NOT_SEEN = "not seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One thing that the emulation, or the station, takes for granted."""

    name: str
    """The key of `BoardResult.values`."""
    said: str
    assumed: float | str | bool
    unit: str = ""
    sense: Sense = Sense.EXACTLY
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the report."""

    said: str
    assumed: str
    measured: str
    verdict: Verdict
    source: str


ASSUMPTIONS = (
    Assumption(
        name="en_by_rts", said="RTS resets the board", assumed=True, source="speed.md §2; bench ProgrammerKind.reset"
    ),
    Assumption(
        name="gpio0_by_dtr",
        said="DTR grounds GPIO0, and lets go",
        assumed=True,
        source="ch340-usb.md §2.5; bench ProgrammerKind.gpio0",
    ),
    Assumption(
        name="boot_text_baud",
        said="boot text readable at (26 MHz crystal)",
        assumed=BOOT_TEXT_BAUD,
        unit="baud",
        source="faults.md D; bench chip.ROM_BAUD",
    ),
    Assumption(
        name="sync_attempts",
        said="resets until the loader answers",
        assumed=1,
        sense=Sense.AT_MOST,
        source="speed.md §1, GPIO0 held for 50 ms",
    ),
    Assumption(
        name="sync_s",
        said="reset and SYNC at 115200",
        assumed=0.24,
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §3.2: 0.16 + 0.08",
    ),
    Assumption(
        name="direct_sync_baud",
        said="first SYNC straight at",
        assumed=921_600,
        unit="baud",
        sense=Sense.AT_LEAST,
        source="speed.md §1: the ROM autobauds",
    ),
    Assumption(
        name="stub_start_s",
        said='stub "2" uploaded and started at 115200',
        assumed=1.15,
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §3.2",
    ),
    Assumption(
        name="direct_stub_start_s",
        said='stub "2" uploaded and started at 460800',
        assumed=0.31,
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §3.2, lean client",
    ),
    Assumption(
        name="legacy_stub_start_s",
        said="legacy stub uploaded and started at 115200",
        assumed=0.85,
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §3.2, §4: 0.3 less",
    ),
    Assumption(
        name="chip_erase_s",
        said="erase of the chip",
        assumed=CHIP_ERASE_S,
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §2; bench FlashTiming",
    ),
    Assumption(
        name="block_erase_s",
        said="erase of 64 KiB",
        assumed=BLOCK_ERASE_S,
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §2; bench FlashTiming",
    ),
    Assumption(
        name="sector_erase_s",
        said="erase of 4 KiB",
        assumed=SECTOR_ERASE_S,
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §2; bench FlashTiming",
    ),
    Assumption(
        name="md5_s_per_mib",
        said="MD5 of 1 MiB",
        assumed=round(MD5_S_PER_BYTE * MIB, 3),
        unit="s",
        sense=Sense.ABOUT,
        source="speed.md §2: assumed, no field figure; bench stub",
    ),
    Assumption(
        name="first_boot_s",
        said="first start, with mkfs, to the prompt",
        assumed=40.0,
        unit="s",
        sense=Sense.AT_MOST,
        source="faults.md F-1: no figure found; flashing.boot_deadline_s",
    ),
    Assumption(
        name="second_boot_s",
        said="second start to the prompt",
        assumed=3.0,
        unit="s",
        sense=Sense.AT_MOST,
        source="speed.md §2: first line after 0.4 s; booting.SIGN_OF_LIFE_S",
    ),
    Assumption(
        name="software_start",
        said="start by software, GPIO0 at GND, answers",
        assumed=True,
        source="faults.md A-9: legacy stub; decision 0013",
    ),
    Assumption(
        name="identity_agrees",
        said="unique_id() and MAC are those of the loader",
        assumed=True,
        source="identity.md; selftest identity",
    ),
)


def judge(assumption: Assumption, measured: Value) -> Verdict:
    """Return what one measured value says of an assumption; None was not seen."""
    assumed = assumption.assumed
    if measured is None:
        return Verdict.NOT_SEEN
    if assumption.sense is Sense.EXACTLY or isinstance(assumed, str | bool) or isinstance(measured, str | bool):
        return Verdict.AS_ASSUMED if measured == assumed else Verdict.WORSE
    match assumption.sense:
        case Sense.AT_MOST:
            better, worse = False, measured > assumed
        case Sense.AT_LEAST:
            better, worse = measured > assumed, measured < assumed
        case _:
            better, worse = measured < assumed / ABOUT, measured > assumed * ABOUT
    if worse:
        return Verdict.WORSE
    return Verdict.BETTER if better else Verdict.AS_ASSUMED


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return what several boards say together: one that is worse decides; better only where all that were seen are."""
    seen = [verdict for verdict in verdicts if verdict is not Verdict.NOT_SEEN]
    if not seen:
        return Verdict.NOT_SEEN
    return next((verdict for verdict in (Verdict.WORSE, Verdict.AS_ASSUMED) if verdict in seen), Verdict.BETTER)


def rows(boards: Sequence[BoardResult]) -> tuple[Row, ...]:
    """Return one row per assumption, over all boards, those that were not measured to the end included."""
    rates = sorted({rate.baud for board in boards for rate in board.rates})
    return tuple(
        [_row(assumption, [board.values.get(assumption.name) for board in boards]) for assumption in ASSUMPTIONS]
        + [_row(assumption, measured) for baud in rates for assumption, measured in _of_rate(baud, boards)]
    )


def write_s(baud: int, size_bytes: int = MARGIN_BYTES) -> float:
    """Return how long the emulated chip takes to write random bytes over used flash, in seconds.

    The wire hides the work on all but the last buffer, where it is not quicker than that.
    """
    wire_s = size_bytes * SLIP_ESCAPES * BITS_PER_BYTE / baud
    return max(wire_s, _work_s(size_bytes)) + _work_s(min(size_bytes, STUB_BUFFER_BYTES))


def read_s(baud: int, size_bytes: int = MARGIN_BYTES) -> float:
    """Return how long the emulated chip takes to be read, in seconds: one packet at a time, read and then sent."""
    return size_bytes * (SLIP_ESCAPES * BITS_PER_BYTE / baud + READ_S_PER_BYTE)


def slot_lines(slot: SlotResult) -> tuple[str, ...]:
    """Return in lines what was measured in one slot: its ceiling, and every board at every rate."""
    ceiling = slot.ceiling_baud
    if ceiling is not None:
        verdict = judge(_CEILING, ceiling)
        said = f"ceiling {ceiling} baud ({verdict})"
    else:
        said = "no ceiling: no board was clean at every rate from the lowest on, and measured to the end"
    head = f"{slot.slot}  {slot.place}  adapter {slot.adapter or 'unknown'}: {said}"
    return (head, *(line for board in slot.boards for line in _board_lines(board)))


def as_text(slots: Sequence[SlotResult], *, station_id: str) -> str:
    """Return the whole report of these slots as text, for a terminal or a file."""
    boards = [board for slot in slots for board in slot.boards]
    made = max((slot.made_at for slot in slots), default="")
    versions = ", ".join(f"{name} {version}" for name, version in (slots[-1].versions if slots else {}).items())
    head = [f"Qualification of {station_id}, {made[:16].replace('T', ' ')} UTC", versions, ""]
    whole = sum(board.complete for board in boards)
    head += [f"{len(boards)} boards in {len(slots)} slots, {whole} of them measured to the end", ""]
    head += [line for slot in slots for line in (*slot_lines(slot), "")]
    table = [("", "assumed", "measured", "verdict", "source")]
    table += [(row.said, row.assumed, row.measured, row.verdict.value, row.source) for row in rows(boards)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
    note = f"A rate is clean with {MARGIN_ROUNDS} rounds of {MARGIN_BYTES >> 10} KiB each way without one error."
    return "\n".join(line.rstrip() for line in (*head, *lines, "", note)) + "\n"


_CEILING = Assumption(name="ceiling", said="ceiling", assumed=UNPROVEN_BAUD, unit="baud", sense=Sense.AT_LEAST)


def _work_s(size_bytes: int) -> float:
    """Inflating, erasing by blocks and programming, without the wire."""
    erase_s = BLOCK_ERASE_S * size_bytes / (64 << 10)
    return erase_s + size_bytes / PAGE_BYTES * PAGE_PROGRAM_S + size_bytes * INFLATE_S_PER_BYTE


def _of_rate(baud: int, boards: Sequence[BoardResult]) -> list[tuple[Assumption, list[Value]]]:
    """The assumptions about one rate, with what was measured of each."""
    found = [rate for board in boards for rate in board.rates if rate.baud == baud]
    size = max((rate.round_bytes for rate in found), default=MARGIN_BYTES)
    kib, source = f"{size >> 10} KiB", "speed.md §2 (wire, inflate, erase, program)"
    about = Sense.ABOUT
    change = Assumption(
        name="change_s", said=f"change to {baud} baud", assumed=0.07, unit="s", sense=about, source="speed.md §3.2"
    )
    write = Assumption(
        name="write_s",
        said=f"write of {kib} at {baud}",
        assumed=round(write_s(baud, size), 2),
        unit="s",
        sense=about,
        source=source,
    )
    read = Assumption(
        name="read_s",
        said=f"read of {kib} at {baud}",
        assumed=round(read_s(baud, size), 2),
        unit="s",
        sense=about,
        source="speed.md §2 (wire, flash read)",
    )
    asked = (write, read) if baud == ROM_BAUD else (change, write, read)
    return [(each, [getattr(rate, each.name) for rate in found]) for each in asked]


def _row(assumption: Assumption, measured: Sequence[Value]) -> Row:
    """One line about all boards."""
    verdict = worst([judge(assumption, value) for value in measured])
    assumed = f"{assumption.sense} {_words(assumption.assumed, assumption.unit)}".strip()
    return Row(
        said=assumption.said,
        assumed=assumed,
        measured=_together(measured, assumption.unit),
        verdict=verdict,
        source=assumption.source,
    )


def _together(measured: Sequence[Value], unit: str) -> str:
    """What all boards showed: one value, or median and range, or how many showed what; and of how many."""
    seen = [value for value in measured if value is not None]
    if not seen:
        return "-"
    numbers = [value for value in seen if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(seen) and len(set(numbers)) > 1:
        said = f"{_words(median(numbers), unit)} ({_words(min(numbers))} to {_words(max(numbers))})"
    else:
        said = ", ".join(
            _words(value, unit) + (f" x{seen.count(value)}" if len(set(seen)) > 1 else "")
            for value in dict.fromkeys(seen)
        )
    return f"{said} of {len(seen)}" if len(seen) > 1 else said


def _words(value: Value, unit: str = "") -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g} {unit}".rstrip()
        case _:
            return f"{value} {unit}".rstrip()


def _board_lines(board: BoardResult) -> list[str]:
    flash = f", flash {board.flash} ({(board.size_bytes or 0) >> 10} KB)" if board.flash else ""
    ended = f": {board.ended}" if board.ended else ""
    return [f"  {board.mac or 'no board'}{flash}{ended}"] + [
        f"    {rate.baud:>8}: {rate.clean} of {rate.rounds} rounds clean{''.join(_counts(rate))}"
        for rate in board.rates
    ]


def _counts(rate: object) -> list[str]:
    said = {
        "corrupted": "corrupted",
        "silent": "silent or short",
        "restarted": "restarted",
        "repeated_blocks": "blocks sent again",
        "wrong": "wrong content",
    }
    return [f", {getattr(rate, name)} {words}" for name, words in said.items() if getattr(rate, name)]

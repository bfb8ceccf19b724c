"""The assumptions of the emulation: held against the bench itself, and the verdicts over what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.bench import chip, flash, stub, stub_write, wire
from station.bench.programmer import ProgrammerKind
from station.booting import SIGN_OF_LIFE_S
from station.config import DEFAULT_BAUD_LADDER, FlashingSection
from station.properties import Gpio0, Reset
from station.qualification import MARGIN_BYTES, UNPROVEN_BAUD, BoardResult
from station.qualifying import assumptions
from station.qualifying.assumptions import (
    ASSUMPTIONS,
    Assumption,
    Verdict,
    as_text,
    judge,
    read_s,
    rows,
    worst,
    write_s,
)
from tests.unit.test_qualification import board, rate, slot, up_to

BY_NAME = {assumption.name: assumption for assumption in ASSUMPTIONS}


def test_what_is_assumed_is_what_the_bench_plays() -> None:
    """Every figure here that the emulation has is the emulation's own: neither can change without the other."""
    timing = flash.FlashTiming()
    assert timing.sector_erase_s == assumptions.SECTOR_ERASE_S
    assert timing.block_erase_s == assumptions.BLOCK_ERASE_S
    assert timing.chip_erase_s == assumptions.CHIP_ERASE_S
    assert timing.page_program_s == assumptions.PAGE_PROGRAM_S
    assert flash.PAGE_BYTES == assumptions.PAGE_BYTES
    assert stub.MD5_S_PER_BYTE == assumptions.MD5_S_PER_BYTE
    assert stub.READ_S_PER_BYTE == assumptions.READ_S_PER_BYTE
    assert stub_write.INFLATE_S_PER_BYTE == assumptions.INFLATE_S_PER_BYTE
    assert stub_write.OUTPUT_BYTES == assumptions.STUB_BUFFER_BYTES
    assert wire.BITS_PER_BYTE == assumptions.BITS_PER_BYTE
    assert chip.ROM_BAUD == assumptions.BOOT_TEXT_BAUD
    assert ProgrammerKind() == ProgrammerKind(reset=Reset.LINES, gpio0=Gpio0.LINES)


def test_what_the_station_relies_on_is_what_it_is_held_against() -> None:
    """Limits come from the station's own code and its default configuration."""
    assert BY_NAME["first_boot_s"].assumed == FlashingSection().boot_deadline_s
    assert BY_NAME["second_boot_s"].assumed == SIGN_OF_LIFE_S
    assert DEFAULT_BAUD_LADDER[0] == UNPROVEN_BAUD


def test_every_assumption_has_a_name_of_its_own_and_a_source() -> None:
    """Nothing is assumed without saying where that comes from."""
    assert len(BY_NAME) == len(ASSUMPTIONS)
    assert all(assumption.source and assumption.said for assumption in ASSUMPTIONS)


def test_the_wire_hides_the_work_up_to_460800_and_no_further() -> None:
    """A slow line is the limit, and a fast one is not: from 1500000 on the chip takes as long whatever the rate."""
    assert write_s(230_400) / write_s(460_800) > 1.7
    assert write_s(1_500_000) == write_s(2_000_000)
    assert read_s(460_800) > MARGIN_BYTES * 10 / 460_800


@pytest.mark.parametrize(
    ("name", "measured", "verdict"),
    [
        ("en_by_rts", True, Verdict.AS_ASSUMED),
        ("en_by_rts", False, Verdict.WORSE),
        ("en_by_rts", None, Verdict.NOT_SEEN),
        ("boot_text_baud", 74_880, Verdict.AS_ASSUMED),
        ("boot_text_baud", 115_200, Verdict.WORSE),
        ("sync_attempts", 1, Verdict.AS_ASSUMED),
        ("sync_attempts", 2, Verdict.WORSE),
        ("direct_sync_baud", 921_600, Verdict.AS_ASSUMED),
        ("direct_sync_baud", 460_800, Verdict.WORSE),
        ("direct_sync_baud", 2_000_000, Verdict.BETTER),
        ("chip_erase_s", 2.0, Verdict.AS_ASSUMED),
        ("chip_erase_s", 3.7, Verdict.AS_ASSUMED),
        ("chip_erase_s", 4.0, Verdict.WORSE),
        ("chip_erase_s", 0.008, Verdict.BETTER),
        ("first_boot_s", 39.0, Verdict.AS_ASSUMED),
        ("first_boot_s", 41.0, Verdict.WORSE),
        ("software_start", False, Verdict.WORSE),
    ],
)
def test_a_measured_value_is_held_against_the_assumed_one(
    name: str,
    measured: float | bool | None,  # noqa: FBT001
    verdict: Verdict,
) -> None:
    """Times may differ by a factor of 1.5, limits not at all, and what was not seen is neither good nor bad."""
    assert judge(BY_NAME[name], measured) is verdict


values = st.one_of(st.none(), st.booleans(), st.integers(0, 10**7), st.floats(0, 1e4), st.text(max_size=5))


@given(st.sampled_from(ASSUMPTIONS), st.lists(values, max_size=5))
def test_boards_together_are_as_bad_as_the_worst_of_them(assumption: Assumption, measured: list[object]) -> None:
    """One that is worse decides; nothing that was not seen makes anything better or worse."""
    verdicts = [judge(assumption, value) for value in measured]  # type: ignore[arg-type]
    together = worst(verdicts)
    assert (together is Verdict.NOT_SEEN) is (set(verdicts) <= {Verdict.NOT_SEEN})
    assert (together is Verdict.WORSE) is (Verdict.WORSE in verdicts)
    assert (together is Verdict.BETTER) is (set(verdicts) - {Verdict.NOT_SEEN} == {Verdict.BETTER})
    assert all((judge(assumption, value) is Verdict.NOT_SEEN) is (value is None) for value in measured)  # type: ignore[arg-type]


def seen(**values_of: float | bool) -> BoardResult:
    """A board of which this was seen."""
    return BoardResult(mac="5c:cf:7f:00:00:01", measured_at="", values=values_of)


def test_the_report_says_the_middle_the_range_and_of_how_many() -> None:
    """Three boards, two of which were seen: the median, the range, and the number."""
    found = {row.said: row for row in rows([seen(chip_erase_s=2.0), seen(chip_erase_s=6.0), seen()])}
    erase = found["erase of the chip"]
    assert (erase.assumed, erase.measured, erase.verdict) == ("about 2.5 s", "4 s (2 to 6) of 2", Verdict.WORSE)
    assert found["RTS resets the board"].measured == "-"
    mixed = {row.said: row for row in rows([seen(software_start=True), seen(software_start=False)])}
    assert mixed["start by software, GPIO0 at GND, answers"].measured == "yes x1, no x1 of 2"


def test_every_rate_that_was_measured_has_its_lines() -> None:
    """Changing to it, writing and reading, each against the emulation's own time."""
    said = [row.said for row in rows([up_to(921_600)])]
    assert "write of 64 KiB at 921600" in said
    assert "read of 64 KiB at 2000000" in said
    assert not any("1000000" in line for line in said)


def test_the_report_names_ceiling_counts_and_what_ended_a_board() -> None:
    """A person reads from it which slot may go how fast, what went wrong at which rate, and who was pulled."""
    pulled = BoardResult(mac="5c:cf:7f:00:00:02", measured_at="", ended="pulled too early", rates=(rate(115_200),))
    text = as_text([slot(up_to(921_600), pulled)], station_id="bench 7")
    assert "ceiling 921600 baud (better)" in text
    assert "1500000: 1 of 3 rounds clean, 2 corrupted" in text
    assert "5c:cf:7f:00:00:02: pulled too early" in text
    assert "2 boards in 1 slots, 1 of them measured to the end" in text
    assert "no ceiling" in as_text([slot(board(complete=False))], station_id="bench 7")
    assert as_text([], station_id="bench 7")


def test_a_slot_that_is_slower_than_assumed_is_called_so() -> None:
    """460800 is what the default ladder begins with: a ceiling below it is worse."""
    assert "ceiling 230400 baud (worse)" in as_text([slot(up_to(230_400))], station_id="")

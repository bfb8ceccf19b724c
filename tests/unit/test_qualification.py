"""The file of what was measured of the slots, and which rates of the ladder a slot may use because of it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.errors import ConfigurationError
from station.model import Programmer
from station.qualification import (
    FILE_NAME,
    MARGIN_BYTES,
    MARGIN_ROUNDS,
    NOTHING,
    UNPROVEN_BAUD,
    BoardResult,
    Qualification,
    RateResult,
    SlotResult,
    adapter_kind,
    keep,
    ladder_for,
    load,
    why_left_out,
)

CH340 = "1a86:7523 0264"
CH341 = "1a86:5523 0304"
RATES = (115_200, 230_400, 460_800, 921_600, 1_500_000, 2_000_000)
FAST = (921_600, 460_800, 230_400, 115_200)


def rate(baud: int, *, clean: int = MARGIN_ROUNDS, rounds: int = MARGIN_ROUNDS, size: int = MARGIN_BYTES) -> RateResult:
    """What became of one rate."""
    return RateResult(baud=baud, round_bytes=size, rounds=rounds, clean=clean, corrupted=rounds - clean)


def board(*rates: RateResult, complete: bool = True) -> BoardResult:
    """What was measured of one board."""
    return BoardResult(mac="5c:cf:7f:00:00:01", measured_at="2026-11-22T12:00:00+00:00", complete=complete, rates=rates)


def up_to(highest: int, bauds: tuple[int, ...] = RATES) -> BoardResult:
    """A board that is clean up to this rate and at none above it."""
    return board(*(rate(baud, clean=MARGIN_ROUNDS if baud <= highest else 1) for baud in bauds))


def slot(*boards: BoardResult, place: str = "hub:1", adapter: str = CH340, label: str = "A1") -> SlotResult:
    """What was measured in one slot."""
    return SlotResult(
        slot=label,
        place=place,
        adapter=adapter,
        made_at="2026-11-22T12:00:00+00:00",
        versions={"station": "0.1.0"},
        boards=boards,
    )


def measured(*slots: SlotResult) -> Qualification:
    """Everything that was measured."""
    return Qualification(slots=slots)


rate_results = st.builds(
    rate,
    st.sampled_from(RATES),
    clean=st.integers(0, MARGIN_ROUNDS),
    size=st.sampled_from([MARGIN_BYTES, MARGIN_BYTES // 2]),
)
board_results = st.builds(
    lambda rates, complete: board(*rates, complete=complete),
    st.lists(rate_results, max_size=6, unique_by=lambda each: each.baud),
    st.booleans(),
)
slot_results = st.builds(
    lambda boards, place, adapter: slot(*boards, place=place, adapter=adapter),
    st.lists(board_results, max_size=4),
    st.sampled_from(["hub:1", "hub:2"]),
    st.sampled_from([CH340, CH341, ""]),
)
qualifications = st.lists(slot_results, max_size=2, unique_by=lambda each: each.place).map(lambda all_: measured(*all_))
ladders = st.lists(st.sampled_from((*RATES, 1_000_000, 9600)), min_size=1, unique=True).map(
    lambda rates: tuple(sorted(rates, reverse=True))
)


@given(ladders, st.sampled_from(["hub:1", "hub:2"]), st.sampled_from([CH340, CH341, ""]), qualifications)
def test_what_was_not_measured_clean_is_never_used(
    ladder: tuple[int, ...], place: str, adapter: str, qualification: Qualification
) -> None:
    """Rates above 460800 stay only where every whole board of this place and adapter was clean at them and below."""
    allowed = ladder_for(ladder, place, adapter, qualification)
    assert allowed
    assert tuple(baud for baud in ladder if baud in allowed) == allowed or allowed == (UNPROVEN_BAUD,)
    assert [baud for baud in ladder if baud <= UNPROVEN_BAUD] == [
        baud for baud in allowed if baud <= UNPROVEN_BAUD and baud in ladder
    ]
    for baud in allowed:
        if baud <= UNPROVEN_BAUD:
            continue
        here = [each for each in qualification.slots if (each.place, each.adapter) == (place, adapter)]
        whole = [each for each in here[0].boards if each.complete]
        assert whole
        for each in whole:
            results = {one.baud: one for one in each.rates}
            assert all(one.is_clean for one in each.rates if one.baud <= baud)
            assert results[baud].is_clean


@given(ladders, st.sampled_from(["hub:1", "hub:2"]), st.sampled_from([CH340, CH341, ""]), qualifications)
def test_a_reason_is_given_exactly_where_something_is_left_out(
    ladder: tuple[int, ...], place: str, adapter: str, qualification: Qualification
) -> None:
    """Whoever asks why gets a sentence that names every rate that is missing, and none otherwise."""
    out = [baud for baud in ladder if baud not in ladder_for(ladder, place, adapter, qualification)]
    why = why_left_out(ladder, place, qualification, adapter)
    assert bool(why) is bool(out)
    assert all(str(baud) in why for baud in out)


@given(ladders)
def test_a_ladder_up_to_460800_needs_no_measurement(ladder: tuple[int, ...]) -> None:
    """The default ladder is what it was for a station that never measured anything."""
    slow = tuple(baud for baud in ladder if baud <= UNPROVEN_BAUD)
    assert ladder_for(slow, "hub:1", CH340, NOTHING) == (slow or (UNPROVEN_BAUD,))


def test_a_slot_that_was_measured_goes_as_fast_as_it_can() -> None:
    """Clean up to 921600: that rung stays, the one above is left out, with the ceiling as the reason."""
    there = measured(slot(up_to(921_600)))
    assert ladder_for((1_500_000, *FAST), "hub:1", CH340, there) == FAST
    why = why_left_out((1_500_000, *FAST), "hub:1", there, CH340)
    assert why == "1500000 baud left out: above the ceiling of 921600 that was measured there"


def test_the_slowest_board_is_the_ceiling_of_its_slot() -> None:
    """What one board cannot do, the slot does not do with the next one."""
    assert slot(up_to(2_000_000), up_to(460_800), up_to(921_600)).ceiling_baud == 460_800


def test_a_board_that_was_not_measured_to_the_end_says_nothing() -> None:
    """Alone it makes no ceiling, beside another one it takes none away."""
    pulled = board(*up_to(115_200).rates, complete=False)
    assert slot(pulled).ceiling_baud is None
    assert slot(pulled, up_to(921_600)).ceiling_baud == 921_600
    assert ladder_for(FAST, "hub:1", CH340, measured(slot(pulled))) == FAST[1:]


@pytest.mark.parametrize(
    "almost",
    [
        rate(921_600, rounds=MARGIN_ROUNDS - 1, clean=MARGIN_ROUNDS - 1),
        rate(921_600, size=MARGIN_BYTES - 1),
        rate(921_600, clean=MARGIN_ROUNDS - 1),
    ],
    ids=["too few rounds", "too few bytes", "one error"],
)
def test_the_margin_is_three_whole_rounds_without_an_error(almost: RateResult) -> None:
    """Less than that is not clean, and nothing above it counts either."""
    slow = (rate(baud) for baud in RATES[:3])
    assert board(*slow, almost, rate(1_500_000)).clean_baud == 460_800


def test_a_rate_above_one_that_fails_is_not_trusted() -> None:
    """Adapters are known that do 460800 and 1000000 and not 921600: the gap ends what is allowed."""
    gap = board(*(rate(baud) for baud in RATES[:3]), rate(921_600, clean=0), rate(1_500_000))
    assert slot(gap).ceiling_baud == 460_800


def test_a_rate_that_was_never_measured_is_left_out_below_the_ceiling_too() -> None:
    """1000000 between two clean rates has a divider of its own: it has to be measured itself."""
    there = measured(slot(up_to(2_000_000)))
    ladder = (1_500_000, 1_000_000, *FAST)
    assert ladder_for(ladder, "hub:1", CH340, there) == (1_500_000, *FAST)
    assert "not measured there (ceiling 2000000)" in why_left_out(ladder, "hub:1", there, CH340)


def test_another_adapter_or_another_place_begins_anew() -> None:
    """A ceiling belongs to a place with a kind of adapter; the sentence says with which one it was measured."""
    there = measured(slot(up_to(2_000_000)))
    assert ladder_for(FAST, "hub:1", CH341, there) == FAST[1:]
    assert ladder_for(FAST, "hub:2", CH340, there) == FAST[1:]
    assert CH340 in why_left_out(FAST, "hub:1", there, CH341)
    assert "not measured there" in why_left_out(FAST, "hub:2", there, CH340)
    assert why_left_out(FAST, "hub:1", there) == ""


def test_the_kind_of_an_adapter_is_its_id_and_its_version() -> None:
    """Another chip revision is another kind; an adapter that says nothing of itself is one as well."""
    plain = Programmer(place="p", node="/dev/ttyUSB0", sysfs_path="", generation="1")
    named = Programmer(
        place="p", node="/dev/ttyUSB0", sysfs_path="", generation="1", usb_id="1a86:7523", adapter_version="0264"
    )
    assert (adapter_kind(plain), adapter_kind(named)) == ("", CH340)


# -- the file ------------------------------------------------------------------------------------------------------------


def test_where_nothing_was_measured_there_is_no_file_and_no_complaint(tmp_path: Path) -> None:
    """A fresh station has neither."""
    assert load(tmp_path) == NOTHING


@given(st.lists(slot_results, max_size=6))
def test_what_is_kept_is_read_back_and_the_last_word_about_a_place_counts(
    tmp_path_factory: pytest.TempPathFactory, slots: list[SlotResult]
) -> None:
    """One entry per place: that of the newest measurement, whole as it was."""
    directory = tmp_path_factory.mktemp("state")
    for each in slots:
        keep(directory, each)
    assert {each.place: each for each in load(directory).slots} == {each.place: each for each in slots}
    assert [path.name for path in directory.iterdir()] == ([FILE_NAME] if slots else [])


def test_the_file_tells_people_the_ceiling_and_is_not_believed_about_it(tmp_path: Path) -> None:
    """The ceiling stands in the file; one that somebody writes higher is worked out anew from what was measured."""
    keep(tmp_path, slot(up_to(460_800)))
    file = tmp_path / FILE_NAME
    written = json.loads(file.read_text("utf-8"))
    assert written["slots"][0]["ceiling_baud"] == 460_800
    written["slots"][0]["ceiling_baud"] = 2_000_000
    file.write_text(json.dumps(written))
    assert ladder_for(FAST, "hub:1", CH340, load(tmp_path)) == FAST[1:]


def test_a_file_of_a_later_station_is_read_for_what_this_one_knows(tmp_path: Path) -> None:
    """Going back to an older package must not end in a file that it cannot read."""
    keep(tmp_path, slot(up_to(921_600)))
    file = tmp_path / FILE_NAME
    written = json.loads(file.read_text("utf-8")) | {"format": 9}
    written["slots"][0]["humidity"] = 40
    file.write_text(json.dumps(written))
    assert load(tmp_path).slots[0].ceiling_baud == 921_600


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"slots": [{"slot": 1}]}', b"\xff\xfe"])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, damaged: bytes) -> None:
    """The file is named, and so is the way out; no ceiling is made up from it."""
    (tmp_path / FILE_NAME).write_bytes(damaged)
    with pytest.raises(ConfigurationError, match="station qualify") as refused:
        load(tmp_path)
    assert FILE_NAME in str(refused.value)


def test_a_result_is_frozen() -> None:
    """What was measured is never changed afterwards."""
    with pytest.raises(AttributeError):
        rate(115_200).clean = 0  # type: ignore[misc]
    assert msgspec.structs.replace(rate(115_200), clean=0).clean == 0

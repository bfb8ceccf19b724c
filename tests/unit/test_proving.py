"""What a slot has to prove: known boards, quarantine, shifts; all of it pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.model import BoardMark, Outcome
from station.proofs import weak_supply
from station.proving import (
    ENROLLABLE,
    Golden,
    Lately,
    Proof,
    Sample,
    SlotWord,
    Standing,
    after,
    bad_run,
    bar_of,
    enrolment,
    finding_of,
    says_something,
    shift_began,
)
from station.reasons import MEANINGS, Reason

GOLDEN = Sample(mark=BoardMark.GOLDEN)
LOW_RAM = "free_ram = 900 byte, allowed 10000 to 120000"


def red(enrolled: str = "out_of_limits:free_ram") -> Sample:
    """A red board that is enrolled so."""
    return Sample(mark=BoardMark.RED, enrolled=enrolled)


def proof(sample: Sample, finding: Reason) -> Proof:
    """What slot A1 made of it."""
    return Proof(
        id="p1",
        visit_id="v1",
        slot="A1",
        mac="5c:cf:7f:00:00:01",
        sample=sample,
        observed="",
        finding=finding,
        recipe_hash="ab",
        lot_id="lot",
        measurements=(),
    )


# -- whose restart it is ---------------------------------------------------------------------------------------------------

AT = "pci-0000:00:14.0-usb-0:{}:1.0".format
SAGS = "brownout: check wifi_start: restarted"


@pytest.mark.parametrize(
    ("goldens", "weak"),
    [
        ([], ""),
        ([("A1", "2.1", SAGS)], "A1"),
        ([("A2", "2.2", SAGS)], "A2"),
        ([("A3", "3.1", SAGS)], ""),
        ([("A1", "9.1", SAGS)], "A1"),  # the slot was moved since
        ([("A1", "2.1", ""), ("A1", "2.1", SAGS)], ""),
        ([("A2", "2.2", ""), ("A1", "2.1", SAGS)], "A1"),
        ([("A1", "2.1", ""), ("A2", "2.2", SAGS)], ""),
        ([("A3", "3.1", ""), ("A2", "2.2", SAGS)], "A2"),
        ([("A1", "2.1", "out_of_limits: brownout")], ""),
    ],
)
def test_the_last_golden_board_of_slot_or_hub_speaks_for_the_supply(
    goldens: list[tuple[str, str, str]], weak: str
) -> None:
    """Newest first; one that passed since, in the slot or behind its hub, takes the blame off the supply."""
    seen = [Golden(slot=slot, place=AT(port), observed=observed) for slot, port, observed in goldens]
    assert weak_supply("A1", AT("2.1"), seen) == weak


# -- known boards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "outcome", "reason", "detail", "finding"),
    [
        (GOLDEN, Outcome.PASS, None, "", Reason.GOLDEN_PASSED),
        (GOLDEN, Outcome.FAIL, Reason.OUT_OF_LIMITS, LOW_RAM, Reason.GOLDEN_FAILED),
        (GOLDEN, Outcome.ERROR, Reason.LINK_LOST, "", Reason.GOLDEN_FAILED),
        (red(), Outcome.FAIL, Reason.OUT_OF_LIMITS, LOW_RAM, Reason.RED_CAUGHT),
        (red("out_of_limits"), Outcome.FAIL, Reason.OUT_OF_LIMITS, LOW_RAM, Reason.RED_CAUGHT),
        (red(), Outcome.FAIL, Reason.OUT_OF_LIMITS, "cpu_frequency = 26 MHz, allowed 80", Reason.RED_MISSED),
        (red("out_of_limits:free"), Outcome.FAIL, Reason.OUT_OF_LIMITS, LOW_RAM, Reason.RED_MISSED),
        (red("check_raised:radio"), Outcome.FAIL, Reason.CHECK_RAISED, "radio", Reason.RED_CAUGHT),
        (red("check_raised:radio"), Outcome.FAIL, Reason.CHECK_HUNG, "radio", Reason.RED_MISSED),
        (red("no_boot"), Outcome.FAIL, Reason.BOOT_LOOP, "", Reason.RED_MISSED),
        (red("no_boot"), Outcome.ERROR, Reason.LINK_LOST, "", Reason.RED_MISSED),
        (red(), Outcome.PASS, None, "", Reason.RED_MISSED),
    ],
)
def test_a_known_board_proves_by_its_own_verdict_alone(
    sample: Sample, outcome: Outcome, reason: Reason | None, detail: str, finding: Reason
) -> None:
    """A golden board by a pass, a red one by the very reason that it is enrolled with, and by the value or check of it."""
    found = finding_of(sample, outcome, reason, detail)
    assert found is not None
    assert found[0] is finding


@pytest.mark.parametrize("sample", [GOLDEN, red()])
@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.ABORTED, Reason.UNPLUGGED),
        (Outcome.ERROR, Reason.HUB_DISTURBED),
        (Outcome.ERROR, Reason.STATION_BUG),
        (Outcome.ERROR, Reason.DUPLICATE_MAC),
        (Outcome.ERROR, Reason.MAC_REUSED),
        (Outcome.ERROR, Reason.IDENTITY_MISMATCH),
        (None, Reason.NO_ANSWER),
        (None, Reason.AWAITS_RUN_MODE),
    ],
)
def test_what_judges_nobody_proves_nothing(sample: Sample, outcome: Outcome | None, reason: Reason) -> None:
    """An early pull, a hub, a mistake of ours or an empty socket is no verdict on any board, golden or red."""
    assert finding_of(sample, outcome, reason, "") is None


def test_a_missed_red_board_says_what_it_was_enrolled_with() -> None:
    """The technician reads what should have been found, and what was found instead."""
    assert finding_of(red(), Outcome.PASS, None, "") == (
        Reason.RED_MISSED,
        "it passed, instead of out_of_limits:free_ram",
    )
    found = finding_of(red(), Outcome.FAIL, Reason.NO_BOOT, "")
    assert found == (Reason.RED_MISSED, "does not start (no_boot) instead of out_of_limits:free_ram")


@pytest.mark.parametrize("text", ["out_of_limits", "out_of_limits:free_ram", "check_raised:radio", "no_boot"])
def test_a_red_board_is_enrolled_with_what_a_self_test_can_find(text: str) -> None:
    """Reasons of the closed list, and for those that speak of a check or a value its name."""
    assert enrolment(text) == text


@pytest.mark.parametrize(
    "text", ["", "verify_mismatch", "link_lost", "no_boot:radio", "out_of_limits:", "out_of_limits:a b", "nonsense"]
)
def test_what_no_self_test_can_find_enrols_no_board(text: str) -> None:
    """A red board is never written, so what only a write shows could never prove anything; nor can an ERROR."""
    with pytest.raises(ValueError, match=r"none of|only"):
        enrolment(text)


def test_whatever_enrols_a_board_blames_it() -> None:
    """Every reason that a red board may be enrolled with is a FAIL."""
    assert {MEANINGS[reason].outcome for reason in ENROLLABLE} == {Outcome.FAIL}


# -- what follows for the slot ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "finding", "standing", "word", "release_by"),
    [
        (GOLDEN, Reason.GOLDEN_PASSED, Standing(), None, None),
        (GOLDEN, Reason.GOLDEN_PASSED, Standing(quarantine="x"), SlotWord.RELEASE, None),
        (GOLDEN, Reason.GOLDEN_PASSED, Standing(quarantine="x", release_by=BoardMark.RED), None, None),
        (red(), Reason.RED_CAUGHT, Standing(quarantine="x"), None, None),
        (red(), Reason.RED_CAUGHT, Standing(quarantine="x", release_by=BoardMark.RED), SlotWord.RELEASE, None),
        (GOLDEN, Reason.GOLDEN_FAILED, Standing(), SlotWord.QUARANTINE, BoardMark.GOLDEN),
        (red(), Reason.RED_MISSED, Standing(), SlotWord.QUARANTINE, BoardMark.RED),
        (
            GOLDEN,
            Reason.GOLDEN_FAILED,
            Standing(quarantine="x", release_by=BoardMark.RED),
            SlotWord.QUARANTINE,
            BoardMark.RED,
        ),
    ],
)
def test_a_wrong_verdict_quarantines_and_the_right_board_releases(
    sample: Sample, finding: Reason, standing: Standing, word: SlotWord | None, release_by: BoardMark | None
) -> None:
    """A slot that missed a red board passes golden ones as well: only a red one, caught, brings it back."""
    event = after(proof(sample, finding), standing, "", "e1")
    assert (event.word if event else None) is word
    if event is not None and release_by is not None:
        assert event.release_by is release_by


@pytest.mark.parametrize(
    ("standing", "prove", "bar"),
    [
        (Standing(), (), None),
        (Standing(), ("golden", "red"), (Reason.PROOF_NEEDED, "a golden board")),
        (Standing(latest={BoardMark.GOLDEN: True}), ("red", "golden"), (Reason.PROOF_NEEDED, "a red board")),
        (Standing(latest={BoardMark.GOLDEN: True}), ("golden",), None),
        (Standing(latest={BoardMark.GOLDEN: False}), ("golden",), (Reason.PROOF_NEEDED, "a golden board")),
        (Standing(latest={BoardMark.RED: True}), ("golden",), (Reason.PROOF_NEEDED, "a golden board")),
        (Standing(latest={BoardMark.GOLDEN: True, BoardMark.RED: True}), ("golden", "red"), None),
        (Standing(quarantine="why"), (), (Reason.SLOT_QUARANTINED, "why")),
        (
            Standing(quarantine="why", latest={BoardMark.GOLDEN: True}),
            ("golden",),
            (Reason.SLOT_QUARANTINED, "why"),
        ),
    ],
)
def test_a_slot_is_barred_until_it_has_proven_what_is_demanded(
    standing: Standing, prove: tuple[str, ...], bar: tuple[Reason, str] | None
) -> None:
    """Quarantine first, then the golden board, then the red one; the last verdict on each counts."""
    assert bar_of(standing, prove) == bar


# -- quarantine by counting ------------------------------------------------------------------------------------------------


def row(text: str) -> list[Lately]:
    """`A1x1 B1+2`: in A1 board 1 did not pass, in B1 board 2 did; oldest first in the text, newest first in the list."""
    return [Lately(slot=word[:2], mac=word[3:], passed=word[2] == "+") for word in reversed(text.split())]


@pytest.mark.parametrize(
    ("lately", "barred"),
    [
        ("A1x1 B1+2 A1x3 A1x4", True),
        ("B1+2 A1x1 A1x3 A1x4", False),
        ("A1x1 A1x3 A1x4", False),
        ("A1x1 A1x1 B1+2 A1x1 A1x1", False),
        ("A1x1 B1+2 A1+5 A1x3 A1x4", False),
        ("A1x1 B1x2 B1x6 B1+7 A1x3 A1x4", False),
        ("A1x1 B1x2 B1+7 A1x3 A1x4", True),
        ("A1x1 C1+2 A1x3 A1x4", False),
        ("A1x1 B1+2 A1x3", False),
        ("A1x9 A1x8 A1x7 B1+2 A1x1 A1x3 B1x4 A1x5", False),
    ],
)
def test_boards_in_a_row_quarantine_a_slot_whose_siblings_do_well(lately: str, barred: bool) -> None:  # noqa: FBT001
    """Three different boards, no PASS between them, and meanwhile at least half of what the siblings made passed."""
    assert bool(bad_run("A1", ("A1", "B1"), row(lately), 3)) is barred


@given(
    st.lists(st.tuples(st.sampled_from(["A1", "B1", "C1"]), st.integers(0, 4), st.booleans())),
    st.integers(min_value=1, max_value=6),
)
def test_a_pass_always_clears_a_slot(jobs: list[tuple[str, int, bool]], boards: int) -> None:
    """Whatever else happened: a slot whose last job passed is never quarantined by counting."""
    lately = [Lately(slot=slot, mac=str(mac), passed=passed) for slot, mac, passed in jobs]
    mine = [job for job in lately if job.slot == "A1"]
    why = bad_run("A1", ("B1", "C1"), lately, boards)
    if mine and mine[0].passed:
        assert why == ""
    if why:
        assert len({job.mac for job in mine if not job.passed}) >= boards
        assert any(job.passed for job in lately if job.slot != "A1")


@pytest.mark.parametrize(
    ("outcome", "reason", "says"),
    [
        (Outcome.PASS, "", True),
        (Outcome.FAIL, "no_boot", True),
        (Outcome.ERROR, "link_lost", True),
        (Outcome.ABORTED, "unplugged", False),
        (Outcome.ERROR, "hub_disturbed", False),
        (Outcome.ERROR, "mac_reused", False),
        (Outcome.ERROR, "duplicate_mac", False),
        (None, "awaits_run_mode", False),
    ],
)
def test_only_verdicts_say_something_about_a_slot(outcome: Outcome | None, reason: str, says: bool) -> None:  # noqa: FBT001
    """A hand, a hub, or what the records hold against a board is not the slot's."""
    assert says_something(outcome, reason) is says


# -- shifts ----------------------------------------------------------------------------------------------------------------

SHIFTS = ("06:00", "14:00", "22:00")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "began"),
    [
        ("2026-01-10 06:00", "2026-01-10 06:00"),
        ("2026-01-10 05:59", "2026-01-09 22:00"),
        ("2026-01-10 13:59", "2026-01-10 06:00"),
        ("2026-01-10 23:30", "2026-01-10 22:00"),
        ("2026-03-29 03:30", "2026-03-28 22:00"),
        ("2026-10-25 00:30", "2026-10-24 22:00"),
    ],
)
def test_a_shift_began_at_the_last_of_its_times(now: str, began: str) -> None:
    """In the time of the bench, over midnight and over a night in which the clock is put forward."""
    moment = datetime.fromisoformat(now).replace(tzinfo=BERLIN)
    found = shift_began(moment.astimezone(UTC), SHIFTS, BERLIN)
    assert found == datetime.fromisoformat(began).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("now", "began"),
    [
        ("2026-10-25T00:15", "2026-10-24T00:30"),
        ("2026-10-25T00:30", "2026-10-25T00:30"),
        ("2026-10-25T01:15", "2026-10-25T00:30"),
        ("2026-10-25T01:45", "2026-10-25T00:30"),
        ("2026-03-29T01:15", "2026-03-28T01:30"),
        ("2026-03-29T01:30", "2026-03-29T01:30"),
    ],
)
def test_a_shift_that_begins_in_the_hour_of_the_clock_change_begins_once(now: str, began: str) -> None:
    """Half past two in Berlin, times in UTC: the first of two, and half past three where that night has none."""
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert shift_began(moment, ("02:30",), BERLIN) == datetime.fromisoformat(began).replace(tzinfo=UTC)


def test_without_shifts_there_is_no_beginning() -> None:
    """Then proofs hold for the lot."""
    assert shift_began(datetime.now(UTC), ()) is None


@given(st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1)))  # noqa: DTZ001 - a zone is put on
def test_a_shift_never_began_in_the_future_nor_long_ago(moment: datetime) -> None:
    """In the machine's own time zone, whatever it is: within the last day and an hour of a changed clock."""
    now = moment.replace(tzinfo=UTC)
    began = shift_began(now, ("06:00",))
    assert began is not None
    assert timedelta(0) <= now - began <= timedelta(hours=25)


def test_the_rows_are_frozen() -> None:
    """A proof is what it was: a changed one is another one."""
    made = proof(GOLDEN, Reason.GOLDEN_PASSED)
    assert made.holds
    assert not replace(made, finding=Reason.RED_MISSED).holds

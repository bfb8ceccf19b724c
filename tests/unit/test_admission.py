"""Known boards: what the records say against a first write, as a table by hand, and that nothing is written against it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.admission import admit, refuse_marked, refuse_reused_mac
from station.errors import JobEnded
from station.model import BoardMark, EarlierPass, FlashChip, JobState, KnownBoard, LotState, Outcome
from station.properties import Role
from station.recipe import Recipe
from tests.unit.job_rig import UNTOUCHED, Station, flashed_board, image, recipe_for, visited, writes
from tests.unit.memory_records import AUTO, STICK
from tests.unit.scripted_board import JEDEC_ID, MAC, ScriptedBoard

WHEN = datetime(2025, 11, 22, 12, 0, tzinfo=UTC)
RECIPE = recipe_for()
REPEATING = recipe_for('[policy]\nrepeat = "flash"\n')
HERE, ELSEWHERE = "this recipe", "another recipe"


def passed(recipe: str = HERE, lot: LotState = LotState.OPEN, *, under: Recipe = RECIPE) -> EarlierPass:
    """A PASS on record."""
    hash_ = under.hash if recipe == HERE else "0" * 64
    return EarlierPass(job_id="j", recipe_hash=hash_, product="gadget 2", lot_state=lot, ended_at=WHEN)


def board(**more) -> KnownBoard:
    """What the records say of a board that was made here before."""
    return KnownBoard(**{"mac": MAC, "flash_id": JEDEC_ID, "attempts": 1, **more})


PASSED, ELSE, CLOSED = passed(), passed(ELSEWHERE), passed(lot=LotState.CLOSED)
ATTEMPTS = 3
# what is known, --again, what is said against it (empty: it may be made) and the particulars
TABLE = (
    (None, False, "", ""),
    (board(), False, "", ""),
    (board(passes=(PASSED,)), False, "already_done", "passed 2025-11-22 12:00 UTC"),
    (board(passes=(PASSED,)), True, "", ""),
    (board(passes=(passed(lot=LotState.PAUSED),)), False, "already_done", "passed 2025-11-22 12:00 UTC"),
    (board(passes=(CLOSED,)), False, "already_done", "passed 2025-11-22 12:00 UTC"),
    (board(passes=(ELSE,)), False, "passed_before", "gadget 2"),
    (board(passes=(ELSE,)), True, "", ""),
    (board(passes=(PASSED, ELSE)), False, "already_done", "passed 2025-11-22 12:00 UTC"),
    (board(passes=(ELSE, PASSED)), False, "passed_before", "gadget 2"),
    # Flashed again since: what passed is not on the board any more.
    (board(passes=(PASSED,), attempts_since_pass=1), False, "", ""),
    (board(passes=(ELSE,), attempts_since_pass=2), False, "", ""),
    (board(judged_attempts=ATTEMPTS - 1), False, "", ""),
    (board(judged_attempts=ATTEMPTS), False, "attempts_used_up", "3"),
    (board(judged_attempts=ATTEMPTS), True, "attempts_used_up", "3"),
    (board(judged_attempts=ATTEMPTS + 4, attempts=9), False, "attempts_used_up", "7"),
    (board(attempts=99), False, "", ""),
    (board(judged_attempts=ATTEMPTS, rework_open=True), False, "", ""),
    (board(passes=(PASSED,), rework_open=True), False, "", ""),
    (board(passes=(ELSE,), rework_open=True), False, "", ""),
    (board(marks=frozenset({BoardMark.GOLDEN})), False, "marked_board", "golden"),
    (board(marks=frozenset({BoardMark.GOLDEN}), rework_open=True), True, "marked_board", "golden"),
    (board(marks=frozenset({BoardMark.RED}), rework_open=True), True, "marked_board", "red"),
    (board(marks=frozenset({BoardMark.RETURNED})), False, "marked_board", "returned"),
    (board(marks=frozenset({BoardMark.RETURNED})), True, "", ""),
    (board(marks=frozenset({BoardMark.RETURNED}), rework_open=True), False, "", ""),
    (board(marks=frozenset({BoardMark.SCRAPPED})), False, "marked_board", "scrapped"),
    (board(marks=frozenset({BoardMark.SCRAPPED})), True, "", ""),
    (board(marks=frozenset({BoardMark.SCRAPPED}), rework_open=True), False, "", ""),
    (board(marks=frozenset({BoardMark.RETURNED, BoardMark.GOLDEN})), True, "marked_board", "golden"),
)


@pytest.mark.parametrize(("known", "again", "reason", "detail"), TABLE)
def test_what_the_records_say_decides_before_the_first_write(
    known: KnownBoard | None,
    again: bool,  # noqa: FBT001 - a column
    reason: str,
    detail: str,
) -> None:
    """Either the board is made and passes, or it is a finding with its MAC and not a byte of it has changed."""
    shown = visited(known=known, again=again)
    if not reason:
        assert shown.job.outcome is Outcome.PASS
        return
    assert (shown.finding.reason, shown.finding.detail, shown.row.mac) == (reason, detail, MAC)
    assert bytes(shown.board.flash) == UNTOUCHED
    assert shown.records.starts == {}


@pytest.mark.parametrize(
    ("earlier", "reason"),
    [
        (passed(under=REPEATING), ""),
        (passed(lot=LotState.PAUSED, under=REPEATING), ""),
        (passed(lot=LotState.CLOSED, under=REPEATING), "already_done"),
        (passed(ELSEWHERE), "passed_before"),
    ],
)
def test_a_recipe_may_ask_for_repetition(earlier: EarlierPass, reason: str) -> None:
    """`repeat = "flash"` makes a board again that passed in a lot that is not closed, and no other."""
    shown = visited(recipe=REPEATING, known=board(passes=(earlier,)))
    if reason:
        assert shown.finding.reason == reason
        assert writes(shown.board) == 0
    else:
        assert shown.job.outcome is Outcome.PASS


@pytest.mark.parametrize("attempts", [1, 5])
def test_the_recipe_says_how_often(attempts: int) -> None:
    """The limit is the recipe's."""
    recipe = recipe_for(f"[policy]\nattempts = {attempts}\n")
    assert visited(recipe=recipe, known=board(judged_attempts=attempts - 1)).job.outcome is Outcome.PASS
    assert visited(recipe=recipe, known=board(judged_attempts=attempts)).finding.reason == "attempts_used_up"


@given(
    known=st.builds(
        KnownBoard,
        mac=st.just(MAC),
        flash_id=st.just(JEDEC_ID),
        attempts=st.integers(0, 9),
        judged_attempts=st.integers(0, 9),
        passes=st.lists(st.sampled_from([PASSED, ELSE, CLOSED]), max_size=3).map(tuple),
        attempts_since_pass=st.integers(0, 2),
        marks=st.frozensets(st.sampled_from(list(BoardMark))),
        rework_open=st.booleans(),
    ),
    again=st.booleans(),
    repeat=st.sampled_from(["refuse", "flash"]),
)
def test_nobody_but_a_person_makes_a_board_again(known: KnownBoard, repeat: str, *, again: bool) -> None:
    """Without a person's word, no standing PASS elsewhere, closed lot, mark or used-up count is ever overridden."""
    recipe = msgspec.structs.replace(RECIPE, policy=msgspec.structs.replace(RECIPE.policy, repeat=repeat))
    try:
        refuse_marked(known, again=again)
        admit(known, recipe, again=again)
    except JobEnded:
        return
    assert not known.marks & {BoardMark.GOLDEN, BoardMark.RED}
    by_a_person = again or known.rework_open
    assert by_a_person or not known.marks
    assert known.rework_open or known.judged_attempts < recipe.policy.attempts
    standing = known.passes[:1] if not known.attempts_since_pass else ()
    if standing and not by_a_person:
        assert (repeat, standing[0]) == ("flash", PASSED)


# -- same MAC, other flash ---------------------------------------------------------------------------------------------

CHIP = FlashChip(jedec_id=JEDEC_ID, size_bytes=1 << 20)


@pytest.mark.parametrize(
    ("known", "refused"),
    [
        (None, False),
        (board(), False),
        (board(flash_id=None), False),
        (board(flash_id=0x1640EF), True),
        (board(flash_id=0x1640EF, rework_open=True), True),
        (board(flash_id=0x1640EF, accepted_flash_ids=frozenset({JEDEC_ID})), False),
        (board(flash_id=0x1640EF, accepted_flash_ids=frozenset({0x1740EF})), True),
    ],
)
def test_a_known_mac_on_another_flash_is_refused_unless_a_person_accepted_it(
    known: KnownBoard | None,
    refused: bool,  # noqa: FBT001 - a column
) -> None:
    """The override is a row that names this very flash id; nothing else helps, and it is on record as ERROR."""
    shown = visited(known=known, again=True)
    assert (shown.job.outcome, shown.job.reason) == ((Outcome.ERROR, "mac_reused") if refused else (Outcome.PASS, ""))
    assert (bytes(shown.board.flash) == UNTOUCHED) is refused
    if refused:
        with pytest.raises(JobEnded, match="flash 1440ef here, 1640ef before"):
            refuse_reused_mac(known, CHIP)


# -- in whatever mode it comes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("properties", [STICK, replace(STICK, role=Role.TEST)], ids=str)
@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (board(passes=(PASSED,)), "already_done"),
        (board(passes=(ELSE,)), "passed_before"),
        (board(marks=frozenset({BoardMark.GOLDEN})), "marked_board"),
        (board(judged_attempts=ATTEMPTS), "attempts_used_up"),
    ],
)
def test_a_known_board_in_run_mode_is_told_the_same(properties, known: KnownBoard, reason: str) -> None:
    """A good board that is plugged in without the jumper is ALREADY DONE, and nobody is told to flash it."""
    shown = visited(flashed_board(lines=False, gpio0="free"), properties=properties, known=known)
    assert (shown.finding.reason, shown.row.mac) == (reason, MAC)


@pytest.mark.parametrize("gpio0", ["free", "low"])
def test_a_marked_board_that_waits_is_left_alone(gpio0) -> None:
    """A mark that a person made between two visits holds: no test, no write, and the job waits."""
    station, made = Station(), ScriptedBoard(lines=False)
    station.visit(made, replace(STICK, role=Role.FLASH))
    station.records.known = board(marks=frozenset({BoardMark.RETURNED}))
    shown = station.visit(made.plug_in(gpio0), STICK)
    assert (shown.finding.reason, shown.row.mac) == ("marked_board", MAC)
    assert station.records.ends["job-1"].state is JobState.PENDING
    assert bytes(made.flash) == image()


def test_a_job_that_waits_is_no_further_attempt() -> None:
    """The second visit of the last allowed attempt is still that attempt."""
    station, made = Station(), ScriptedBoard(lines=False)
    station.visit(made, replace(STICK, role=Role.FLASH))
    station.records.known = board(judged_attempts=ATTEMPTS, attempts=4)
    shown = station.visit(made.plug_in("free"), STICK)
    assert (shown.job.outcome, shown.job.attempt) == (Outcome.PASS, 1)


def test_the_next_attempt_has_the_next_number() -> None:
    """Attempts count every job that touched flash, however it ended."""
    shown = visited(known=board(attempts=2, judged_attempts=1), properties=AUTO)
    assert shown.job.attempt == 3

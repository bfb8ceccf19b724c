"""Lots: who opened, paused and closed which work order, and what a restart does to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from station.adapters.records import Database, LotRequest, RejectReason, RejectRow
from station.errors import ConfigurationError
from station.model import (
    Lot,
    LotState,
)
from tests.adapters.records.samples import (
    RECIPE,
    REQUEST,
    T0,
    rows_of,
    url_of,
)

# --- lots ----------------------------------------------------------------------------------------------------------------

BY_HAND = LotRequest(recipe_hash=RECIPE.hash, product="blink", person="Ada", supplier_batch="B-8", target_quantity=500)


def test_the_standing_lot_is_made_once_and_stays_open_over_a_restart(file: Path, lot: Lot) -> None:
    """One recipe, one product and one supplier batch have one standing lot, however often the station starts."""
    for _ in range(2):
        with Database.open(url_of(file)) as database:
            assert database.pause_hand_opened_lots() == 0
            assert database.standing_lot(REQUEST) == lot
    assert (lot.state, lot.standing, lot.supplier_batch) == (LotState.OPEN, True, "B-7")


def test_another_recipe_has_a_standing_lot_of_its_own(database: Database, lot: Lot) -> None:
    """A technician's recipe beside the bench's does not touch the bench's lot."""
    database.ensure_recipe(replace(RECIPE, hash="ef" * 32, name="other"))
    other = database.standing_lot(replace(REQUEST, recipe_hash="ef" * 32))
    assert other.id != lot.id
    assert database.standing_lot(REQUEST) == lot


def test_a_lot_opened_by_hand_comes_back_paused_and_is_opened_again_by_a_person(file: Path) -> None:
    """After a restart nobody's lot runs on by itself; opening the same work order continues the same lot."""
    with Database.open(url_of(file), now=lambda: T0) as database:
        assert database.current_lot() is None
        opened = database.open_lot(BY_HAND)
        assert database.current_lot() == opened
        assert opened.state is LotState.OPEN
    with Database.open(url_of(file), now=lambda: T0) as database:
        assert database.pause_hand_opened_lots() == 1
        assert database.current_lot() == replace(opened, state=LotState.PAUSED)
        assert database.open_lot(replace(BY_HAND, person="Bob")) == opened
        assert database.close_lot(opened.id, "Bob").state is LotState.CLOSED
        assert database.current_lot() is None
    events = [(event, person) for lot_id, _, event, person, _ in rows_of(file)["lot_event"] if lot_id == opened.id]
    assert events == [("open", "Ada"), ("pause", "station"), ("open", "Bob"), ("close", "Bob")]


def test_one_work_order_at_a_time(database: Database) -> None:
    """A second lot is refused while the first is open or paused, with the fix; opening the open one changes nothing."""
    first = database.open_lot(BY_HAND)
    assert database.open_lot(BY_HAND) == first
    database.pause_lot(first.id, "Ada")
    with pytest.raises(ConfigurationError, match=r"still paused.*station lot close"):
        database.open_lot(replace(BY_HAND, supplier_batch="B-9"))
    database.close_lot(first.id, "Ada")
    assert database.open_lot(replace(BY_HAND, supplier_batch="B-9")).id != first.id


def test_a_closed_lot_stays_closed(database: Database) -> None:
    """Closing is for ever, closing twice is no event, and an unknown lot is named."""
    opened = database.open_lot(BY_HAND)
    closed = database.close_lot(opened.id, "Ada")
    assert database.close_lot(opened.id, "Ada") == closed
    with pytest.raises(ConfigurationError, match="it is closed"):
        database.pause_lot(opened.id, "Ada")
    with pytest.raises(ConfigurationError, match="there is no such lot"):
        database.pause_lot("nowhere", "Ada")


# --- what is booked out by hand ------------------------------------------------------------------------------------------


def rejects(lot_id: str, count: int, first: int = 0) -> list[RejectRow]:
    """So many silent modules, by Ada."""
    return [
        RejectRow(id=f"reject-{number}", lot_id=lot_id, reason=RejectReason.NO_ANSWER, person="Ada", slot="A2")
        for number in range(first, first + count)
    ]


def test_modules_are_booked_out_of_their_lot_once_each(database: Database, file: Path, lot: Lot) -> None:
    """Each module is a row with reason, person, slot and time; the same rows again are no more rows; lots stay apart."""
    opened = database.open_lot(BY_HAND)
    for _ in range(2):
        database.add_rejects(rejects(lot.id, 2))
    database.add_rejects(rejects(opened.id, 1, first=2))
    assert (database.rejected(lot.id), database.rejected(opened.id), database.rejected("nowhere")) == (2, 1, 0)
    time = T0.replace(tzinfo=None).isoformat(" ")
    assert rows_of(file)["reject"][0] == ("reject-0", 1, lot.id, "no_answer", "Ada", "A2", time)


def test_nothing_is_booked_out_of_a_lot_that_is_closed_or_was_never_opened(database: Database, file: Path) -> None:
    """A paused lot takes rejects, a closed or unknown one does not, and then no row of the call is written."""
    opened = database.open_lot(BY_HAND)
    database.pause_lot(opened.id, "Ada")
    database.add_rejects(rejects(opened.id, 1))
    database.close_lot(opened.id, "Ada")
    with pytest.raises(ConfigurationError, match=r"it is closed\. Fix: station lot open"):
        database.add_rejects(rejects(opened.id, 1, first=1))
    other = database.open_lot(BY_HAND)
    with pytest.raises(ConfigurationError, match="there is no such lot"):
        database.add_rejects([*rejects(other.id, 1, first=2), *rejects("nowhere", 1, first=3)])
    assert [row[0] for row in rows_of(file)["reject"]] == ["reject-0"]

"""Bundles in the records: kept byte for byte, said of by people, and never changed; and lots that succeed one another."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from station.adapters.records import (
    BundleEvent,
    BundleRow,
    BundleState,
    Database,
    FirmwareRow,
    LotRequest,
    PendingChoice,
)
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import BoardMark, JobState, Lot, LotState, Outcome
from tests.adapters.records.samples import (
    FAILED,
    PASSED,
    PENDING,
    RECIPE,
    REQUEST,
    T0,
    Fault,
    board,
    database_with,
    make_lot,
    record,
    rows_of,
    url_of,
)

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()
BUNDLE = BundleRow(
    sha256=SHA,
    recipe_hash=RECIPE.hash,
    name="blink",
    version="1",
    content=CONTENT,
    signed_by="",
    person="Ada",
    reason="imported",
)
NEXT_RECIPE = replace(RECIPE, hash="ef" * 32, version="2")
NEXT = LotRequest(recipe_hash=NEXT_RECIPE.hash, product="blink", person="Grace", supplier_batch="B-7")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the records are."""
    return tmp_path / "station.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    """Records with both recipes."""
    with Database.open(url_of(file), station_id="bench-1", now=lambda: T0) as database:
        database.ensure_recipe(RECIPE)
        database.ensure_recipe(NEXT_RECIPE)
        yield database


def another(number: int, recipe_hash: str = RECIPE.hash) -> BundleRow:
    """Another bundle."""
    content = b"%d" % number
    return replace(BUNDLE, content=content, sha256=hashlib.sha256(content).hexdigest(), recipe_hash=recipe_hash)


def say(database: Database, event: BundleEvent, key: str = SHA, job: str | None = None) -> BundleState:
    """Grace says it."""
    return database.shelf.say(key, event, person="Grace", reason="looked at", first_article_job=job).state


# --- bundles -------------------------------------------------------------------------------------------------------------


def test_a_bundle_is_kept_byte_for_byte_and_once(database: Database, file: Path) -> None:
    """The content comes back as it went in; keeping it again, by whomever, changes nothing."""
    database.shelf.keep(BUNDLE)
    before = rows_of(file)
    database.shelf.keep(replace(BUNDLE, person="Grace", reason="again"))
    assert rows_of(file) == before
    assert database.shelf.content(SHA) == CONTENT
    (kept,) = database.shelf.kept()
    assert (kept.sha256, kept.size_bytes, kept.person, kept.state) == (SHA, len(CONTENT), "Ada", BundleState.DRAFT)
    assert [(said.event, said.person, said.reason) for said in kept.sayings] == [("draft", "Ada", "imported")]


def test_a_bundle_under_a_wrong_name_is_never_kept(database: Database) -> None:
    """Its name is the sum of its content, or there is no row."""
    with pytest.raises(ValueError, match="has other content"):
        database.shelf.keep(replace(BUNDLE, content=b"other"))
    assert database.shelf.kept() == ()


def test_a_bundle_that_rotted_in_the_file_is_noticed(database: Database, file: Path) -> None:
    """SQLite checks no sums: what does not match its name is no bundle any more, and a missing one is no empty one."""
    database.shelf.keep(BUNDLE)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE bundle SET content = ?", (CONTENT[:-1] + b"x",))
        connection.commit()
    with pytest.raises(RecordsUnwritable, match="is not what was kept"):
        database.shelf.content(SHA)
    with pytest.raises(LookupError):
        database.shelf.content("00" * 32)


def test_the_life_of_a_bundle_is_rows(database: Database) -> None:
    """Draft, released, withdrawn: each with person, reason and time; the last row is what holds."""
    assert database.shelf.state(SHA) is None
    database.shelf.keep(BUNDLE)
    assert database.shelf.state(SHA) is BundleState.DRAFT
    assert say(database, BundleEvent.RELEASE) is BundleState.RELEASED
    assert say(database, BundleEvent.WITHDRAW) is BundleState.WITHDRAWN
    sayings = database.shelf.find(SHA).sayings
    assert [(said.event, said.person, said.happened_at) for said in sayings] == [
        ("draft", "Ada", T0),
        ("release", "Grace", T0),
        ("withdraw", "Grace", T0),
    ]


def test_withdrawn_is_for_ever_and_released_is_said_once(database: Database) -> None:
    """Nothing can be said of a withdrawn bundle any more; a released one is not released twice; a draft can be withdrawn."""
    database.shelf.keep(BUNDLE)
    say(database, BundleEvent.RELEASE)
    with pytest.raises(ConfigurationError, match="released already"):
        say(database, BundleEvent.RELEASE)
    say(database, BundleEvent.WITHDRAW)
    for event in BundleEvent:
        with pytest.raises(ConfigurationError, match="it is withdrawn, for ever"):
            say(database, event)
    other = another(1)
    database.shelf.keep(other)
    assert say(database, BundleEvent.WITHDRAW, other.sha256) is BundleState.WITHDRAWN


def test_the_first_article_is_a_job_of_this_recipe_that_passed(database: Database) -> None:
    """No such job, a job of another recipe, one that failed or still waits: refused by name; a PASS goes on record."""
    database.shelf.keep(BUNDLE)
    lot = make_lot(database)
    other = database.standing_lot(replace(REQUEST, recipe_hash=NEXT_RECIPE.hash))
    record(database, "passed", lot, PASSED, identity=board(1))
    record(database, "failed", lot, FAILED, identity=board(2))
    record(database, "waits", lot, PENDING, identity=board(3))
    record(database, "other", other, PASSED, identity=board(4))
    refused = {
        "none": "there is no such job",
        "failed": "did not end in PASS but in FAIL",
        "waits": "did not end in PASS but in nothing yet",
        "other": "was made with recipe efefefef, not with abababab",
    }
    for job, words in refused.items():
        with pytest.raises(ConfigurationError, match=words):
            say(database, BundleEvent.RELEASE, job=job)
    assert database.shelf.state(SHA) is BundleState.DRAFT
    say(database, BundleEvent.RELEASE, job="passed")
    assert database.shelf.find(SHA).sayings[-1].first_article_job == "passed"


def test_a_bundle_is_named_by_the_first_digits_of_its_sum(database: Database) -> None:
    """Six digits or more that name one bundle, in either case; too few, none and several are refused with what to do."""
    database.shelf.keep(BUNDLE)
    twins: dict[str, BundleRow] = {}
    number = 0
    while True:
        row = another(number)
        if row.sha256[:6] in twins:
            break
        twins[row.sha256[:6]] = row
        number += 1
    for twin in (row, twins[row.sha256[:6]]):
        database.shelf.keep(twin)
    assert database.shelf.find(SHA[:8].upper()).sha256 == SHA
    for key, words in ((SHA[:5], "no name of a bundle"), ("zzzzzz", "no name"), (row.sha256[:6], "names 2 bundles")):
        with pytest.raises(ConfigurationError, match=words):
            database.shelf.find(key)
    with pytest.raises(ConfigurationError, match="is not kept here"):
        database.shelf.find("0" * 64)


def test_the_bundles_of_a_recipe_are_found_newest_first(database: Database) -> None:
    """A recipe may be kept signed and unsigned: both are its bundles, and others are not."""
    rows = [BUNDLE, another(1), another(2, NEXT_RECIPE.hash)]
    for row in rows:
        database.shelf.keep(row)
    assert database.shelf.of_recipe(RECIPE.hash) == (rows[1].sha256, SHA)
    assert [kept.sha256 for kept in database.shelf.kept()] == [row.sha256 for row in reversed(rows)]


def test_every_image_of_a_recipe_can_stand_in_a_job(database: Database) -> None:
    """A recipe with images for several flash sizes: the job may name each of them."""
    images = tuple(FirmwareRow(sha256=f"{number:02x}" * 32, version="1.27.0", size_bytes=number) for number in (1, 2))
    row = replace(RECIPE, hash="12" * 32, firmware_sha256=images[0].sha256, images=images)
    database.ensure_recipe(row)
    lot = database.standing_lot(replace(REQUEST, recipe_hash=row.hash))
    for number, image in enumerate(images):
        record(database, f"job-{number}", lot, PASSED, identity=board(number + 1), firmware_sha256=image.sha256)
    assert {job.outcome for job in database.jobs(2)} == {Outcome.PASS}


# --- lots that succeed one another ---------------------------------------------------------------------------------------


def waiting_lot(database: Database, *, standing: bool = True) -> Lot:
    """A lot with one board that passed and two that wait."""
    lot = make_lot(database) if standing else database.open_lot(REQUEST)
    record(database, "passed", lot, PASSED, identity=board(1))
    record(database, "waits-1", lot, PENDING, identity=board(2))
    record(database, "waits-2", lot, PENDING, identity=board(3))
    return lot


def marks_of(database: Database) -> list[frozenset[BoardMark]]:
    """The marks of the three boards."""
    known = [database.known_board(board(number).mac) for number in (1, 2, 3)]
    return [each.marks for each in known if each is not None]


def outcomes(database: Database) -> dict[str, tuple[JobState, Outcome | None, str]]:
    """State, outcome and detail of every job."""
    return {job.id: (job.state, job.outcome, job.detail) for job in database.jobs(10)}


@pytest.mark.parametrize("standing", [True, False])
def test_a_lot_is_closed_and_its_successor_opened_in_one_step(database: Database, *, standing: bool) -> None:
    """The old lot keeps its recipe and is closed; the new one is open, of the same kind, with the new recipe and a person."""
    old = waiting_lot(database, standing=standing)
    done = database.shelf.succeed(old, NEXT, PendingChoice.FINISH)
    assert (done.closed.id, done.closed.state, done.closed.recipe_hash) == (old.id, LotState.CLOSED, RECIPE.hash)
    assert (done.opened.state, done.opened.recipe_hash, done.opened.person) == (
        LotState.OPEN,
        NEXT.recipe_hash,
        "Grace",
    )
    assert done.opened.standing is standing
    assert done.pending_jobs == 2
    if standing:
        assert database.standing_lot(NEXT) == done.opened
    else:
        assert database.current_lot() == done.opened
    assert database.lot(old.id) == done.closed


def test_boards_to_finish_wait_on(database: Database) -> None:
    """`finish` changes no job: they wait in the closed lot, which is marked as one whose boards are finished."""
    old = waiting_lot(database)
    before = outcomes(database)
    assert not database.shelf.is_finished_later(old.id)
    done = database.shelf.succeed(old, NEXT, PendingChoice.FINISH)
    assert outcomes(database) == before
    assert {job.lot.state for job in database.pending()} == {LotState.CLOSED}
    assert database.shelf.is_finished_later(old.id)
    assert not database.shelf.is_finished_later(done.opened.id)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (PendingChoice.REFLASH, "to be flashed anew with blink [efefefef], by Grace"),
        (PendingChoice.SCRAP, "scrapped by Grace, when blink [efefefef] succeeded its lot"),
    ],
)
def test_boards_to_reflash_or_scrap_wait_no_more(database: Database, choice: PendingChoice, words: str) -> None:
    """Their jobs are ABORTED with the person's word; a board that passed, and one of another lot, stay what they are."""
    old = waiting_lot(database)
    other = database.standing_lot(replace(REQUEST, product="other"))
    record(database, "elsewhere", other, PENDING, identity=board(9))
    done = database.shelf.succeed(old, NEXT, choice)
    assert done.pending_jobs == 2
    found = outcomes(database)
    assert {found[job] for job in ("waits-1", "waits-2")} == {(JobState.CLOSED, Outcome.ABORTED, words)}
    assert (found["passed"][1], found["elsewhere"][0]) == (Outcome.PASS, JobState.PENDING)
    assert not database.shelf.is_finished_later(old.id)


def test_boards_that_were_scrapped_are_marked_and_no_others(database: Database, file: Path) -> None:
    """Each carries the mark, with the person and the word; boards of the lot that did not wait, and other choices, none."""
    database.shelf.succeed(waiting_lot(database), NEXT, PendingChoice.SCRAP)
    assert marks_of(database) == [frozenset(), frozenset({BoardMark.SCRAPPED}), frozenset({BoardMark.SCRAPPED})]
    with closing(sqlite3.connect(file)) as connection:
        told = connection.execute("SELECT mac, event, person, reason FROM board_event ORDER BY sequence").fetchall()
    word = "scrapped by Grace, when blink [efefefef] succeeded its lot"
    assert told == [(board(number).mac, "mark_scrapped", "Grace", word) for number in (2, 3)]


@pytest.mark.parametrize("choice", [PendingChoice.FINISH, PendingChoice.REFLASH])
def test_boards_that_are_finished_or_made_anew_carry_no_mark(database: Database, choice: PendingChoice) -> None:
    """Nobody threw them away."""
    database.shelf.succeed(waiting_lot(database), NEXT, choice)
    assert marks_of(database) == [frozenset()] * 3


def test_what_a_succession_refuses(database: Database, file: Path) -> None:
    """The same recipe again, a closed lot, an unknown one, a running job, another lot open by hand: nothing is changed."""
    old = waiting_lot(database)
    closed = database.close_lot(database.standing_lot(replace(REQUEST, product="closed")).id, "Ada")
    busy = database.standing_lot(replace(REQUEST, product="busy"))
    record(database, "running", busy, None, identity=board(7))
    before = rows_of(file)
    refused = (
        (old, replace(NEXT, recipe_hash=RECIPE.hash), "the very same recipe"),
        (closed, NEXT, "it is closed"),
        (replace(old, id="unknown"), NEXT, "was never opened"),
        (busy, NEXT, r"a job of it runs in A3\. Fix: station lot pause"),
    )
    for lot, request, words in refused:
        with pytest.raises(ConfigurationError, match=words):
            database.shelf.succeed(lot, request, PendingChoice.SCRAP)
    assert rows_of(file) == before


@pytest.mark.parametrize("after", [False, True])
def test_a_succession_happens_whole_or_not_at_all(tmp_path: Path, *, after: bool) -> None:
    """Whichever statement of it the disk fails, before or after: all rows are as they were, or all of it is done."""
    fresh, at = tmp_path / "fresh.db", 0
    with Database.open(url_of(fresh), now=lambda: T0) as database:
        database.ensure_recipe(RECIPE)
        database.ensure_recipe(NEXT_RECIPE)
        old = waiting_lot(database)
    before = rows_of(fresh)
    while True:
        at += 1
        file = Path(shutil.copy(fresh, tmp_path / f"{at}.db"))
        fault = Fault()
        with database_with(fault, file) as database:
            fault.arm(at, after=after)
            try:
                database.shelf.succeed(old, NEXT, PendingChoice.SCRAP)
            except RecordsUnwritable:
                failed = True
            else:
                failed = False
            fault.arm(None)
        now = rows_of(file)
        whole = len(now["succession"]) == 1 and len(now["lot"]) == 2
        assert now == before or whole
        if not failed:
            break
    assert at > 10
    assert whole

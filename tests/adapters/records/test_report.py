"""The reports: which rows they give, first pass yield by the book, and what a spreadsheet or a terminal is shown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.adapters.records import (
    YIELD_FORMULA,
    Database,
    RejectReason,
    RejectRow,
    Report,
    board_report,
    jobs_report,
    render,
    yield_report,
)
from station.adapters.records.board_key import parse_board_key
from station.adapters.records.rendering import one_line, spreadsheet_safe
from station.adapters.records.report import chip_id_word
from station.errors import ConfigurationError
from station.model import JobState, Lot, Outcome
from tests.adapters.records.samples import (
    BOARD,
    FAILED,
    PASSED,
    PENDING,
    PLUG,
    RECIPE,
    REQUEST,
    T0,
    board,
    make_lot,
    record,
    url_of,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the records of a test are."""
    return tmp_path / "station.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    """Open records."""
    with Database.open(url_of(file), now=lambda: T0) as opened:
        yield opened


@pytest.fixture
def lot(database: Database) -> Lot:
    """The sample lot."""
    return make_lot(database)


def csv_rows(report: Report) -> list[dict[str, str]]:
    """The CSV as a program reads it."""
    return list(csv.DictReader(io.StringIO(render(report, "csv"), newline="")))


# --- jobs and boards -----------------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_while_the_station_runs(database: Database, lot: Lot, file: Path) -> None:
    """Every job is a row, running ones included; a limit gives the latest."""
    record(database, "job-1", lot, PASSED)
    record(database, "job-2", lot, None, identity=board(2))
    rows = jobs_report(url_of(file)).rows
    assert [(row["job"], row["state"], row["outcome"]) for row in rows] == [
        ("job-2", "running", None),
        ("job-1", "closed", "PASS"),
    ]
    assert [row["job"] for row in jobs_report(url_of(file), limit=1).rows] == ["job-2"]


def test_identifiers_are_written_as_people_know_them(database: Database, lot: Lot, file: Path) -> None:
    """Chip ID in 24 bits, the OTP's own word beside it, MAC in lower case with colons, flash id in hex, times in UTC."""
    selector = replace(BOARD, otp_words=(0x42000000, 0x0100DDC1, 0, 0x0018FE34))
    record(database, "job-1", lot, PASSED, identity=selector)
    (row,) = jobs_report(url_of(file)).rows
    found = {name: row[name] for name in ("mac", "chip_id", "chip_id_word", "otp_words", "flash_id", "started_at")}
    assert found == {
        "mac": "18:fe:34:dd:c1:42",
        "chip_id": "0x00ddc142",
        "chip_id_word": "0x00ddc142",
        "otp_words": "0x42000000 0x0100ddc1 0x00000000 0x0018fe34",
        "flash_id": "0x1440e0",
        "started_at": "2025-11-22T08:02:00.123Z",
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0x42000000, 0x0000DDC1), "0x00ddc142"),
        ((0x421A2B3C, 0x7F5CDDC1), "0x5cddc142"),
        ((0xFF000000, 0xFFFFFFFF), "0xffffffff"),
    ],
)
def test_the_chip_id_word_is_what_esptool_prints(words: tuple[int, int], expected: str) -> None:
    """The 32-bit word is put together from the OTP as esptool does it, its top byte included."""
    assert chip_id_word(" ".join(f"{word:#010x}" for word in (*words, 0, 0))) == expected


@pytest.mark.parametrize(
    "key",
    [
        "18:fe:34:dd:c1:42",
        "18:FE:34:DD:C1:42",
        "18-fe-34-dd-c1-42",
        "18fe34ddc142",
        "18fe.34dd.c142",
        "0x00ddc142",
        "0xDDC142",
        "00ddc142",
        "ddc142",
        " DDC142 ",
        "14532930",
    ],
)
def test_a_board_is_found_however_it_is_written(database: Database, lot: Lot, file: Path, key: str) -> None:
    """MAC with any separator and case, chip ID with and without 0x and leading zeros, and in decimal."""
    record(database, "job-1", lot, FAILED)
    record(database, "job-2", lot, PASSED)
    record(database, "job-3", lot, PASSED, identity=board(0x123456))
    assert [row["job"] for row in board_report(url_of(file), key).rows] == ["job-1", "job-2"]


def test_digits_alone_may_be_hex_or_decimal_and_both_are_shown(database: Database, lot: Lot, file: Path) -> None:
    """Of two boards that one number may mean, neither is hidden, and the note says that there are two."""
    record(database, "job-1", lot, PASSED, identity=board(0x100000))
    record(database, "job-2", lot, PASSED, identity=board(100000))
    report = board_report(url_of(file), "100000")
    assert [row["job"] for row in report.rows] == ["job-1", "job-2"]
    assert report.notes[0].startswith("2 boards share this number: 18:fe:34:")


def test_boards_that_share_a_chip_id_are_both_shown(database: Database, lot: Lot, file: Path) -> None:
    """A chip ID is not unique: the report names each MAC."""
    record(database, "job-1", lot, PASSED)
    record(database, "job-2", lot, PASSED, identity=board(BOARD.chip_id, oui="5c:cf:7f"))
    report = board_report(url_of(file), "0x00ddc142")
    assert [row["mac"] for row in report.rows] == ["18:fe:34:dd:c1:42", "5c:cf:7f:dd:c1:42"]
    assert "2 boards" in report.notes[0]
    assert [row["job"] for row in board_report(url_of(file), "5c:cf:7f:dd:c1:42").rows] == ["job-2"]


def test_a_board_without_valid_identity_is_found_by_what_was_read(database: Database, lot: Lot, file: Path) -> None:
    """A MAC that cannot be a key is still in the records."""
    record(database, "job-1", lot, FAILED, identity=None)
    assert [row["observed_mac"] for row in board_report(url_of(file), "FF:FF:FF:FF:FF:FF").rows] == [
        "ff:ff:ff:ff:ff:ff"
    ]


def test_what_each_attempt_found_is_in_the_json_of_a_board(database: Database, lot: Lot, file: Path) -> None:
    """Phases and measurements stand nested in JSON with their types; CSV has the flat columns."""
    record(database, "job-1", lot, PASSED)
    report = board_report(url_of(file), "ddc142")
    (row,) = json.loads(render(report, "json"))
    assert row["phases"][1] == {"phase": "FLASH", "outcome": "PASS", "duration_s": 12.125}
    assert row["measurements"][1] == {
        "name": "cpu_frequency",
        "value": 80_000_000,
        "unit": "Hz",
        "low": 80_000_000,
        "high": 160_000_000,
        "within": True,
    }
    assert [m["value"] for m in row["measurements"]] == ["1.27.0", 80_000_000, 2.5, True, None]
    assert list(csv_rows(report)[0]) == list(report.columns)


@pytest.mark.parametrize("key", ["", "ghijkl", "0x1ffffffff", "12345678901", "18:fe:34:dd:c1", "abc", "99999999999999"])
def test_what_is_no_board_is_refused(key: str) -> None:
    """A key that is neither a MAC nor a chip ID is an error, not an empty report."""
    with pytest.raises(ValueError, match="neither a MAC"):
        parse_board_key(key)


@given(st.text(max_size=20))
def test_any_key_is_a_mac_a_chip_id_or_refused(key: str) -> None:
    """No input of a person breaks the look-up; what is accepted is a whole MAC or at least one 24-bit number."""
    try:
        mac, chip_ids = parse_board_key(key)
    except ValueError:
        return
    assert (len(mac) == 17) != bool(chip_ids)
    assert all(0 <= chip_id < 1 << 24 for chip_id in chip_ids)


def test_a_report_of_nothing_is_refused_and_creates_nothing(file: Path) -> None:
    """A mistyped path is an error with the fix, not an empty new database."""
    for report in (jobs_report, yield_report, lambda url: board_report(url, "ddc142")):
        with pytest.raises(ConfigurationError, match="no such database"):
            report(url_of(file))
    assert not file.exists()


# --- first pass yield ----------------------------------------------------------------------------------------------------


def the_yield(file: Path) -> dict[str, Any]:
    """The last row: all boards."""
    return dict(yield_report(url_of(file)).rows[-1])


def test_first_pass_yield_counts_first_attempts_only(database: Database, lot: Lot, file: Path) -> None:
    """FAIL, ERROR, ABORTED and waiting all lower it, and a PASS at the second attempt does not raise it."""
    error = replace(FAILED, outcome=Outcome.ERROR, reason="link_lost")
    aborted = replace(FAILED, outcome=Outcome.ABORTED, reason="unplugged")
    for number, ends in enumerate(
        [[PASSED], [PASSED, FAILED], [FAILED, PASSED], [FAILED], [error, PASSED], [aborted], [PENDING], [PASSED]],
        start=1,
    ):
        for attempt, end in enumerate(ends, start=1):
            record(database, f"job-{number}-{attempt}", lot, end, identity=board(number), attempt=attempt)
    assert the_yield(file) == {
        "recipe": "all",
        "recipe_version": "",
        "recipe_hash": "",
        "boards_attempted": 8,
        "passed_first": 3,
        "passed_later": 2,
        "waiting": 1,
        "not_passed": 2,
        "first_pass_yield": 0.375,
        "rejected_by_hand": 0,
    }


def test_what_never_touched_flash_is_in_no_yield(database: Database, lot: Lot, file: Path) -> None:
    """Findings, boards refused before the first byte, and jobs of nobody are no attempts."""
    database.begin_visit("visit-x", PLUG)
    too_small = replace(FAILED, reason="flash_too_small", flash_touched=False, bytes_flashed=0)
    record(database, "job-1", lot, too_small, identity=board(1))
    record(database, "job-2", lot, replace(too_small, reason="identity_invalid"), identity=None)
    record(database, "job-3", lot, None, identity=board(3))
    found = the_yield(file)
    assert (found["boards_attempted"], found["first_pass_yield"]) == (0, None)
    record(database, "job-4", lot, PASSED, identity=board(1))
    assert the_yield(file)["first_pass_yield"] == 1.0


def test_a_pending_first_attempt_counts_once_it_passes(database: Database, lot: Lot, file: Path) -> None:
    """The same job, closed by a later visit, is still the first attempt."""
    record(database, "job-1", lot, PENDING)
    assert (the_yield(file)["waiting"], the_yield(file)["first_pass_yield"]) == (1, 0.0)
    database.finish_job("job-1", replace(PASSED, ended_at=T0 + timedelta(minutes=1)))
    assert (the_yield(file)["waiting"], the_yield(file)["first_pass_yield"]) == (0, 1.0)


def test_a_crash_lowers_the_yield(database: Database, lot: Lot, file: Path) -> None:
    """A board that was in work when the station died was attempted and did not pass."""
    record(database, "job-1", lot, None)
    database.recover_running(T0)
    record(database, "job-2", lot, PASSED)
    found = the_yield(file)
    assert (found["boards_attempted"], found["passed_later"], found["first_pass_yield"]) == (1, 1, 0.0)


def test_first_is_by_order_of_writing_not_by_the_clock(database: Database, lot: Lot, file: Path) -> None:
    """A clock that was wrong at boot does not make the second attempt the first."""
    record(database, "job-1", lot, FAILED, started_at=T0)
    record(database, "job-2", lot, PASSED, started_at=T0 - timedelta(days=9000))
    assert the_yield(file)["first_pass_yield"] == 0.0


def test_yield_is_given_for_each_recipe_of_the_first_attempt(database: Database, lot: Lot, file: Path) -> None:
    """Rows by recipe add up to the last row; the formula stands under the table."""
    database.ensure_recipe(replace(RECIPE, hash="ef" * 32, name="other", version="2"))
    other = database.standing_lot(replace(REQUEST, recipe_hash="ef" * 32, product="other"))
    record(database, "job-1", lot, PASSED, identity=board(1))
    record(database, "job-2", other, FAILED, identity=board(2))
    record(database, "job-3", other, FAILED, identity=board(1))
    report = yield_report(url_of(file))
    found = [(row["recipe"], row["boards_attempted"], row["first_pass_yield"]) for row in report.rows]
    assert found == [("blink", 1, 1.0), ("other", 1, 0.0), ("all", 2, 0.5)]
    table = " ".join(render(report, "table").split())
    assert YIELD_FORMULA in table
    assert "boards whose first attempt ended in PASS / boards attempted" in YIELD_FORMULA


def test_a_pass_that_flashed_nothing_raises_no_yield(database: Database, lot: Lot, file: Path) -> None:
    """A test of a board that was not flashed here makes no attempt, and turns no failed board into one that passed later."""
    tested = replace(PASSED, flash_touched=False, bytes_flashed=0)
    record(database, "job-1", lot, tested, identity=board(1))
    record(database, "job-2", lot, FAILED, identity=board(2))
    record(database, "job-3", lot, tested, identity=board(2))
    found = the_yield(file)
    assert (found["boards_attempted"], found["passed_first"], found["passed_later"], found["not_passed"]) == (
        1,
        0,
        0,
        1,
    )


def test_what_was_rejected_by_hand_is_shown_apart(database: Database, lot: Lot, file: Path) -> None:
    """Rejects stand by the recipe of their lot in a column of their own and change no other figure."""
    record(database, "job-1", lot, PASSED)
    before = [{**row, "rejected_by_hand": 0} for row in yield_report(url_of(file)).rows]
    database.ensure_recipe(replace(RECIPE, hash="ef" * 32, name="other", version="2"))
    other = database.standing_lot(replace(REQUEST, recipe_hash="ef" * 32, product="other"))
    reasons = [(lot, RejectReason.NO_ANSWER), (lot, RejectReason.DAMAGED), (other, RejectReason.WRONG_PART)]
    database.add_rejects(
        [
            RejectRow(id=f"reject-{number}", lot_id=of_lot.id, reason=reason, person="Ada")
            for number, (of_lot, reason) in enumerate(reasons)
        ]
    )
    rows = yield_report(url_of(file)).rows
    assert [(row["recipe"], row["boards_attempted"], row["rejected_by_hand"]) for row in rows] == [
        ("blink", 1, 2),
        ("other", 0, 1),
        ("all", 1, 3),
    ]
    assert rows[1]["first_pass_yield"] is None
    assert [{**row, "rejected_by_hand": 0} for row in (rows[0], rows[2])] == before
    assert "rejected_by_hand" in render(yield_report(url_of(file)), "table")


def test_the_documentation_prints_the_formula() -> None:
    """`docs/records.md` states the formula that the program computes."""
    documentation = Path(__file__).parents[3] / "docs" / "records.md"
    assert " ".join(YIELD_FORMULA.split()) in " ".join(documentation.read_text(encoding="utf-8").split())


# --- what a spreadsheet and a terminal see -------------------------------------------------------------------------------

HOSTILE = "=cmd|'/C calc'!A0"


@pytest.mark.parametrize("lead", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_csv_text_never_begins_a_formula(database: Database, lot: Lot, file: Path, lead: str) -> None:
    """Text of an adapter, a person or a recipe that begins like a formula gets an apostrophe."""
    plug = replace(PLUG, programmer=replace(PLUG.programmer, product=f"{lead}1+1"))
    record(database, "job-1", lot, replace(FAILED, detail=lead + HOSTILE), plug=plug, operator=f'{lead}HYPERLINK("x")')
    (row,) = csv_rows(jobs_report(url_of(file)))
    assert row["adapter_product"] == f"'{lead}1+1"
    assert row["detail"] == f"'{lead}{HOSTILE}"
    assert row["operator"] == f'\'{lead}HYPERLINK("x")'


@given(st.text(max_size=30))
def test_no_text_cell_runs_and_none_is_lost(text: str) -> None:
    """Whatever the text, its cell does not begin a formula, and taking the apostrophe away gives the text again."""
    cell = spreadsheet_safe(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell == text or cell == "'" + text


@pytest.mark.parametrize("text", ["2.3", "2.3.1", "0262", "1440e0", "2184:0057", "1", "1-2", "1/2", "1.10", "12:30:15"])
def test_csv_text_that_looks_like_a_number_or_a_date_is_kept_as_text(text: str) -> None:
    """A hub path does not become the second of March, nor an adapter version lose its zero."""
    assert spreadsheet_safe(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["18:fe:34:dd:c1:42", "00:11:22:33:44:55", "0x00ddc142", "2025-11-22T08:02:00.123Z", "A3", "1a86:7523", ""]
)
def test_csv_text_that_a_spreadsheet_keeps_is_left_alone(text: str) -> None:
    """MAC, chip ID and time stand in CSV as they are."""
    assert spreadsheet_safe(text) == text


def test_csv_numbers_stay_numbers(database: Database, lot: Lot, file: Path) -> None:
    """Numbers are bare, text is quoted, nothing is empty, and a semicolon cannot open a cell."""
    record(database, "job-1", lot, replace(PASSED, detail='a;=1+1,"b"', duration_s=-0.5))
    report = jobs_report(url_of(file))
    header, line = render(report, "csv").splitlines()
    assert header.startswith('"job","sequence","slot","mac","chip_id"')
    assert line.startswith('"job-1",1,"A3","18:fe:34:dd:c1:42","0x00ddc142"')
    assert ',-0.5,"' in line
    assert ',633688,460800,0,"reset_line",' in line
    assert ',"a;=1+1,""b""",' in line
    (row,) = csv_rows(report)
    assert (row["flash_touched"], row["reason"], row["hub_path"]) == ("true", "", "'2.3")


def test_an_empty_report_has_its_columns(database: Database, file: Path) -> None:
    """Without jobs CSV is the header, JSON an empty list, and the yield has its row of zero boards."""
    assert render(jobs_report(url_of(file)), "csv").splitlines() == [
        ",".join(f'"{name}"' for name in jobs_report(url_of(file)).columns)
    ]
    assert json.loads(render(jobs_report(url_of(file)), "json")) == []
    assert json.loads(render(yield_report(url_of(file)), "json"))[0]["boards_attempted"] == 0


def test_the_table_shows_control_characters_as_escapes(database: Database, lot: Lot, file: Path) -> None:
    """A board cannot repaint the terminal, start a line of its own or speak in markup, and a job that runs says so."""
    lot = database.standing_lot(replace(REQUEST, product="x"))
    record(database, "job-1", lot, replace(FAILED, reason="\x1b[2J\n[red]GOOD"), plug=replace(PLUG, slot="A\x9b1"))
    record(database, "job-2", lot, None, identity=board(7))
    table = render(jobs_report(url_of(file)), "table")
    assert "\x1b" not in table
    assert "\\x1b[2J\\n[red]GOOD" in table
    assert "A\\x9b1" in table
    assert JobState.RUNNING in table
    assert "18:fe:34:dd:c1:42" in table


@given(st.text())
def test_one_field_is_one_line(text: str) -> None:
    """Whatever was said, its cell has no line break, no control and no direction character."""
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not any(character < " " or "\x7f" <= character <= "\x9f" or character == "\u202e" for character in shown)

"""The commands about serial numbers: what they print, what they put on record, and how they refuse."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from station.adapters.records import HIGH_WATER, Database
from station.cli import main
from tests.adapters.records.samples import BOARD, PASSED, T0, make_lot, record, url_of
from tests.e2e.command import Done

SAID = ("--by", "Ada", "--reason", "a new roll")
Said = Callable[..., Done]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Said:
    """The command line in this process, for the station `bench-1` and its records."""
    config = tmp_path / "station.toml"
    config.write_text(f'[station]\nid = "bench-1"\nstate_dir = "{tmp_path}"\n')
    monkeypatch.setenv("STATION_CONFIG", str(config))
    with Database.open(url_of(tmp_path / "station.db"), station_id="bench-1", now=lambda: T0) as records:
        make_lot(records)

    def run(*arguments: object) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capfd.readouterr()
        return Done(code=int(ended.value.code or 0), out=shown.out, err=shown.err)

    return run


def test_a_range_is_granted_listed_burned_and_released(say: Said, tmp_path: Path) -> None:
    """Each command says in one line what it did; the list shows what is left, and every word is on record with its name."""
    granted = say("serial", "grant", "sensors", "1000-1999", *SAID)
    assert granted.code == 0, granted.err
    assert "granted: sensors 1000-1999, by Ada; 1000 numbers of sensors are left here" in granted.out
    assert "make a backup now (station backup)" in granted.out
    assert (
        "station bench-2 has sensors 2000-2999"
        in say("serial", "grant", "sensors", "2000-2999", "--station", "bench-2", *SAID).out
    )
    assert say("serial", "burn", "sensors", "1017", *SAID).out == "1 numbers of sensors are burned, by Ada\n"
    assert say("serial", "burn", "sensors", "1900-1999", *SAID).out == "100 numbers of sensors are burned, by Ada\n"
    assert (
        say("serial", "release", "sensors", "1950-1960", *SAID).out
        == "11 numbers of sensors can be handed out, by Ada\n"
    )
    rows = json.loads(say("serial", "list", "sensors", "--format", "json").out)
    assert [(row["first"], row["station"], row["free"], row["burned"]) for row in rows] == [
        (1000, "bench-1", 910, 90),
        (2000, "bench-2", 0, 0),
    ]
    events = list(csv.DictReader(io.StringIO(say("serial", "list", "sensors", "--events", "--format", "csv").out)))
    assert [row["event"] for row in events] == ["grant", "grant", "burn", "burn", "release"]
    assert {(row["person"], row["reason"]) for row in events} == {("Ada", "a new roll")}
    assert (tmp_path / HIGH_WATER).exists()


def test_the_numbers_of_boards_are_listed_and_shown_with_the_board(say: Said, tmp_path: Path) -> None:
    """`serial list POOL --numbers` and `station board show` name number, state, and what the board was given."""
    assert say("serial", "list").out == "no numbers were granted\n"
    say("serial", "grant", "sensors", "1-9", *SAID)
    assert say("serial", "list", "sensors", "--numbers").out == "none\n"
    with Database.open(url_of(tmp_path / "station.db"), station_id="bench-1") as records:
        records.numbers.reserve_number("sensors", BOARD.mac, "job-1")
        values = (("serial", "SN0001"), ("place", "Küche"))
        record(records, "job-1", make_lot(records), replace(PASSED, values=values))
    (row,) = json.loads(say("serial", "list", "sensors", "--numbers", "--format", "json").out)
    assert (row["number"], row["state"], row["mac"]) == (1, "confirmed", BOARD.mac)
    shown = say("board", "show", BOARD.mac).out
    assert "given: serial SN0001, place Küche" in shown
    assert "sensors" in shown
    (board,) = json.loads(say("board", "show", BOARD.mac, "--json").out)
    assert board["numbers"] == [{"pool": "sensors", "number": 1, "state": "confirmed", "label": ""}]
    assert board["jobs"][0]["values"] == dict(values)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("grant", "sensors", "5-20", *SAID), 78, "overlaps 1-9, which station bench-1 has"),
        (("grant", "sensors", "20-10", *SAID), 64, "20 is greater than 10"),
        (("grant", "sensors", "ten", *SAID), 64, "is neither a number nor FIRST-LAST"),
        (("grant", "bad pool", "10", *SAID), 64, "is no name of a pool"),
        (("grant", "sensors", "10-20"), 64, "Missing option"),
        (("grant", "sensors", "10-20", "--by", " ", "--reason", "x"), 64, "it is empty"),
        (("burn", "sensors", "50", *SAID), 78, "holds no number that could be burned"),
        (("release", "sensors", "1", *SAID), 78, "holds no burned number"),
        (("list", "--numbers"), 64, "--numbers takes the name of a pool"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    say: Said, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Wrong usage is 64, what the records forbid 78; nothing is changed by either."""
    say("serial", "grant", "sensors", "1-9", *SAID)
    with sqlite3.connect(tmp_path / "station.db") as connection:
        before = connection.execute("SELECT count(*) FROM serial_event").fetchone()
    refused = say("serial", *arguments)
    assert (refused.code, refused.out) == (code, "")
    assert said in refused.err
    assert connection.execute("SELECT count(*) FROM serial_event").fetchone() == before
    connection.close()


def test_without_records_there_is_nothing_to_grant(say: Said, tmp_path: Path) -> None:
    """A person's word must not end up in a new file beside the real one."""
    nowhere = url_of(tmp_path / "nowhere.db")
    refused = say("serial", "grant", "sensors", "1-9", "--db", nowhere, *SAID)
    assert refused.code == 78
    assert not (tmp_path / "nowhere.db").exists()

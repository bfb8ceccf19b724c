"""kill -9 while a slot proves itself: nothing is proven that was not, nothing that was is lost, and quarantine holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from station.adapters.records import Database
from station.model import format_mac
from station.proving import SlotEvent, SlotWord
from tests.e2e.command import station
from tests.e2e.killed_proofs import GOLDEN_MAC, config_in
from tests.e2e.killing import run_killable
from tests.e2e.workbench import rows_of

PROOFS = "SELECT slot, finding FROM proof ORDER BY sequence"
WORDS = "SELECT event, person FROM slot_event ORDER BY sequence"
JOBS = "SELECT outcome, reason, started_at, ended_at FROM job ORDER BY sequence"


def run_station(tmp_path: Path, what: str, number: int, moment: str = "never") -> dict[str, Any] | None:
    """Plug boards in, in a process of its own; return what it saw, None where it was killed."""
    done = run_killable("killed_proofs", tmp_path, what, number, moment, timeout_s=150)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


@pytest.mark.parametrize("moment", ["after:SELF_TEST", "unproven", "between", "proven"])
def test_killed_while_a_golden_board_is_judged_its_slot_stays_what_it_was(tmp_path: Path, moment: str) -> None:
    """The slot is in quarantine. Released it is with the proof on record or not at all; until then it writes no board."""
    config = config_in(tmp_path)
    config.state_dir.mkdir(parents=True, exist_ok=True)
    with Database.open(config.database_url, station_id="test") as records:
        said = SlotEvent(id="said", slot="A1", word=SlotWord.QUARANTINE, cause="bent pin", person="Ada")
        records.proofs.say(said)
    golden = ("board", "mark", "golden", format_mac(GOLDEN_MAC), "--by", "Ada", "--reason", "shift check")
    assert station(*golden, "--db", config.database_url).code == 0
    assert run_station(tmp_path, "golden", 1, moment) is None, "the moment never came"
    proven = moment == "proven"
    assert rows_of(config, PROOFS) == ([("A1", "golden_passed")] if proven else [])
    assert rows_of(config, WORDS) == [("quarantine", "Ada"), ("release", "")][: 1 + proven]

    seen = run_station(tmp_path, "boards", 1)
    assert seen is not None
    assert seen["before"][0] == ("" if proven else "slot_quarantined")
    assert seen["shown"] == (["PASS", "PASS"] if proven else ["slot_quarantined", "PASS"])
    assert bool(seen["writes"][0]) is proven

    if not proven:
        seen = run_station(tmp_path, "golden", 1)
        assert seen is not None
        assert (seen["shown"], seen["after"]) == (["golden_passed"], ["", False])
    assert rows_of(config, WORDS) == [("quarantine", "Ada"), ("release", "")]
    assert rows_of(config, "SELECT count(*) FROM job WHERE board_mac = '5c:cf:7f:23:a7:72'") == [(0,)]


@pytest.mark.parametrize("moment", ["after:FLASH", "unrecorded", "committed"])
def test_killed_in_the_middle_of_the_first_article_there_is_none_without_its_row(tmp_path: Path, moment: str) -> None:
    """Two boards come at once. What was not on record as PASS was no first article: the next one is made alone again."""
    config = config_in(tmp_path)
    assert run_station(tmp_path, "boards", 1, moment) is None, "the moment never came"
    left = rows_of(config, JOBS)
    passed = moment == "committed"
    assert [row[0] for row in left] == ["PASS" if passed else None]

    seen = run_station(tmp_path, "boards", 3)
    assert seen is not None
    assert seen["before"] == ["", not passed]
    assert (seen["shown"], seen["after"]) == (["PASS", "PASS"], ["", False])
    killed, first, second = rows_of(config, JOBS)
    assert killed[:2] == (("PASS", "") if passed else ("ABORTED", "station_restarted"))
    assert (first[0], second[0]) == ("PASS", "PASS")
    assert passed or second[2] >= first[3], "two boards were made before one had passed"

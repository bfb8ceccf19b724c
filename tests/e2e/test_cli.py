"""The command line as other tools call it: what is printed where, the shape of the JSON, exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from station.adapters.records import head
from station.bench.faults import FAULT_TOKENS
from station.demo import write_demo_recipe
from station.model import Light, Phase
from station.terminal import bench_table, jobs_table
from station.views import SlotView, StationView
from tests.e2e.command import (
    DEMO,
    PATIENCE_S,
    STATION,
    Done,
    Running,
    get,
    one_line,
    started,
    station,
    wait_for,
    write_config,
)

OUTCOMES = {"PASS", "FAIL", "ERROR", "ABORTED"}
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
CHIP_ID = re.compile(r"0x00[0-9a-f]{6}")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, str]:
    """Five boards in two slots, one of which fails and one of whose programmers hangs; and the URL of their records."""
    url = f"sqlite:///{tmp_path_factory.mktemp('recorded') / 'station.db'}"
    faults = ("--fault", "A1:small_flash", "--fault", "A2:adapter_hung")
    return station(*DEMO, "--boards", 5, "--slots", 2, "--seed", 11, "--db", url, *faults), url


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good recipe with its image beside it."""
    return write_demo_recipe(tmp_path_factory.mktemp("recipe"))[0]


def check_job(job: dict[str, Any]) -> None:
    """Hold one job against the documented shape."""
    assert {"job", "slot", "mac", "chip_id", "outcome", "reason", "phases", "measurements"} <= job.keys()
    assert MAC.fullmatch(job["mac"])
    assert CHIP_ID.fullmatch(job["chip_id"])
    assert job["chip_id"][4:] == job["mac"].replace(":", "")[6:]
    assert job["outcome"] in OUTCOMES or (job["outcome"] is None and job["state"] in ("running", "pending"))
    assert (job["reason"] is None) == (job["outcome"] == "PASS")
    for phase in job["phases"]:
        assert set(phase) == {"phase", "outcome", "duration_s"}
        assert phase["phase"] in list(Phase)
        assert phase["outcome"] in {*OUTCOMES, "SKIPPED"}
        assert phase["duration_s"] >= 0
    for measurement in job["measurements"]:
        assert set(measurement) == {"name", "value", "unit", "low", "high", "within"}
        assert isinstance(measurement["within"], bool)


def test_demo_prints_one_json_object_and_nothing_else(recorded: tuple[Done, str]) -> None:
    """Standard output is one JSON object of the documented shape, everything else is on standard error, exit 0."""
    done, _ = recorded
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    result = done.json
    assert set(result) == {"jobs", "visits", "expected"}
    assert result["expected"] is True
    for job in result["jobs"]:
        check_job(job)
    for visit in result["visits"]:
        assert {"visit", "slot", "finding", "detail", "jobs"} == visit.keys()
    assert {job["job"] for job in result["jobs"]} == {job for visit in result["visits"] for job in visit["jobs"]}
    assert re.search(r"^A1 .* BUSY FLASH", done.err, flags=re.MULTILINE)


def test_boards_go_round_the_slots_and_faults_strike_the_first(recorded: tuple[Done, str]) -> None:
    """Five boards in two slots are five visits; the faults are those of the first board of each slot only."""
    result = recorded[0].json
    by_slot = {slot: [visit for visit in result["visits"] if visit["slot"] == slot] for slot in ("A1", "A2")}
    assert {slot: len(visits) for slot, visits in by_slot.items()} == {"A1": 3, "A2": 2}
    assert [visit["finding"] for visit in by_slot["A2"]] == ["adapter_hung", None]
    ends = [(job["outcome"], job["reason"]) for job in result["jobs"] if job["slot"] == "A1"]
    assert ends == [("FAIL", "flash_too_small"), ("PASS", None), ("PASS", None)]


def test_a_pass_has_every_phase_and_its_measurements(recorded: tuple[Done, str]) -> None:
    """A PASS shows all six phases in order, PROVISION skipped, and the values it rests on."""
    job = next(job for job in recorded[0].json["jobs"] if job["outcome"] == "PASS")
    shown = {phase["phase"]: phase["outcome"] for phase in job["phases"]}
    assert shown == {phase.value: "SKIPPED" if phase is Phase.PROVISION else "PASS" for phase in Phase}
    measured = {measurement["name"]: measurement for measurement in job["measurements"]}
    assert measured["mac"]["value"] == job["mac"]
    assert re.fullmatch(r"[0-9a-f]{32}", measured["flash_md5"]["value"])
    assert measured["cpu_frequency"]["unit"] == "Hz"


def test_the_table_of_jobs_and_the_addresses_are_on_standard_error(recorded: tuple[Done, str]) -> None:
    """At the end a person reads the table of jobs, what had no job, and where page and metrics were."""
    said = recorded[0].err
    assert "on record" in said
    assert "flash_too_small" in said
    assert "adapter_hung" in said
    assert re.search(r"page .*http://127\.0\.0\.1:[1-9][0-9]*/ .*http://127\.0\.0\.1:[1-9][0-9]*/metrics\n", said)
    assert "Every one of 5 boards ended as the scenario says it must." in said


def test_what_is_not_as_expected_exits_1_and_the_seed_fixes_the_macs(tmp_path: Path) -> None:
    """A MAC that the records know with another flash chip is an ERROR the scenario did not plan: expected false, exit 1."""
    url = f"sqlite:///{tmp_path / 'station.db'}"
    before = station(*DEMO, "--slots", 1, "--seed", 3, "--db", url, "--fault", "A1:puya")
    assert before.code == 0, before.err
    done = station(*DEMO, "--slots", 1, "--seed", 3, "--db", url)
    assert done.code == 1
    (known,), (job,) = before.json["jobs"], done.json["jobs"]
    assert job["mac"] == known["mac"]
    assert (job["outcome"], job["reason"]) == ("ERROR", "mac_reused")
    assert done.json["expected"] is False
    assert "NOT AS EXPECTED: A1" in done.err


def test_demo_judges_its_own_boards_only(recorded: tuple[Done, str], tmp_path: Path) -> None:
    """A second run on the same records prints its own jobs, is judged by them alone, and both runs stay on record."""
    copy = tmp_path / "station.db"
    with sqlite3.connect(recorded[1].removeprefix("sqlite:///")) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    done = station(*DEMO, "--slots", 1, "--seed", 12, "--db", f"sqlite:///{copy}")
    assert done.code == 0, done.err
    assert len(done.json["jobs"]) == len(done.json["visits"]) == 1
    earlier = {job["job"] for job in recorded[0].json["jobs"]}
    reported = {row["job"] for row in station("report", "jobs", "--format", "json", "--db", f"sqlite:///{copy}").json}
    assert reported == earlier | {job["job"] for job in done.json["jobs"]}


def test_without_once_the_demo_serves_until_sigterm(tmp_path: Path) -> None:
    """The page stays up when all boards are done; SIGTERM prints the table and ends with 0."""
    with started(tmp_path, "demo", "--slots", 1, "--port", 0, "--pace", 0) as demo:
        address = demo.address()
        demo.says("All boards are done")
        status, view = get(address, "/api/slots")
        assert (status, [slot["light"] for slot in view["slots"]]) == (200, ["PASS"])
        assert get(address, "/readyz")[0] == get(address, "/healthz")[0] == 200
        assert [job["outcome"] for job in get(address, "/api/jobs")[1]["jobs"]] == ["PASS"]
        assert "on record" not in demo.err
        done = demo.end()
    assert done.code == 0, done.err
    assert done.out == ""
    assert "on record" in done.err
    assert f"http://{address}/metrics" in done.err


def test_a_demo_stopped_in_the_middle_is_not_as_expected(tmp_path: Path) -> None:
    """SIGINT while boards are being made ends the demo in order: the job is on record as ABORTED, exit 1."""
    arguments = ("demo", "--once", "--json", "--slots", 1, "--port", 0, "--pace", 1)
    with started(tmp_path, *arguments) as demo:
        demo.says("A1 .* FLASH")
        done = demo.end(signal.SIGINT)
    assert done.code == 1, done.err
    assert [(job["outcome"], job["reason"]) for job in done.json["jobs"]] == [("ABORTED", "station_stopped")]


# --- the daemon behind `station run` -------------------------------------------------------------------------------


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[tuple[Running, Path]]:
    """The real daemon without a recipe, and its configuration."""
    config = write_config(tmp_path, '[slots]\nA1 = "pci-0:1"\n')
    with started(tmp_path / "log", "run", "--config", config) as daemon:
        yield daemon, config


def test_without_a_recipe_the_daemon_runs_idle_and_says_what_to_do(idle: tuple[Running, Path]) -> None:
    """`run` without a recipe serves its page, is alive, is not ready (503), names the key to set, and ends with 0."""
    daemon, _ = idle
    address = daemon.address()
    assert get(address, "/healthz")[0] == 200
    status, readiness = get(address, "/readyz")
    assert (status, readiness["ready"], readiness["recipe_loaded"]) == (503, False, False)
    assert any("work.recipe" in notice for notice in readiness["notices"])
    assert [slot["slot"] for slot in get(address, "/api/slots")[1]["slots"]] == ["A1"]
    done = daemon.end()
    assert (done.code, done.out) == (0, "")


def test_a_daemon_that_the_watchdog_kills_says_where_its_threads_stood(idle: tuple[Running, Path]) -> None:
    """The watchdog of systemd sends SIGABRT: the log then names what the main thread was at, and the process is dead."""
    daemon, _ = idle
    daemon.address()
    done = daemon.end(signal.SIGABRT)
    assert done.code == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in done.err
    assert re.search(r'Current thread .*\n(  File .*\n)*  File "[^"]*/station/cli/make.py"', done.err)


def test_a_second_daemon_on_the_state_directory_is_refused(idle: tuple[Running, Path]) -> None:
    """The second `run` on one state directory names the first one's PID and ends with 78; the first goes on."""
    daemon, config = idle
    address = daemon.address()
    said = one_line(station("run", "--config", config).refused(78))
    assert str(daemon.process.pid) in said
    assert get(address, "/healthz")[0] == 200


def await_lot_state(address: str, state: str) -> None:
    """Wait until the page says so of the lot."""
    wait_for(lambda: get(address, "/api/slots")[1]["lot_state"] == state, f"the page to say {state!r} of the lot")


def test_a_lot_is_opened_paused_and_closed_under_a_running_daemon(tmp_path: Path, recipe: Path) -> None:
    """With work.require_lot the page says NO WORK ORDER until `lot open`; pause and close reach the daemon by themselves."""
    config = write_config(tmp_path, recipe=recipe, require_lot=True)
    with started(tmp_path / "log", "run", "--config", config) as daemon:
        address = daemon.address()
        assert any("NO WORK ORDER" in notice for notice in get(address, "/api/slots")[1]["notices"])
        for word, state in (("open", "open"), ("pause", "paused"), ("open", "open")):
            done = station("lot", word, "--config", config, "--by", "Eva")
            assert done.code == 0, done.err
            assert f"is {state}" in done.out
            await_lot_state(address, state)
        assert not any("NO WORK ORDER" in notice for notice in get(address, "/api/slots")[1]["notices"])
        assert get(address, "/api/slots")[1]["lot_person"] == "Eva"
        assert daemon.end().code == 0
    with started(tmp_path / "log", "run", "--config", config) as daemon:
        address = daemon.address()
        await_lot_state(address, "paused")
        assert station("lot", "close", "--config", config, "--by", "Eva").code == 0
        await_lot_state(address, "")
        assert "no lot is open or paused" in one_line(
            station("lot", "pause", "--config", config, "--by", "Eva").refused(78)
        )
        assert daemon.end().code == 0


# --- reports, schema, recipes, configuration, slots ----------------------------------------------------------------


def test_reports_come_as_table_json_and_csv(recorded: tuple[Done, str]) -> None:
    """`report jobs` gives the same jobs as table, JSON and CSV; chip IDs and MACs stay text."""
    done, url = recorded
    jobs = {job["job"]: job for job in done.json["jobs"]}
    as_json = station("report", "jobs", "--format", "json", "--db", url).json
    assert {row["job"] for row in as_json} == set(jobs)
    as_csv = list(csv.DictReader(io.StringIO(station("report", "jobs", "--format", "csv", "--db", url).out)))
    assert {row["job"]: (row["mac"], row["chip_id"], row["outcome"]) for row in as_csv} == {
        job: (row["mac"], row["chip_id"], row["outcome"]) for job, row in jobs.items()
    }
    table = station("report", "jobs", "--db", url).out
    assert all(job["mac"] in table for job in jobs.values())
    assert len(station("report", "jobs", "--limit", 1, "--format", "json", "--db", url).json) == 1


@pytest.mark.parametrize("key", ["mac", "chip_id"])
def test_a_board_is_found_by_mac_and_by_chip_id(recorded: tuple[Done, str], key: str) -> None:
    """`report board` finds the whole life of a board under either of its names."""
    done, url = recorded
    job = next(job for job in done.json["jobs"] if job["outcome"] == "PASS")
    found = station("report", "board", job[key], "--format", "json", "--db", url).json
    assert [row["job"] for row in found] == [job["job"]]
    assert [phase["phase"] for phase in found[0]["phases"]] == [phase["phase"] for phase in job["phases"]]


def test_a_board_key_that_is_none_is_wrong_usage(recorded: tuple[Done, str]) -> None:
    """`report board` refuses what is neither a MAC nor a chip ID with 64."""
    assert "neither a MAC nor a chip ID" in station("report", "board", "xyz", "--db", recorded[1]).refused(64)


def test_the_yield_counts_boards_and_prints_its_formula(recorded: tuple[Done, str]) -> None:
    """`report yield`: a board that was refused before the first byte is no attempt; the formula stands under the table."""
    url = recorded[1]
    last = station("report", "yield", "--format", "json", "--db", url).json[-1]
    assert (last["boards_attempted"], last["passed_first"], last["first_pass_yield"]) == (3, 3, 1.0)
    assert "first pass yield =" in station("report", "yield", "--db", url).out


def test_db_upgrade_makes_what_db_check_accepts(tmp_path: Path) -> None:
    """`db check` says what is wrong and ends with 1, `db upgrade` makes the schema, and then `db check` ends with 0."""
    url = f"sqlite:///{tmp_path / 'station.db'}"
    missing = station("db", "check", "--db", url)
    assert (missing.code, "no such database" in missing.out) == (1, True)
    made = station("db", "upgrade", "--db", url)
    assert (made.code, made.out) == (0, f"{head()}\n")
    assert station("db", "check", "--db", url).code == 0
    (tmp_path / "station.db").write_text("junk")
    assert station("db", "check", "--db", url).code == 1
    assert "report" not in station("report", "jobs", "--db", url).refused(69)


def test_recipe_new_makes_what_recipe_check_accepts(recipe: Path, tmp_path: Path) -> None:
    """`recipe new` writes a minimal recipe, never over a file that is there, and `recipe check` shows what it will make."""
    image = next(recipe.parent.glob("*.bin"))
    out = tmp_path / "esp01s.toml"
    made = station("recipe", "new", "--image", image, out)
    assert (made.code, made.err) == (0, "")
    assert made.out == out.read_text()
    checked = station("recipe", "check", out)
    assert checked.code == 0
    assert "esp01s" in checked.out
    assert "MicroPython 1.27.0" in checked.out
    assert "exists already" in one_line(station("recipe", "new", "--image", image, out).refused(78))
    assert out.read_text() == made.out
    assert str(tmp_path / "no") in one_line(
        station("recipe", "new", "--image", image, tmp_path / "no" / "r.toml").refused(78)
    )
    assert "ESP8266" in one_line(station("recipe", "new", "--image", __file__, tmp_path / "r.toml").refused(78))


def test_config_show_prints_every_key_with_its_default(tmp_path: Path, recipe: Path) -> None:
    """`config show` is JSON of the whole configuration; a relative recipe is meant from the file's place."""
    shown = station("config", "show").json
    assert shown["flashing"]["baud_ladder"] == [460800, 230400, 115200]
    config = tmp_path / "station.toml"
    config.write_text('[work]\nrecipe = "r.toml"\n')
    assert station("config", "show", config).json["work"]["recipe"] == str(tmp_path / "r.toml")
    assert station("config", "show", "--config", config).out == station("config", "show", config).out
    good = write_config(tmp_path, recipe=recipe)
    assert "is good" in station("config", "check", "--config", good).out


def test_slots_list_shows_the_map_with_the_configuration_on_top(tmp_path: Path) -> None:
    """`slots list` shows taught and configured slots, the configuration winning, as text and as JSON."""
    config = write_config(tmp_path, '[slots]\nB1 = "pci-0:1"\n')
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "slots.json").write_text(json.dumps({"A1": "pci-0:1", "A2": "pci-0:2"}))
    listed = station("slots", "list", "--config", config, "--json").json
    assert {row["slot"]: row["place"] for row in listed if row["slot"]} == {"A2": "pci-0:2", "B1": "pci-0:1"}
    text = station("slots", "list", "--config", config).out
    assert re.search(r"^A2 .*pci-0:2 +empty$", text, flags=re.MULTILINE)


def test_what_a_board_said_is_never_interpreted_by_the_terminal() -> None:
    """Control sequences and the console's own markup in a detail are shown as text, and cannot break the table."""
    hostile = "\x1b[31m\x07[bold]x[/nothing]\r\n\u202e"
    job: dict[str, object] = {
        "slot": "A1",
        "mac": None,
        "chip_id": None,
        "outcome": "FAIL",
        "reason": "r",
        "detail": hostile,
        "phases": [],
    }
    stranger = SlotView(
        slot="[red]1.1", place="p", known=False, light=Light.FAIL, headline="BAD", words=hostile, deed="unplug"
    )
    view = StationView(
        station_id="bench",
        product="[link=http://x]product[/link]",
        recipe_version="1",
        recipe_hash="deadbeef",
        lot_state="",
        lot_person="",
        notices=(),
        slots=(stranger,),
        pending=(),
        pending_count=0,
        rejected_count=0,
        ready=True,
        udev_heard=True,
        database_writable=True,
        recipe_loaded=True,
    )
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, color_system=None, width=200)
    console.print(jobs_table([job], [{"slot": "A2", "finding": "f", "detail": hostile}]), bench_table(view))
    text = shown.getvalue()
    assert text.count(r"\x1b[31m\x07[bold]x[/nothing]\r\n\u202e") == 3
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[link=http://x]product[/link] 1 [deadbeef]" in text
    assert "[red]1.1" in text


@pytest.mark.parametrize("command", ["demo", "bench"])
def test_help_lists_every_fault_token(command: str) -> None:
    """`--help` of the two commands that take faults names every token of the closed list, one per line."""
    said = station(command, "--help", env={"COLUMNS": "110"})
    assert said.code == 0
    assert {line.split()[0] for line in said.out.splitlines() if line.strip()} >= set(FAULT_TOKENS)


def test_a_reader_who_has_read_enough_ends_a_report_quietly(recorded: tuple[Done, str]) -> None:
    """`report | head` leaves no traceback behind."""
    line = f"{STATION} report jobs --format json --db {recorded[1]} | {sys.executable} -c pass"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stderr == ""

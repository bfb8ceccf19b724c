"""`station flash` on the ttys of `station bench`: one board by hand, its record, its JSON, its exit code."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from station.demo import write_demo_recipe
from station.recipe import Recipe, image_for_flash, load_recipe
from tests.e2e.command import Done, Running, started, station, wait_for

FLASH_BYTES = 1 << 20
SLOTS = 14
FAULTS = ("A5:small_flash", "A6:flash_unknown", "A7:unplug@40", "A8:hang@40", "B1:hang@40", "B2:no_boot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """A technician's place: virtual boards, a recipe, records."""

    bench: Running
    ports: Path
    recipe: Path
    url: str

    def flash(self, label: str, *options: object, port: Path | None = None) -> Done:
        """Flash the board in this slot, on record."""
        return station("flash", "--json", *self.arguments(label, *options, port=port))

    def arguments(self, label: str, *options: object, port: Path | None = None) -> tuple[object, ...]:
        """The arguments for the board in this slot."""
        return ("--port", port or self.ports / label, "--recipe", self.recipe, "--db", self.url, *options)

    def rows(self, mac: str) -> list[dict[str, Any]]:
        """What is on record of a board, oldest first."""
        return list(station("report", "board", mac, "--format", "json", "--db", self.url).json)

    def flash_of(self, label: str) -> bytes:
        """What is in the flash of the board in this slot now."""
        (self.ports / "stats.json").unlink(missing_ok=True)
        self.bench.process.send_signal(signal.SIGUSR1)
        wait_for((self.ports / "stats.json").exists, "the bench to write what is in its flashes", self.bench)
        return (self.ports / f"{label}.flash").read_bytes()


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    """One bench for all tests here; each test has boards of its own."""
    directory = tmp_path_factory.mktemp("hand")
    ports = directory / "ports"
    faults = [word for fault in FAULTS for word in ("--fault", fault)]
    with started(directory, "bench", "--slots", SLOTS, "--dir", ports, "--pace", 0, *faults) as bench:
        wait_for((ports / "B6").is_symlink, "the last tty", bench)
        recipe = write_demo_recipe(directory / "recipe")[0]
        yield Hand(bench=bench, ports=ports, recipe=recipe, url=f"sqlite:///{directory / 'station.db'}")
        assert bench.end().code == 0


@pytest.fixture(scope="module")
def verified(hand: Hand) -> Recipe:
    """The recipe with its image."""
    return load_recipe(hand.recipe)


def the_job(done: Done) -> dict[str, Any]:
    """The one job that was printed."""
    (job,) = done.json["jobs"]
    (visit,) = done.json["visits"]
    assert visit["jobs"] == [job["job"]]
    assert job["visit"] == visit["visit"]
    assert job["slot"] == visit["slot"] == "hand"
    assert isinstance(job, dict)
    return job


def test_a_board_passes_and_holds_what_was_flashed(hand: Hand, verified: Recipe) -> None:
    """PASS, exit 0, one JSON object, the same job on record, and the image with its header for this flash in the chip."""
    done = hand.flash("A1")
    assert done.code == 0, done.err
    assert set(done.json) == {"jobs", "visits"}
    job = the_job(done)
    assert (job["outcome"], job["reason"]) == ("PASS", None)
    assert [phase["phase"] for phase in job["phases"]][:3] == ["CONNECT", "FLASH", "VERIFY"]
    assert done.err.splitlines()[-1] == "PASS"
    (row,) = hand.rows(job["mac"])
    assert (row["job"], row["outcome"], row["boot_evidence"]) == (job["job"], "PASS", "soft")
    assert row["measurements"] == job["measurements"]
    image = image_for_flash(verified, FLASH_BYTES)
    assert hand.flash_of("A1")[: len(image)] == image


def test_a_board_that_runs_its_firmware_wants_a_hand(hand: Hand) -> None:
    """A board that starts its firmware instead of the loader is a finding, no job: exit 3, and the words say what to do."""
    assert hand.flash("A4", "--until", "flash").code == 0
    done = hand.flash("A4")
    assert done.code == 3
    assert done.json["jobs"] == []
    assert [visit["finding"] for visit in done.json["visits"]] == ["not_in_download_mode"]
    assert "GPIO0 to GND" in done.err


def test_the_configuration_says_what_programmers_are_and_where_records_go(hand: Hand, tmp_path: Path) -> None:
    """With --config the properties of the programmer, the operator and the place of the records are those of the file."""
    config = tmp_path / "station.toml"
    config.write_text(
        f'[station]\nid = "bench 7"\noperator = "Eva"\nstate_dir = "{tmp_path / "state"}"\n'
        '[slot_defaults]\nreset = "none"\ngpio0 = "hand"\n'
    )
    done = station("flash", "--json", "--port", hand.ports / "A2", "--recipe", hand.recipe, "--config", config)
    assert done.code == 0, done.err
    url = f"sqlite:///{tmp_path / 'state' / 'station.db'}"
    (row,) = station("report", "jobs", "--format", "json", "--db", url).json
    assert (row["station"], row["operator"], row["outcome"]) == ("bench 7", "Eva", "PASS")
    assert (row["job"], row["slot"]) == (the_job(done)["job"], "hand")


def test_said_by_hand_what_the_programmer_is_the_board_passes_in_one_plug(hand: Hand) -> None:
    """`--reset none --gpio0 hand`: the firmware is started by software, GPIO0 still at GND, which the record says."""
    done = hand.flash("B5", "--reset", "none", "--gpio0", "hand")
    assert done.code == 0, done.err
    assert hand.rows(the_job(done)["mac"])[0]["boot_evidence"] == "soft"


def test_what_makes_no_sense_is_refused_before_the_port_is_opened(hand: Hand) -> None:
    """A line for GPIO0 without one for EN is wrong usage, with the reason and what to write."""
    said = hand.flash("B5", "--reset", "none", "--gpio0", "lines").refused(64)
    assert "nothing here restarts it" in said


def test_a_board_that_is_done_is_made_again_only_when_asked(hand: Hand, tmp_path: Path) -> None:
    """The second time it is already done, which is a success and no job; `--again` makes it once more, as attempt 2."""
    ports = tmp_path / "ports"
    with started(tmp_path, "bench", "--slots", 1, "--dir", ports, "--pace", 0, "--boot", "rom", "--seed", 2) as bench:
        wait_for((ports / "A1").is_symlink, "the tty", bench)
        soldered = ("--reset", "none", "--gpio0", "always_low")
        first = the_job(hand.flash("A1", *soldered, port=ports / "A1"))
        assert (first["outcome"], first["attempt"]) == ("PASS", 1)
        done = hand.flash("A1", *soldered, port=ports / "A1")
        assert (done.code, done.json["jobs"]) == (0, []), done.err
        assert [visit["finding"] for visit in done.json["visits"]] == ["already_done"]
        again = the_job(hand.flash("A1", *soldered, "--again", port=ports / "A1"))
        assert (again["outcome"], again["attempt"], again["mac"]) == ("PASS", 2, first["mac"])
        assert bench.end().code == 0


def test_until_stops_after_each_phase_and_never_passes(hand: Hand, verified: Recipe) -> None:
    """`--until` ends with 0 after the asked phase, reason stopped_by_request, never PASS; the flash holds that much."""
    done = hand.flash("A3", "--until", "connect")
    assert done.code == 0, done.err
    job = the_job(done)
    assert (job["outcome"], job["reason"]) == ("ABORTED", "stopped_by_request")
    assert [phase["phase"] for phase in job["phases"]] == ["CONNECT"]
    assert hand.flash_of("A3") == b"\xff" * FLASH_BYTES
    done = hand.flash("A3", "--until", "VERIFY")
    assert done.code == 0, done.err
    job = the_job(done)
    assert (job["state"], job["outcome"], job["reason"]) == ("pending", None, "stopped_by_request")
    assert [phase["phase"] for phase in job["phases"]] == ["CONNECT", "FLASH", "VERIFY"]
    image = image_for_flash(verified, FLASH_BYTES)
    assert hand.flash_of("A3")[: len(image)] == image
    assert [row["outcome"] for row in hand.rows(job["mac"])] == ["ABORTED", None]


@pytest.mark.parametrize(
    ("label", "code", "outcome", "reason"),
    [
        ("A5", 1, "FAIL", "flash_too_small"),
        ("A6", 2, "ERROR", "flash_unknown"),
        ("A7", 3, "ABORTED", "unplugged"),
    ],
)
def test_the_exit_code_tells_whose_fault_it_was(hand: Hand, label: str, code: int, outcome: str, reason: str) -> None:
    """1 is FAIL, 2 ERROR, 3 ABORTED, each with its row."""
    done = hand.flash(label)
    assert done.code == code, done.err
    job = the_job(done)
    assert (job["outcome"], job["reason"]) == (outcome, reason)
    assert [row["reason"] for row in hand.rows(job["mac"])] == [reason]


def test_a_port_that_was_pulled_is_no_port(hand: Hand) -> None:
    """After the programmer was pulled its link is gone, before its tty can be anybody else's: wrong usage, said at once."""
    if (hand.ports / "A7").is_symlink():
        hand.flash("A7")
    assert not (hand.ports / "A7").is_symlink()
    assert "No such file" in hand.flash("A7").refused(64)


@pytest.mark.parametrize(("label", "number"), [("A8", signal.SIGINT), ("B1", signal.SIGTERM)])
def test_a_signal_aborts_the_flash_and_leaves_a_record(hand: Hand, tmp_path: Path, label: str, number: int) -> None:
    """SIGINT and SIGTERM in mid-write: ABORTED station_stopped on record, exit 3, and the port is free again."""
    with started(tmp_path, "flash", "--json", *hand.arguments(label)) as running:
        running.says("FLASH")
        time.sleep(0.3)
        done = running.end(number)
    assert done.code == 3, done.err
    job = the_job(done)
    assert (job["outcome"], job["reason"]) == ("ABORTED", "station_stopped")
    assert [row["reason"] for row in hand.rows(job["mac"])] == ["station_stopped"]


def test_no_record_leaves_no_database(hand: Hand, tmp_path: Path) -> None:
    """`--no-record` prints the job and leaves no file anywhere; a link to a link to a tty is a port."""
    port, state = tmp_path / "port", tmp_path / "state"
    port.symlink_to(hand.ports / "B3")
    arguments = ("--json", "--port", port, "--recipe", hand.recipe, "--reset", "none", "--no-record")
    done = station("flash", *arguments, env={"XDG_STATE_HOME": str(state)})
    assert done.code == 0, done.err
    assert the_job(done)["outcome"] == "PASS"
    assert not state.exists()
    assert hand.rows(the_job(done)["mac"]) == []


def test_the_asked_rate_is_the_one_used(hand: Hand) -> None:
    """`--baud` is the first rung of the ladder, and the record says which rate was used."""
    done = hand.flash("B4", "--baud", 230400, "--until", "flash")
    assert done.code == 0, done.err
    (row,) = hand.rows(the_job(done)["mac"])
    assert (row["baud_used"], row["baud_fallbacks"]) == (230400, 0)


def test_a_result_that_the_records_refuse_is_offered_again(hand: Hand, tmp_path: Path) -> None:
    """A database that is locked when the job ends: no verdict until the row is written, then exit 0 and PASS."""
    with started(tmp_path, "flash", "--json", *hand.arguments("B6")) as running:
        running.says("SELF_TEST")
        with sqlite3.connect(hand.url.removeprefix("sqlite:///"), timeout=10, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(8)
            assert running.process.poll() is None
            assert "PASS" not in running.err
            other.execute("ROLLBACK")
        other.close()
        done = running.ended()
    assert done.code == 0, done.err
    assert [row["outcome"] for row in hand.rows(the_job(done)["mac"])] == ["PASS"]


def test_records_that_cannot_be_used_end_it_before_the_board_is_touched(hand: Hand, tmp_path: Path) -> None:
    """With a damaged database nothing is opened: exit 2, a clear line, no traceback."""
    junk = tmp_path / "junk.db"
    junk.write_text("junk")
    arguments = ("--port", hand.ports / "B2", "--recipe", hand.recipe, "--db", f"sqlite:///{junk}")
    assert "records cannot be used" in station("flash", "--json", *arguments).refused(2)
    assert hand.flash_of("B2") == b"\xff" * FLASH_BYTES


def test_an_inspection_tells_who_the_board_is_each_time_and_copies_its_flash(tmp_path: Path) -> None:
    """`station inspect` twice and once with --dump on a stick without reset lines: the same board, no job, its whole flash."""
    url = f"sqlite:///{tmp_path / 'station.db'}"
    arguments = ("--slots", "1", "--pace", "0", "--wiring", "manual", "--keep-power", "--dir", str(tmp_path / "ports"))
    with started(tmp_path, "bench", *arguments) as bench:
        wait_for((tmp_path / "ports" / "A1").is_symlink, "the tty", bench)
        port, dump = str(tmp_path / "ports" / "A1"), tmp_path / "flash.bin"
        seen = [station("inspect", port, "--db", url, "--json") for _ in range(2)]
        seen.append(station("inspect", port, "--db", url, "--json", "--dump", str(dump)))
        again = station("inspect", port, "--db", url, "--dump", str(dump))
    assert [done.code for done in seen] == [0, 0, 0]
    assert [done.json["jobs"] for done in seen] == [[], [], []]
    details = [done.json["visits"][0]["detail"] for done in seen]
    assert {done.json["visits"][0]["finding"] for done in seen} == {"inspected"}
    assert len(set(details)) == 1
    assert "in its loader" in details[0]
    assert dump.read_bytes() == b"\xff" * FLASH_BYTES
    assert again.code == 64  # nothing is overwritten

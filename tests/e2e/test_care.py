"""`station doctor` as a command and in the running station, and `station support` with secrets planted everywhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from station.adapters.records import Database
from station.adapters.records.looking import last_failed_transcripts, last_jobs
from station.config import load_config
from station.doctor import CHECKS
from station.doctor.rounds import WORDS
from station.views import Diagnosis, Level
from tests.adapters.records.samples import FAILED, PASSED, board, make_lot, record
from tests.e2e.command import get, one_line, started, station, write_config
from tests.e2e.workbench import a_board, at_work, config_for

PROBLEM = Diagnosis(check="brltty", level=Level.PROBLEM, said="takes the programmers", fix="apt-get remove brltty")
WARNING = Diagnosis(check="clock", level=Level.WARNING, said="is not synchronised", fix="timedatectl set-ntp true")
WELL = Diagnosis(check="udev", level=Level.OK, said="udev runs")
SECRETS = ("correct-horse", "battery-staple", "p%40ssw0rd", "p@ssw0rd", "tok-4711", "journal-secret", "board-secret")


# --- the command ---------------------------------------------------------------------------------------------------


def test_json_is_a_list_with_every_check_and_the_exit_code_counts_problems(tmp_path: Path) -> None:
    """One JSON list and nothing else; 1 if and only if there is a problem; nothing was made in the state directory."""
    done = station("doctor", "--config", write_config(tmp_path), "--json")
    assert {each["check"] for each in done.json} == set(CHECKS)
    assert all(set(each) == {"check", "level", "said", "fix"} for each in done.json)
    assert done.code == any(each["level"] == "problem" for each in done.json)
    assert not (tmp_path / "state").exists()


def test_the_text_has_the_worst_last_and_a_summary(tmp_path: Path) -> None:
    """Lines stand under one another, fixes below what they mend; a recipe that is not there is a problem, so 1."""
    done = station("doctor", "--config", write_config(tmp_path, recipe=tmp_path / "none.toml"))
    assert (done.code, done.err) == (1, "")
    *lines, summary = done.out.splitlines()
    levels = [found[1] for line in lines if (found := re.match(r"(ok|warning|problem) ", line))]
    assert levels == sorted(levels, key=["ok", "warning", "problem"].index)
    assert len({re.match(r"\w+ +\w+ +", line).end() for line in lines if line[0] != " "}) == 1  # type: ignore[union-attr]
    # A path is never broken: it stands alone on its line then, behind no more than level and check.
    assert [line for line in lines if len(line) > 110 and len(line.split()) > 3] == []
    counts = {level: levels.count(level) for level in ("problem", "warning", "ok")}
    said = re.fullmatch(r"(\d+) problems?, (\d+) warnings?, (\d+) ok", summary)
    assert said is not None
    assert [int(each) for each in said.groups()] == list(counts.values())
    assert re.search(r"problem recipe \S*none\.toml", " ".join(done.out.split()))


def test_a_configuration_that_is_wrong_is_one_finding_among_others(tmp_path: Path) -> None:
    """The mistake and its fix stand in the list, and the machine is looked at all the same."""
    config = tmp_path / "station.toml"
    config.write_text('[usb]\nids = ["x"]\n')
    done = station("doctor", "--config", config, "--json", env={"XDG_STATE_HOME": str(tmp_path)})
    assert done.code == 1
    (mistake,) = (each for each in done.json if each["check"] == "configuration")
    assert (mistake["level"], "usb.ids" in mistake["said"], mistake["fix"][:5]) == ("problem", True, "write")
    assert {each["check"] for each in done.json} == set(CHECKS)


# --- in the running station ----------------------------------------------------------------------------------------


def test_a_doctor_that_takes_long_delays_neither_readiness_nor_a_board(tmp_path: Path) -> None:
    """The station is up, and a board is made, while the first examination is still at work; then its findings show."""
    at_it, go_on = threading.Event(), threading.Event()

    def examine() -> tuple[Diagnosis, ...]:
        at_it.set()
        assert go_on.wait(90)
        return (WELL, WARNING, PROBLEM)

    async def main() -> None:
        async with at_work(config_for(tmp_path, None), examine=examine) as work:
            await work.until(at_it.is_set)
            await work.plug("A1", a_board())
            await work.until(lambda: work.view().headline == "NO RECIPE")
            view = (await work.get("/api/slots"))[1]
            assert (view["diagnoses"], any("brltty" in notice for notice in view["notices"])) == ([], False)
            go_on.set()
            await work.until(lambda: bool(work.floor.view().diagnoses))
            view = (await work.get("/api/slots"))[1]
            assert [each["check"] for each in view["diagnoses"]] == ["brltty", "clock"]
            assert "brltty: takes the programmers: apt-get remove brltty" in view["notices"]
            assert not any("synchronised" in notice for notice in view["notices"])
            _, metrics = await work.get("/metrics")
            found = re.findall(r'station_doctor_findings\{check="(\w+)",level="(\w+)"\} (\S+)', metrics)
            assert {(check, level) for check, level, _ in found} == {
                (check, level) for check in WORDS for level in ("warning", "problem")
            }
            assert [(c, lv) for c, lv, value in found if float(value)] == [("brltty", "problem"), ("clock", "warning")]

    asyncio.run(main())


def test_the_daemon_looks_at_its_own_machine(tmp_path: Path) -> None:
    """`station run` examines itself at start and logs each finding as one line with check and fix."""
    config = write_config(tmp_path, '[log]\nformat = "json"\n[backup]\ndirectory = "/nonexistent/place"\n')
    with started(tmp_path / "out", "run", "--config", config) as running:
        running.says(r'"check": ?"backup"')
        address = running.says(r"http://(127\.0\.0\.1:[0-9]+)/")[1]
        _, view = get(address, "/api/slots")
        assert running.end().code == 0
        lines = [json.loads(line[line.index("{") :]) for line in running.err.splitlines() if "doctor.found" in line]
    (backup,) = (line for line in lines if line["check"] == "backup")
    assert (backup["level"], backup["said"]) == ("error", "/nonexistent/place does not exist")
    assert backup["fix"].startswith("install -d ")
    assert len({(line["check"], line["said"]) for line in lines}) == len(lines)
    assert "backup" in {each["check"] for each in view["diagnoses"]}


# --- the bug report ------------------------------------------------------------------------------------------------


@pytest.fixture
def secretive(tmp_path: Path, recipe_of_the_bench) -> Path:
    """A configuration whose files, records and journal hold secrets; returns its path."""
    source = Path(recipe_of_the_bench.file)
    recipe = tmp_path / "recipe.toml"
    image = f'path = "{recipe_of_the_bench.firmware_path}"'
    recipe.write_text(
        re.sub(r"^path = .*$", image, source.read_text(), flags=re.MULTILINE) + '\n# psk = "battery-staple"\n'
    )
    config = write_config(
        tmp_path,
        '# wifi_password = "correct-horse"\n[usb]\nexcluded = ["https://ada:p%40ssw0rd@host", "x?token=tok-4711"]\n',
        recipe=recipe,
    )
    state = tmp_path / "state"
    state.mkdir()
    state.joinpath("slots.json").write_text('{"A1": "pci-0000:00:14.0-usb-0:2.3:1.0"}')
    said = b"\x1b[31m boot\r\nwlan secret: board-secret\r\nand again correct-horse \xff\r\n"
    with Database.open(load_config(config).database_url) as database:
        lot = make_lot(database)
        for number in range(30):
            end = replace(PASSED if number % 3 == 0 else FAILED, transcript=said)
            record(database, f"job-{number:02}", lot, end, identity=board(number))
    tools = tmp_path / "bin"
    tools.mkdir()
    journal = tools / "journalctl"
    journal.write_text(
        '#!/bin/sh\necho "the args are $*"\n'
        'echo \'<4>{"event":"x","detail":"wifi_password=\\"journal-secret\\""}\'\n'
        'echo "usb 1-2: it said correct-horse and p@ssw0rd"\necho "an unrelated line of the kernel"\n'
    )
    journal.chmod(0o755)
    return config


def run_support(config: Path, out: Path) -> str:
    """Write a report with our journalctl; return what the command says."""
    path = f"{config.parent / 'bin'}:{os.environ['PATH']}"
    done = station("support", "--config", config, "--out", out, env={"PATH": path})
    assert (done.code, done.err) == (0, "")
    return done.out


def members(file: Path) -> dict[str, bytes]:
    """What is in a report."""
    with tarfile.open(file) as archive:
        found = {each.name.removeprefix("station-support/"): archive.extractfile(each) for each in archive.getmembers()}
        return {name: content.read() for name, content in found.items() if content is not None}


def test_no_secret_is_in_any_member(secretive: Path, tmp_path: Path) -> None:
    """Secrets in configuration, recipe, comments, addresses, journal and in what boards said: none is in the file."""
    said = run_support(secretive, tmp_path / "report.tar.gz")
    found = members(tmp_path / "report.tar.gz")
    for name, content in found.items():
        for secret in SECRETS:
            assert secret.encode() not in content, (name, secret)
    assert not any(secret in said for secret in SECRETS)
    # The planted texts were there to be taken out, and what stands around them is still there.
    for name, around in (
        ("configuration.toml", b"# wifi_password ="),
        ("recipe.toml", b"# psk ="),
        ("journal.txt", b"wifi_password="),
        ("kernel.txt", b"usb 1-2: it said"),
        ("transcripts/job-29.txt", b"wlan secret:"),
    ):
        assert around in found[name], name
        assert b"[redacted]" in found[name], name


def test_the_report_holds_what_a_stranger_needs(secretive: Path, tmp_path: Path) -> None:
    """Doctor, versions, settings, slot map, jobs with measurements, transcripts of failures, logs; the rest is named."""
    said = run_support(secretive, tmp_path / "report.tar.gz")
    found = members(tmp_path / "report.tar.gz")
    assert {each["check"] for each in json.loads(found["doctor.json"])} == set(CHECKS)
    assert {"station", "python", "kernel", "packages"} <= set(json.loads(found["versions.json"]))
    assert json.loads(found["slots.json"])["A1"].startswith("pci-")
    jobs = json.loads(found["jobs.json"])
    assert [job["job"] for job in jobs] == [f"job-{number:02}" for number in range(30)]
    assert all({"measurements", "phases", "outcome"} <= set(job) for job in jobs)
    assert any(job["measurements"] for job in jobs)
    transcripts = sorted(name for name in found if name.startswith("transcripts/"))
    failed = [number for number in range(30) if number % 3]
    assert transcripts == [f"transcripts/job-{number:02}.txt" for number in failed[-20:]]
    assert b"-u station -n 5000" in found["journal.txt"]
    assert b"unrelated" not in found["kernel.txt"]
    readme = found["README.txt"].decode()
    for name in found:
        assert name in said
        assert name in readme or name == "README.txt"
    for name in ("qualification.json", "metrics.txt"):
        assert f"not in it: {name}: " in said
        assert f"{name}: " in readme


def test_the_report_is_for_its_owner_only_and_never_written_over(secretive: Path, tmp_path: Path) -> None:
    """Mode 0600 whatever the umask; a second report into the same file is refused and leaves the first as it is."""
    out = tmp_path / "report.tar.gz"
    run_support(secretive, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    before = out.read_bytes()
    refused = station("support", "--config", secretive, "--out", out).refused(78)
    assert "exists already" in one_line(refused)
    assert out.read_bytes() == before
    assert "cannot be written" in one_line(station("support", "--out", tmp_path / "no/where").refused(78))


def test_a_running_station_gives_its_metrics(tmp_path: Path) -> None:
    """When the daemon answers on loopback, a snapshot of its metrics is in the report."""
    config = write_config(tmp_path)
    with started(tmp_path / "out", "run", "--config", config) as running:
        address = running.address()
        config.write_text(config.read_text().replace("127.0.0.1:0", address))
        station("support", "--config", config, "--out", tmp_path / "report.tar.gz")
        running.end()
    assert b"station_ready" in members(tmp_path / "report.tar.gz")["metrics.txt"]


def test_a_report_comes_from_a_broken_configuration_too(tmp_path: Path) -> None:
    """Just then a report is wanted: the file itself is in it, without its secrets, and doctor.json names the mistake."""
    config = tmp_path / "station.toml"
    config.write_text('[wifi]\npassword = "correct-horse"\n')
    env = {"XDG_STATE_HOME": str(tmp_path)}
    assert station("support", "--config", config, "--out", tmp_path / "report.tar.gz", env=env).code == 0
    found = members(tmp_path / "report.tar.gz")
    assert b'[wifi]\npassword = "[redacted]"' in found["configuration.toml"]
    (mistake,) = (each for each in json.loads(found["doctor.json"]) if each["check"] == "configuration")
    assert "wifi" in mistake["said"]


def test_last_jobs_are_the_newest_and_failures_leave_out_passes(secretive: Path) -> None:
    """A limit takes the newest; a job that passed or still runs has no transcript of failure."""
    url = load_config(secretive).database_url
    assert [job["job"] for job in last_jobs(url, 2)] == ["job-28", "job-29"]
    assert list(last_failed_transcripts(url, 3)) == ["job-29", "job-28", "job-26"]

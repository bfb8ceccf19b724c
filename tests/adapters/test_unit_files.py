"""The units under systemd's own judgement: nothing in them is misspelt, nothing is open that need not be.

`systemd-analyze verify` ends with 0 even for a key that it does not know, so what is held is that it says nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from station.config import Config, load_config

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "systemd").glob("station*.*"))
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
MOST_EXPOSED = 20
"""In tenths: 2.0 of systemd's 10."""

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="Debian's systemd is not installed (systemd-analyze)"
)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze offline."""
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def installed(directory: Path, change: tuple[str, str] = ("", "")) -> list[Path]:
    """Copies of the units whose command exists on any machine, with one text in them replaced by another."""
    copies = []
    for unit in UNITS:
        text = unit.read_text("utf-8")
        copies.append(directory / unit.name)
        lines = ["ExecStart=/bin/true" if line.startswith("ExecStart=") else line for line in text.splitlines()]
        copies[-1].write_text("\n".join(lines).replace(*change) + "\n", "utf-8")
    return copies


def settings(unit: Path) -> dict[str, list[str]]:
    """Key -> values of a unit, in their order, whatever the section."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    """Every key and value of the units is understood, and every unit that they name can be loaded."""
    done = analyze("verify", "--man=no", *installed(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_misspelt_key_would_be_seen(tmp_path: Path) -> None:
    """The test above fails for a unit with a key that systemd does not know."""
    done = analyze("verify", "--man=no", *installed(tmp_path, ("WatchdogSec=", "WatchDogSec=")))
    assert "'WatchDogSec'" in done.stderr


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_no_service_is_more_exposed_than_it_must_be(service: Path) -> None:
    """The rating that systemd gives each service is 2.0 or less."""
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", service)
    assert done.returncode == 0, done.stdout


def test_a_softened_service_would_be_seen(tmp_path: Path) -> None:
    """The test above fails for the same service without the filter of system calls and the bound on its capabilities."""
    for unit in installed(tmp_path, ("CapabilityBoundingSet=", "#")):
        if unit.suffix == ".service":
            softened = unit.read_text("utf-8").replace("SystemCallFilter=", "#")
            unit.write_text(softened, "utf-8")
            assert analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit).returncode != 0


def test_the_drivers_are_loaded_before_the_devices_are_allowed() -> None:
    """Each kernel driver whose ttys the unit allows is both wanted and waited for: else the permission is dropped."""
    unit = settings(ROOT / "systemd/station.service")
    drivers = {"modprobe@usbserial.service", "modprobe@cdc_acm.service"}
    assert drivers <= set(" ".join(unit["Wants"]).split())
    assert drivers <= set(" ".join(unit["After"]).split())
    assert {"char-ttyUSB rw", "char-ttyACM rw"} <= set(unit["DeviceAllow"])


def test_a_crash_leaves_no_core() -> None:
    """What is in the memory of the station is written nowhere: it has the secrets of boards in it."""
    assert settings(ROOT / "systemd/station.service")["LimitCORE"] == ["0"]


def test_there_is_time_for_running_jobs_to_end() -> None:
    """Stopping waits longer than running jobs are given, plus the half minute that a port which does not drain takes."""
    closing_s = 31
    stop_s = int(settings(ROOT / "systemd/station.service")["TimeoutStopSec"][0])
    assert stop_s > Config().shutdown.finish_s + closing_s


def test_a_wrong_configuration_is_not_tried_again() -> None:
    """The exit codes of wrong usage and wrong configuration end the service; every other failure starts it again."""
    unit = settings(ROOT / "systemd/station.service")
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["64 78"]


def test_the_services_may_write_where_the_configuration_sends_them() -> None:
    """State and second place of the shipped configuration are writable for both services."""
    config = load_config(ROOT / "deploy/deb/station.toml")
    for service in SERVICES:
        unit = settings(service)
        assert config.state_dir == Path("/var/lib") / unit["StateDirectory"][0]
        assert f"-{config.backup.directory}" in " ".join(unit["ReadWritePaths"]).split()


def test_the_timer_makes_up_for_a_night_without_power() -> None:
    """A bench PC that is off at night makes its backup when it is switched on."""
    assert settings(ROOT / "systemd/station-backup.timer")["Persistent"] == ["true"]

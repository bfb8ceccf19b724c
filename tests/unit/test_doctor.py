"""The doctor on a made-up machine that is well, with one thing wrong at a time; and its rounds in the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from station import doctor
from station.adapters.archive import backup_name
from station.adapters.machine.kernel import Kernel
from station.adapters.records import Database, Span
from station.adapters.records.database import MINIMUM_FREE_BYTES
from station.config import (
    BackupSection,
    Config,
    DatabaseSection,
    FlashingSection,
    LabelSection,
    StationSection,
    UsbSection,
    WorkSection,
)
from station.doctor import CHECKS, examination, keeping, system
from station.doctor.patient import Patient, patient
from station.doctor.rounds import WORDS, go_round
from station.errors import ConfigurationError
from station.notices import BenchState, notices
from station.qualification import BoardResult, RateResult, SlotResult, keep
from station.views import Diagnosis, Level
from tests.adapters.machine_rig import CLAIM_BEHIND_HUB, DEFAULT_RELEASE, DIRECT_CLAIM, HUB, PLACE, MadeUpMachine
from tests.unit.small_image import make_small_image, write_recipe

ROOT = Path(__file__).resolve().parents[2]
RULE = "70-flashing-station.rules"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KERNEL = Kernel(release=DEFAULT_RELEASE, version="#1 SMP Debian 6.1.128-1 (2025-02-07)")
NONE = "\N{EN DASH}"
OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


@dataclass
class Ward:
    """A bench that is well: two programmers behind a hub, records, recipe, backup. A test spoils one thing of it."""

    machine: MadeUpMachine
    directory: Path
    config: Config
    one: Patient

    def change(self, **sections: msgspec.Struct) -> None:
        """Replace sections of the configuration."""
        self.config = msgspec.structs.replace(self.config, **sections)
        self.again()

    def again(self, **changed: Any) -> None:
        """Look at the machine anew, with these fields of the patient."""
        fresh = patient(self.config, root=self.machine.root, clock_synchronised=lambda: True)
        self.one = replace(fresh, kernel=KERNEL, now=lambda: NOW, **changed)

    def found(self) -> dict[str, list[Diagnosis]]:
        """Check -> what it says."""
        said: dict[str, list[Diagnosis]] = {word: [] for word in CHECKS}
        for each in examination.examine_patient(self.one):
            said[each.check].append(each)
        return said

    def recipe(self, before: str, after: str) -> None:
        """Change the text of the recipe."""
        file = Path(self.config.work.recipe)
        text = file.read_text()
        assert before in text
        file.write_text(text.replace(before, after))
        self.again()

    @property
    def table(self) -> Path:
        """The table of values."""
        return Path(self.config.work.values) / "boards.csv"

    @property
    def wifi(self) -> Path:
        """A secret."""
        return Path(self.config.work.secrets) / "wifi"

    @property
    def backups(self) -> Path:
        """The second place."""
        return Path(self.config.backup.directory)

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.config.state_dir


@pytest.fixture(scope="session")
def empty_records(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of this station's schema, with two ranges of numbers in it."""
    file = tmp_path_factory.mktemp("records") / "station.db"
    with Database.open(f"sqlite:///{file}", station_id="bench-1") as records:
        for pool in ("sensors", "rows/boards.csv"):
            records.numbers.grant(Span(pool=pool, first=1, last=500), "Ada", "for the test")
    return file.read_bytes()


RECIPE = """
[serial]
pool = "sensors"

[values]
csv = "boards.csv"
by = "mac"
secret = ["token"]

[network]
ssid = "bench"
key_secret = "wifi"

[files]
tree = "tree"
fill_in = ["main.py"]
method = "repl"
"""
TABLE = "mac,place,token\n" + "".join(f"5c:cf:7f:00:{n >> 8:02x}:{n & 255:02x},P{n},token-{n}\n" for n in range(150))


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_records: bytes) -> Ward:
    """A bench on which everything is ok."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # asked by root, for the user of the service
    monkeypatch.setattr(keeping, "same_device", lambda _one, _other: False)
    monkeypatch.setattr(keeping, "free_bytes", lambda _path: 50 << 30)
    machine = MadeUpMachine(tmp_path / "machine")
    machine.users(station=os.getuid() + 7, dialout=tmp_path.stat().st_gid)
    machine.write(f"usr/lib/udev/rules.d/{RULE}", (ROOT / "deploy/udev" / RULE).read_text())
    machine.usb("1-2", HUB)
    machine.programmer("2.1", 0)
    machine.programmer("2.2", 1)
    for name in ("state", "backup", "recipe", "recipe/tree", "secrets", "values"):
        (tmp_path / name).mkdir()
    (tmp_path / "recipe/tree/main.py").write_text("print('${values.place}')\n")
    for file, text in (("secrets/wifi", "Sommerregen\n"), ("values/boards.csv", TABLE)):
        (tmp_path / file).write_text(text)
        (tmp_path / file).chmod(0o640)
    config = Config(
        station=StationSection(id="bench-1", state_dir=str(tmp_path / "state")),
        slots={"A1": PLACE.format(ports="2.1"), "A2": PLACE.format(ports="2.2")},
        work=WorkSection(
            recipe=str(write_recipe(tmp_path / "recipe", make_small_image(), RECIPE)),
            secrets=str(tmp_path / "secrets"),
            values=str(tmp_path / "values"),
        ),
        backup=BackupSection(directory=str(tmp_path / "backup")),
    )
    (tmp_path / "state/station.db").write_bytes(empty_records)
    (tmp_path / "backup").chmod(0o777)
    (tmp_path / "backup" / backup_name("bench-1", NOW - timedelta(hours=2), "0.1.0")).touch()
    one = Ward(machine=machine, directory=tmp_path, config=config, one=patient(config, clock_synchronised=lambda: True))
    one.again()
    return one


def test_a_bench_that_is_well_is_ok_throughout(ward: Ward) -> None:
    """Every check says exactly one thing, it is ok, and ok needs no fix."""
    found = ward.found()
    assert {word: [each.level for each in said] for word, said in found.items()} == {word: [OK] for word in CHECKS}
    assert all(each.said and not each.fix for said in found.values() for each in said)


def test_looking_changes_nothing(ward: Ward) -> None:
    """After an examination every file below the machine, the state and the backups is what it was, and none is more."""

    def snapshot() -> dict[str, tuple[int, float, int]]:
        files = (file for file in ward.directory.rglob("*") if file.is_file() and not file.is_symlink())
        return {str(file): (file.stat().st_mode, file.stat().st_mtime, file.stat().st_size) for file in files}

    before = snapshot()
    ward.found()
    assert snapshot() == before


Spoil = Callable[[Ward], None]
SPOILT: dict[str, tuple[Spoil, str, Level, str, str]] = {}
"""Name -> how it is spoilt, the one check that minds, how much, and words that stand in what it says and in the fix."""


def spoilt(check: str, level: Level, said: str, fix: str) -> Callable[[Spoil], Spoil]:
    """Add a case."""

    def add(spoil: Spoil) -> Spoil:
        SPOILT[spoil.__name__] = (spoil, check, level, said, fix)
        return spoil

    return add


@spoilt("configuration", PROBLEM, "station.toml: usb.ids: 'x' is no USB id", "write it as in lsusb")
def _broken_configuration(ward: Ward) -> None:
    error = ConfigurationError(
        file="station.toml", key="usb.ids", problem="'x' is no USB id", fix="write it as in lsusb"
    )
    ward.again(config_error=error)


@spoilt("recipe", WARNING, "no recipe is named", "station recipe new")
def _no_recipe(ward: Ward) -> None:
    ward.change(work=WorkSection())


@spoilt("recipe", PROBLEM, "sha256", "")
def _changed_image(ward: Ward) -> None:
    image = ward.directory / "recipe/thing.bin"
    image.write_bytes(image.read_bytes() + b"\n")


@spoilt("recipe", WARNING, "does not prove by itself that it is whole", "fetch it again")
def _image_without_a_trailer(ward: Ward) -> None:
    write_recipe(ward.directory / "recipe", make_small_image(trailer=False), 'trailer = "none"\n')


@spoilt("secrets", PROBLEM, "the secret wifi cannot be read (No such file or directory)", "write that file")
def _a_secret_that_is_missing(ward: Ward) -> None:
    ward.wifi.unlink()


@spoilt("secrets", PROBLEM, "is open to everybody (mode 0644)", "mode 0640")
def _a_secret_for_everybody(ward: Ward) -> None:
    ward.wifi.chmod(0o644)


@spoilt("secrets", PROBLEM, "station may not read", "chgrp station")
def _a_secret_that_only_root_can_read(ward: Ward) -> None:
    ward.wifi.chmod(0o600)


@spoilt("secrets", PROBLEM, "has 2 characters", "write that file")
def _a_secret_that_is_too_short(ward: Ward) -> None:
    ward.wifi.write_text("ab\n")


@spoilt("secrets", WARNING, "everybody can exchange what is in", "chmod o-w")
def _a_directory_of_secrets_for_everybody(ward: Ward) -> None:
    ward.wifi.parent.chmod(0o777)


@spoilt("secrets", WARNING, "wifi: work.secrets is not set, and systemd", "LoadCredential=")
def _secrets_that_systemd_would_give(ward: Ward) -> None:
    ward.change(work=msgspec.structs.replace(ward.config.work, secrets=""))


@spoilt("values", PROBLEM, "boards.csv, and work.values names no directory", "set work.values")
def _no_directory_of_values(ward: Ward) -> None:
    ward.change(work=msgspec.structs.replace(ward.config.work, values=""))


@spoilt("values", PROBLEM, "cannot be read (No such file", "put it into work.values")
def _no_table(ward: Ward) -> None:
    ward.table.unlink()


@spoilt("values", PROBLEM, "line 152: mac is that of line 2", "give every row its own")
def _a_board_that_is_there_twice(ward: Ward) -> None:
    ward.table.write_text(f"{TABLE}5C-CF-7F-00-00-00,again,token-again\n")


@spoilt("values", PROBLEM, "none of its 3 columns is called 'place'", "into its first line")
def _a_column_that_is_not_there(ward: Ward) -> None:
    ward.table.write_text(TABLE.replace("place", "where", 1))


@spoilt("values", PROBLEM, "line 2: the secret token has 0 characters", "give this row a usable one")
def _a_row_without_its_secret(ward: Ward) -> None:
    ward.table.write_text(TABLE.replace("token-0\n", "\n", 1))


@spoilt("values", PROBLEM, "not UTF-8 text", "save it as CSV UTF-8")
def _a_table_in_another_encoding(ward: Ward) -> None:
    ward.table.write_bytes(TABLE.encode("utf-16"))


@spoilt("values", PROBLEM, "line 152 has 1 fields, the first line 3", "give every row all fields")
def _a_torn_table(ward: Ward) -> None:
    ward.table.write_text(f"{TABLE}5c:cf:7f\n")


@spoilt("values", WARNING, "the column place, which is empty in line 2, 12", "give every row one")
def _empty_fields(ward: Ward) -> None:
    ward.table.write_text(TABLE.replace(",P0,", ",,").replace(",P10,", ", ,"))


@spoilt("values", WARNING, "has no rows", "a row for each board")
def _a_table_without_rows(ward: Ward) -> None:
    ward.table.write_text("mac,place,token\n")


@spoilt("values", WARNING, "holds secrets, and is open to everybody", "chmod 0640")
def _a_table_of_secrets_for_everybody(ward: Ward) -> None:
    ward.table.chmod(0o644)


@spoilt("values", PROBLEM, "station may not read", "chgrp station")
def _a_table_that_the_station_cannot_read(ward: Ward) -> None:
    ward.table.chmod(0o600)


@spoilt("numbers", PROBLEM, "lamps: this station was granted no numbers of it", "station serial grant lamps FIRST-LAST")
def _no_range(ward: Ward) -> None:
    ward.recipe('pool = "sensors"', 'pool = "lamps"')


@spoilt("numbers", PROBLEM, "sensors: this station was granted no numbers of it", "station serial grant")
def _the_ranges_of_another_station(ward: Ward) -> None:
    ward.change(station=msgspec.structs.replace(ward.config.station, id="bench-2"))
    (ward.backups / backup_name("bench-2", NOW - timedelta(hours=2), "0.1.0")).touch()


@spoilt("numbers", WARNING, "sensors: 99 numbers are left", "station serial grant sensors")
def _few_numbers(ward: Ward) -> None:
    burn(ward, "sensors", 1, 401)


@spoilt("numbers", PROBLEM, "sensors: its numbers are used up", "station serial grant sensors")
def _no_numbers(ward: Ward) -> None:
    burn(ward, "sensors", 1, 500)


@spoilt("numbers", WARNING, "99 rows of boards.csv are left for boards that have none yet", "append rows")
def _few_rows(ward: Ward) -> None:
    ward.recipe('by = "mac"', 'by = "row"')
    burn(ward, "rows/boards.csv", 1, 51)


@spoilt("numbers", PROBLEM, "no rows of boards.csv are left", "append rows")
def _no_rows(ward: Ward) -> None:
    ward.recipe('by = "mac"', 'by = "row"')
    burn(ward, "rows/boards.csv", 1, 150)


@spoilt("numbers", PROBLEM, "rows/boards.csv: its numbers are used up", "station serial grant rows/boards.csv")
def _no_numbers_of_rows(ward: Ward) -> None:
    ward.recipe('by = "mac"', 'by = "row"')
    burn(ward, "rows/boards.csv", 1, 500)


def burn(ward: Ward, pool: str, first: int, last: int) -> None:
    """These numbers are gone."""
    with Database.open(ward.config.database_url, station_id="bench-1") as records:
        records.numbers.burn(Span(pool=pool, first=first, last=last), "Ada", "for the test")


@spoilt("slots", WARNING, "no slot was taught", "station slots teach")
def _no_slots(ward: Ward) -> None:
    ward.config = msgspec.structs.replace(ward.config, slots={})
    ward.again()


@spoilt("slots", WARNING, "1 programmer in places that are no slot: /dev/ttyUSB1", "usb.excluded")
def _a_stranger(ward: Ward) -> None:
    ward.config = msgspec.structs.replace(ward.config, slots={"A1": PLACE.format(ports="2.1")})
    ward.again()


@spoilt("slots", PROBLEM, "slots.json", "station slots teach")
def _a_broken_slot_map(ward: Ward) -> None:
    (ward.state / "slots.json").write_text("{")


@spoilt("slots", WARNING, "was taught as one slot, and a programmer with several ports", "teach that place anew")
def _two_ports_in_one_place(ward: Ward) -> None:
    below = "sys/bus/usb/devices/1-2.2/1-2.2:1.0/ttyUSB2"
    ward.machine.write(f"{below}/port_number", "1\n")
    ward.machine.write(f"{below}/tty/ttyUSB2/dev", "188:2\n")
    ward.machine.write("run/udev/data/c188:2", f"E:ID_PATH={PLACE.format(ports='2.2')}\n")
    ward.machine.write("dev/ttyUSB2", "").chmod(0o660)


@spoilt("driver", PROBLEM, "has no driver ch341", "extra modules")
def _no_driver(ward: Ward) -> None:
    ward.machine.write(f"lib/modules/{DEFAULT_RELEASE}/modules.dep", ward.machine.modules("usbserial"))


@spoilt("driver", PROBLEM, "the programmer at 2.3 (1a86:7523) has no serial port", "dmesg")
def _an_adapter_without_a_port(ward: Ward) -> None:
    ward.machine.usb("1-2.3", {"idVendor": "1a86", "idProduct": "7523", "speed": "12"})


@spoilt("kernel", PROBLEM, "loses what a CH340 sends", "newest kernel")
def _a_kernel_of_2021(ward: Ward) -> None:
    ward.again()
    ward.one = replace(ward.one, kernel=Kernel(release=DEFAULT_RELEASE, version="#1 SMP Debian 5.10.61-1 (2021-08-30)"))


@spoilt("udev", WARNING, "udev does not run here", "/run/udev")
def _no_udev(ward: Ward) -> None:
    (ward.machine.root / "run/udev/control").unlink()


@spoilt("udev_rule", WARNING, "is not in force", f"install {RULE}")
def _no_rule(ward: Ward) -> None:
    (ward.machine.root / "usr/lib/udev/rules.d" / RULE).unlink()


@spoilt("udev_rule", WARNING, f"/etc/udev/rules.d/{RULE} does not know 4348:5523", "install the rule of this version")
def _an_old_copy_of_the_rule(ward: Ward) -> None:
    text = (ROOT / "deploy/udev" / RULE).read_text()
    ward.machine.write(f"etc/udev/rules.d/{RULE}", "".join(f"{x}\n" for x in text.splitlines() if "4348" not in x))


@spoilt(
    "brltty",
    PROBLEM,
    "85-brltty.rules gives every 1a86:7523 to brltty",
    "ln -s /dev/null /etc/udev/rules.d/85-brltty.rules",
)
def _brltty_direct(ward: Ward) -> None:
    ward.machine.write("usr/lib/udev/rules.d/85-brltty.rules", DIRECT_CLAIM)


@spoilt("brltty", PROBLEM, "behind a 1a40:0101 hub to brltty, and 2.1, 2.2 is", "apt-get remove brltty")
def _brltty_behind_our_hub(ward: Ward) -> None:
    ward.machine.write("usr/lib/udev/rules.d/85-brltty.rules", CLAIM_BEHIND_HUB)
    ward.machine.usb("1-2", HUB | {"idProduct": "0101"})


@spoilt("brltty", WARNING, "and there is such a hub", "apt-get remove brltty")
def _brltty_behind_another_hub(ward: Ward) -> None:
    ward.machine.write("usr/lib/udev/rules.d/85-brltty.rules", CLAIM_BEHIND_HUB)
    ward.machine.usb("1-9", HUB | {"idProduct": "0101"})


@spoilt("permission", PROBLEM, "station may not open /dev/ttyUSB1", "usermod -aG dialout station")
def _a_closed_port(ward: Ward) -> None:
    (ward.machine.root / "dev/ttyUSB1").chmod(0o600)


@spoilt("permission", PROBLEM, "station may not open /dev/ttyUSB0", "usermod -aG dialout station")
def _not_in_the_group(ward: Ward) -> None:
    write_recipe(ward.directory / "recipe", make_small_image())  # one that gives boards nothing
    ward.machine.users(station=os.getuid() + 7, dialout=ward.directory.stat().st_gid, members="ada")


@spoilt("port", PROBLEM, "/dev/ttyUSB0 is held by process 41 (minicom -D /dev/ttyUSB0)", "kill 41")
def _a_held_port(ward: Ward) -> None:
    ward.machine.process(41, "minicom -D /dev/ttyUSB0", "/dev/ttyUSB0")


@spoilt("hub_power", WARNING, "2 devices there may draw 500 mA, and the bus gives 400", "its power supply")
def _a_hub_without_supply(ward: Ward) -> None:
    ward.machine.usb("1-2", {"bmAttributes": "80"})


@spoilt("hub_power", WARNING, "cannot be looked at: sysfs does not say how the hubs 2 are supplied", "")
def _a_hub_that_does_not_say(ward: Ward) -> None:
    (ward.machine.root / "sys/bus/usb/devices/1-2/bmAttributes").unlink()


@spoilt("autosuspend", WARNING, "1 programmer to sleep (2.2), and with them the hubs 2, usb1", "power/control")
def _a_sleepy_programmer(ward: Ward) -> None:
    ward.machine.usb("1-2.2", {"power/control": "auto"})


@spoilt("baud", WARNING, "A1, A2: 921600 baud left out: not measured there", "station qualify")
def _a_rate_that_nobody_measured(ward: Ward) -> None:
    ward.change(flashing=FlashingSection(baud_ladder=(921_600, 115_200)))


@spoilt("database", PROBLEM, "is not a database of this program", "name another file")
def _a_foreign_database(ward: Ward) -> None:
    (ward.state / "station.db").unlink()
    with contextlib.closing(sqlite3.connect(ward.state / "station.db")) as connection:
        connection.execute("CREATE TABLE songs (name)")


@spoilt("database", PROBLEM, "corrupt", "restore the newest backup")
def _a_broken_database(ward: Ward) -> None:
    (ward.state / "station.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)


@spoilt("filesystem", PROBLEM, "is on a network filesystem (nfs4 at /", "local disk")
def _records_over_the_network(ward: Ward) -> None:
    ward.machine.write("proc/self/mountinfo", f"1 1 0:1 / {ward.state} rw - nfs4 server:/x rw\n")


@spoilt("filesystem", PROBLEM, "in memory only (tmpfs at /", "local disk")
def _records_in_memory(ward: Ward) -> None:
    ward.machine.write("proc/self/mountinfo", f"1 1 0:1 / {ward.state} rw - tmpfs tmpfs rw\n")


@spoilt("filesystem", WARNING, "layer of a container (overlay at /)", "local disk")
def _records_in_a_container(ward: Ward) -> None:
    ward.machine.write("proc/self/mountinfo", "1 1 0:1 / / rw - overlay overlay rw\n")


@spoilt("filesystem", WARNING, "cannot be looked at", "")
def _no_mounts(ward: Ward) -> None:
    (ward.machine.root / "proc/self/mountinfo").unlink()


@spoilt("backup", WARNING, "there is no second place", "backup.directory")
def _no_second_place(ward: Ward) -> None:
    ward.change(backup=BackupSection())


@spoilt("backup", PROBLEM, "does not exist", "install -d -o station")
def _the_second_place_is_gone(ward: Ward) -> None:
    ward.change(backup=BackupSection(directory=str(ward.directory / "unplugged")))


@spoilt("backup", PROBLEM, "station may not write into", "chown station")
def _a_second_place_of_somebody_else(ward: Ward) -> None:
    ward.backups.chmod(0o700)


@spoilt("backup", WARNING, "holds no backup yet", "station backup")
def _nothing_in_the_second_place(ward: Ward) -> None:
    next(ward.backups.iterdir()).unlink()


@spoilt("backup", WARNING, "the newest backup is 30 h old, more than 26", "station-backup.timer")
def _an_old_backup(ward: Ward) -> None:
    next(ward.backups.iterdir()).rename(ward.backups / backup_name("bench-1", NOW - timedelta(hours=30), "0.1.0"))


@spoilt("clock", WARNING, "is not synchronised", "timedatectl")
def _a_clock_that_nobody_sets(ward: Ward) -> None:
    ward.one = replace(ward.one, clock_synchronised=lambda: False)


@spoilt("clock", WARNING, "cannot be looked at", "")
def _a_clock_that_is_not_shown(ward: Ward) -> None:
    ward.one = replace(ward.one, clock_synchronised=lambda: None)


@spoilt("label", WARNING, "/dev/no-printer cannot be opened", "station label test")
def _a_printer_that_is_not_there(ward: Ward) -> None:
    ward.change(label=LabelSection(printer="/dev/no-printer"))


@pytest.mark.parametrize("name", SPOILT)
def test_one_thing_wrong_is_one_finding(ward: Ward, name: str) -> None:
    """The check that minds says so, with the thing and the fix, and every other one stays ok."""
    spoil, check, level, said, fix = SPOILT[name]
    spoil(ward)
    found = ward.found()
    unwell = [each for all_said in found.values() for each in all_said if each.level is not OK]
    assert {each.check for each in unwell} == {check}, unwell
    first = unwell[0]
    assert first.level is level
    assert said in first.said
    assert fix in first.fix
    assert first.fix, "a finding without a fix"


def test_every_check_is_seen_to_find_something() -> None:
    """No check is only ever ok: the table above, and the tests below, have each find something."""
    below = {"modemmanager", "hub_speed", "disk"}
    assert {check for _, check, *_ in SPOILT.values()} | below == set(CHECKS)


def test_modemmanager_is_kept_away_by_our_rule(ward: Ward) -> None:
    """With the rule it may run; without, or with an old rule, it is a warning that names the ids it may take."""
    ward.machine.process(77, "/usr/sbin/ModemManager")
    assert [each.said for each in ward.found()["modemmanager"]] == ["runs, and our udev rule keeps it away"]
    rule = ward.machine.root / "usr/lib/udev/rules.d" / RULE
    rule.write_text(re.sub(r', ENV\{ID_MM_DEVICE_IGNORE\}="1"', "", rule.read_text()))
    (found,) = ward.found()["modemmanager"]
    assert (found.level, "1a86:7523" in found.said) == (WARNING, True)
    assert "apt-get remove modemmanager" in found.fix


def test_too_many_behind_one_translator_is_said_with_numbers(ward: Ward) -> None:
    """22 programmers at 46 KB/s do not fit into about 1.0 MB/s; 20 do, and behind a multi-TT hub all do."""
    for number in range(2, 20):
        ward.machine.programmer(f"2.{number + 1}", number)
    assert ward.found()["hub_speed"][0].level is OK
    for number in range(20, 22):
        ward.machine.programmer(f"2.{number + 1}", number)
    ward.again()
    (found,) = ward.found()["hub_speed"]
    assert found.level is WARNING
    assert found.said == (
        "22 programmers share the one full-speed translator of the hub 2: 22 x 46 KB/s at 460800 baud is 1.01 of about"
        " 1.0 MB/s"
    )
    assert found.fix.startswith("at most 21 there")
    ward.machine.usb("1-2", {"bDeviceProtocol": "02"})
    ward.again()
    assert ward.found()["hub_speed"][0].level is OK


@pytest.mark.parametrize(
    ("free", "level"),
    [(MINIMUM_FREE_BYTES - 1, PROBLEM), (MINIMUM_FREE_BYTES, WARNING), (256 << 20, OK)],
)
def test_disk_space_has_two_steps(ward: Ward, monkeypatch: pytest.MonkeyPatch, *, free: int, level: Level) -> None:
    """Below what a job needs it is a problem, below sixteen times that a warning."""
    monkeypatch.setattr(keeping, "free_bytes", lambda _path: free)
    assert [each.level for each in ward.found()["disk"]] == [level]


def test_a_backup_on_the_same_disk_is_said(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that dies takes records and backups: a warning, beside whatever else is wrong with them."""
    monkeypatch.setattr(keeping, "same_device", lambda _one, _other: True)
    assert [each.level for each in ward.found()["backup"]] == [WARNING]
    _nothing_in_the_second_place(ward)
    assert len(ward.found()["backup"]) == 2


def test_the_backup_of_another_station_does_not_count(ward: Ward) -> None:
    """Two stations may share a second place; each looks at its own backups."""
    next(ward.backups.iterdir()).rename(ward.backups / backup_name("bench-2", NOW, "0.1.0"))
    assert "holds no backup yet" in ward.found()["backup"][0].said


def test_a_rate_that_was_measured_is_ok(ward: Ward) -> None:
    """After a qualification of both slots with these adapters, 921600 is ok; with one of them, the other is named."""
    ward.change(flashing=FlashingSection(baud_ladder=(921_600, 115_200)))
    for label, ports in (("A1", "2.1"), ("A2", "2.2")):
        clean = [RateResult(baud=baud, round_bytes=1 << 16, rounds=3, clean=3) for baud in (115_200, 921_600)]
        board = BoardResult(mac="5c:cf:7f:00:00:01", measured_at="x", complete=True, rates=tuple(clean))
        keep(
            ward.state,
            SlotResult(
                slot=label,
                place=PLACE.format(ports=ports),
                adapter="1a86:7523 0262",
                made_at="x",
                versions={},
                boards=(board,),
            ),
        )
        unmeasured = [each.said for each in ward.found()["baud"] if each.level is WARNING]
        assert unmeasured == (["A2: 921600 baud left out: not measured there"] if label == "A1" else [])
    assert ward.found()["baud"][0].said == "921600 baud was measured in 2 slots"


def test_without_programmers_there_is_nothing_to_hold_or_to_crowd(ward: Ward) -> None:
    """An empty bench is ok, and the group that our rule gives programmers is asked for all the same."""
    ward.config = msgspec.structs.replace(ward.config, usb=UsbSection(ids=("1a86:55d4",)))
    ward.again()
    found = ward.found()
    assert all(each.level is OK for word in ("permission", "port", "hub_speed", "hub_power") for each in found[word])
    _not_in_the_group(ward)
    (said,) = ward.found()["permission"]
    assert (said.level, said.said) == (PROBLEM, "station is not in the group dialout, to which programmers belong")


def test_an_excluded_tower_light_is_not_looked_at(ward: Ward) -> None:
    """A tower light with the CH340's own id may be held, closed and asleep: it is no programmer."""
    ward.machine.programmer("9", 9, power__control="auto")
    (ward.machine.root / "dev/ttyUSB9").chmod(0o000)
    ward.machine.process(41, "tower-light", "/dev/ttyUSB9")
    ward.change(usb=UsbSection(excluded=(PLACE.format(ports="9"),)))
    assert {each.level for said in ward.found().values() for each in said} == {OK}


def test_the_station_itself_may_hold_the_ports(ward: Ward) -> None:
    """The daemon that the lock file names is no stranger; another process of the station is, and one with that number."""
    ward.machine.process(500, "/usr/bin/python3 /usr/bin/station run", "/dev/ttyUSB0")
    assert ward.found()["port"][0].level is PROBLEM
    (ward.state / "lock").write_text("500\n")
    assert ward.found()["port"][0].level is OK
    ward.machine.process(501, "/usr/bin/python3 /usr/bin/station flash", "/dev/ttyUSB0")
    assert [each.level for each in ward.found()["port"]] == [PROBLEM]
    (ward.machine.root / "proc/501/fd/0").unlink()
    ward.machine.write("proc/500/cmdline", "minicom\0")
    assert ward.found()["port"][0].level is PROBLEM


def test_what_may_not_be_seen_is_a_warning_for_a_person_and_left_out_in_the_daemon(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that hide their files: `cannot be looked at`, with the way to look; never ok, in the daemon neither."""
    hidden = ward.machine.process(41, "minicom", "/dev/ttyUSB0")
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path == hidden:
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    (said,) = ward.found()["port"]
    assert (said.level, said.said.startswith("cannot be looked at: 1 process of other users")) == (WARNING, True)
    assert said.fix == "run it as root: sudo station doctor"
    ward.again(in_daemon=True)
    assert ward.found()["port"] == []


def test_what_was_seen_before_a_wall_is_said(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon may not look at the modules; the adapter without a port, which it can see, it says all the same."""
    _an_adapter_without_a_port(ward)

    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "/usr/lib/modules")

    monkeypatch.setattr(system, "module_state", refuse)
    ward.again(in_daemon=True)
    assert [each.level for each in ward.found()["driver"]] == [PROBLEM]
    ward.again()
    assert [each.level for each in ward.found()["driver"]] == [PROBLEM, WARNING]


def test_who_else_owns_a_secret_is_said(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that belongs neither to root nor to the station nor to who asks can be exchanged by its owner."""
    if os.getuid() == 0:
        os.chown(ward.wifi, 4711, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4711)
    (said,) = ward.found()["secrets"]
    assert (said.level, "who can exchange it" in said.said, said.fix) == (WARNING, True, f"chown root {ward.wifi}")


def test_the_secrets_of_the_service_are_looked_at_where_systemd_shows_them(ward: Ward) -> None:
    """While the service runs, its credentials are files that root can read; the daemon itself is told where they are."""
    ward.change(work=msgspec.structs.replace(ward.config.work, secrets=""))
    shown = ward.machine.write("run/credentials/station.service/wifi", "Sommerregen")
    shown.chmod(0o440)
    assert [each.level for each in ward.found()["secrets"]] == [OK]
    shown.unlink()
    assert [each.level for each in ward.found()["secrets"]] == [PROBLEM]
    ward.again(in_daemon=True)
    (said,) = ward.found()["secrets"]
    assert (said.level, "LoadCredential= in the unit" in said.said) == (PROBLEM, True)


def test_a_table_as_spreadsheets_write_it_is_ok(ward: Ward) -> None:
    """A byte order mark, CRLF and semicolons are understood."""
    ward.table.write_bytes(TABLE.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"))
    (said,) = ward.found()["values"]
    assert (said.level, said.said) == (OK, f"{ward.table}: 150 rows, by mac")


def test_no_word_repeats_a_secret(ward: Ward) -> None:
    """Whatever is wrong with secrets and table, what is said of it holds neither a secret nor a field."""
    ward.wifi.write_text("Sommerregen\n" * 500)
    ward.table.write_text(f"{TABLE}5c:cf:7f:00:00:01,P1,token-1\nxx,P2,token-2\n")
    said = repr(ward.found())
    assert not re.search(r"Sommerregen|token-\d|5c:cf|P\d", said)


def test_what_a_person_may_not_see_is_no_problem(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root is told to look as root; that the station itself may not read it is a problem."""

    def refused(path: Path, *_: object, **__: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    stat = Path.stat
    hidden = {ward.wifi, ward.table}
    monkeypatch.setattr(Path, "stat", lambda path, **more: (refused if path in hidden else stat)(path, **more))
    for word in ("secrets", "values"):
        (said,) = ward.found()[word]
        assert (said.level, "cannot be looked at" in said.said, said.fix) == (
            WARNING,
            True,
            "run it as root: sudo station doctor",
        )


def test_a_database_elsewhere_than_in_a_file_is_a_problem_not_a_crash(ward: Ward) -> None:
    """The refusal of the configuration is passed on by every check that needs the file."""
    ward.change(database=DatabaseSection(url="postgresql://station:hunter2@db/station"))
    found = ward.found()
    assert all("only SQLite is supported" in found[word][0].said for word in ("database", "filesystem", "disk"))


def test_records_that_are_not_there_yet_are_ok(ward: Ward) -> None:
    """Before the first start there is no database; looking does not make one."""
    (ward.state / "station.db").unlink()
    (said,) = ward.found()["database"]
    assert (said.level, "will be made at the first start" in said.said) == (OK, True)
    assert not (ward.state / "station.db").exists()


def test_the_real_machine_can_be_looked_at(tmp_path: Path) -> None:
    """On whatever machine this runs, every check says something, in fixed words."""
    found = doctor.examine(Config(station=StationSection(state_dir=str(tmp_path))))
    assert {each.check for each in found} == set(CHECKS)
    assert all(each.fix for each in found if each.level is not OK)


# --- in the daemon -------------------------------------------------------------------------------------------------


def finding(check: str, said: str, level: Level = PROBLEM) -> Diagnosis:
    """One finding."""
    return Diagnosis(check=check, level=level, said=said, fix="mend it")


def rounds(*results: tuple[Diagnosis, ...] | Exception) -> tuple[list[tuple[Diagnosis, ...]], list[Any]]:
    """Go one round for each result; return what was told, and the log."""
    told: list[tuple[Diagnosis, ...]] = []
    waiting = list(results)

    def examine() -> tuple[Diagnosis, ...]:
        result = waiting.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def main() -> None:
        done = asyncio.Event()

        def tell(unwell: tuple[Diagnosis, ...]) -> None:
            told.append(unwell)
            if not waiting:
                done.set()

        task = asyncio.create_task(go_round(examine, tell, every_s=0.0))
        await asyncio.wait_for(done.wait(), 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with capture_logs() as log:
        asyncio.run(main())
    return told, [(each["event"], each["log_level"], each.get("check")) for each in log]


def test_a_finding_is_logged_once_until_it_changes_and_then_that_it_cleared() -> None:
    """Three rounds with one problem are one line; numbers that move on are no news; its end is a line of its own."""
    full, fuller = finding("disk", "15 MiB are free"), finding("disk", "14 MiB are free")
    late, well = finding("clock", "is not synchronised", WARNING), Diagnosis(check="udev", level=OK, said="udev runs")
    told, log = rounds((full, well), (fuller, well), (fuller, late, well), (well,), (well,))
    assert log == [
        ("doctor.found", "error", "disk"),
        ("doctor.found", "warning", "clock"),
        ("doctor.cleared", "info", "disk"),
        ("doctor.cleared", "info", "clock"),
    ]
    assert told == [(full,), (fuller,), (fuller, late), (), ()]


def test_problems_are_told_before_warnings() -> None:
    """The worst first, whatever the order of the checks."""
    told, _ = rounds((finding("clock", "a", WARNING), finding("disk", "b"), finding("port", "c", WARNING)))
    assert [each.check for each in told[0]] == ["disk", "clock", "port"]


def test_a_round_that_breaks_is_a_finding_and_the_next_one_comes() -> None:
    """A mistake of ours in a check ends neither the rounds nor the station."""
    told, log = rounds(ZeroDivisionError("a bug"), ())
    assert [(each.check, each.level) for each in told[0]] == [("doctor", WARNING)]
    assert "a bug" in told[0][0].said
    assert told[1] == ()
    assert [event for event, *_ in log] == ["doctor.broke", "doctor.found", "doctor.cleared"]
    assert {each.check for each in told[0]} <= set(WORDS)


def test_the_page_says_problems_and_no_warnings() -> None:
    """A problem of the doctor is a notice with its fix; a warning stays in the list of the doctor."""
    said = notices(
        BenchState(
            writable=True,
            held=0,
            image_changed="",
            has_recipe=True,
            lot_is_open=True,
            udev_heard=True,
            lights_healthy=True,
            slots={},
            diagnoses=(finding("brltty", "takes the programmers"), finding("clock", "is late", WARNING)),
        )
    )
    assert said == ("brltty: takes the programmers: mend it",)


# --- the document --------------------------------------------------------------------------------------------------


def test_the_document_has_every_check() -> None:
    """The table of docs/doctor.md has exactly the checks, in their order, each with what may be found."""
    text = (ROOT / "docs/doctor.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert [word for word, *_ in rows] == list(CHECKS)
    for word, _, problem, warning in rows:
        levels = {level for _, check, level, *_ in SPOILT.values() if check == word}
        assert PROBLEM not in levels or problem.strip() != NONE, word
        assert WARNING not in levels or warning.strip() != NONE, word

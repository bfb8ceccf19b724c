"""Every check of the self-test in its passing and its failing form, on the real MicroPython of the bench, and its mutants.

A check that is left out, and a check whose limits are turned round, must be noticed: each of them would be a false pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from station import selftest, testing
from station.bench.chip import PUYA_1M, WINBOND_1M, Chip
from station.bench.filesystem import FlashFilesystem
from station.bench.programmer import ProgrammerKind
from station.model import CommittedJob, FlashChip, Identity, Measurement, Outcome
from station.properties import Gpio0, Reset, SlotProperties
from station.recipe import Recipe
from station.recipe.text import ChecksSection
from station.selftest import Check, checks_for, required_measurements
from tests.adapters.selftest_rig import flashed_as, recipe_with, self_tested, whole_visit
from tests.bench.firmware_rig import files_in

KEY, PASSWORD = "bench-key", "web4pass"
NAMES = {"secret.wifi_key": KEY, "secret.web": PASSWORD}
OWN = """\
import machine

def check():
    return {"frequency": machine.freq(), "half": 0.5, "good": True, "colour": "red", "extra": None}
"""
EVERYTHING = """
[checks.frequency]
[checks.filesystem_fill]
share = 0.2
[checks.wifi_scan]
ssid = "bench"
[checks.gpio]
[checks.boot]
to_prompt_s = [0.0, 60.0]
[network]
ssid = "bench"
key_secret = "wifi_key"
join_within_s = 5.0
webrepl_secret = "web"
[[check]]
name = "clock"
file = "clock.py"
[check.limits]
frequency = [80e6, 160e6]
half = 0.5
good = true
colour = "red"
[check.units]
frequency = "Hz"
"""
NETWORK = '[network]\nssid = "bench"\nkey_secret = "wifi_key"\njoin_within_s = 1.0\n'


@dataclass(frozen=True)
class Failing:
    """One way in which a check fails: what is wrong with the board, or what else the recipe wants of a good one."""

    check: str
    reason: str
    detail: str
    faults: tuple[str, ...] = ()
    recipe: str = ""
    change: Callable[[Chip], None] = lambda _chip: None
    jedec_id: int = WINBOND_1M
    names: dict[str, str] = field(default_factory=lambda: NAMES)
    files: dict[str, str] = field(default_factory=dict)
    connected: tuple[Identity, FlashChip] | None = None
    """What CONNECT had read, where another board answers now."""
    says_free_sectors: int = 0
    """So much room the filesystem says that it has; 0: the truth."""
    left_out: str = "evidence_missing"
    """The reason where the check is not run: what a flash forgot shows in more than one place."""
    machine: str = ""
    """The board name that the recipe's image carries, where it is not that of the firmware."""
    measurement: str = ""
    """Which measurement it is, where the detail does not begin with its name."""

    @property
    def name(self) -> str:
        """The measurement that deviates."""
        return self.measurement or self.detail.split(" =")[0]


def damage_firmware(chip: Chip) -> None:
    """Flip a bit in the middle of the image."""
    chip.flash.data[0x20000] ^= 1


def own(source: str, limits: str = "", name: str = "mine") -> dict[str, object]:
    """A recipe with one check of its own."""
    limits = f"[check.limits]\n{limits}\n" if limits else ""
    return {
        "recipe": f'[[check]]\nname = "{name}"\nfile = "mine.py"\ntimeout_s = 2.0\n{limits}',
        "files": {"mine.py": source},
    }


WEBREPL = '[network]\nssid = "bench"\nkey_secret = "wifi_key"\nwebrepl_secret = "web"\n[files]\ntree = "tree"\n'
STOPS_WEBREPL = {"tree/boot.py": "import webrepl\nwebrepl.start()\nwebrepl.stop()\n"}
FAILING = {
    "another MAC": Failing(
        "identity",
        "identity_mismatch",
        "mac = 5c:cf:7f:dd:c1:42, flashed was 5c:cf:7f:00:00:07",
        connected=flashed_as("5c:cf:7f:00:00:07"),
    ),
    "another chip ID": Failing(
        "identity",
        "identity_mismatch",
        "chip_id = 0x00ddc142, flashed was 0x00ddc143",
        connected=flashed_as(chip_id=0xDDC143),
    ),
    "another flash id": Failing(
        "flash", "identity_mismatch", "flash_id = 1440ef, flashed was 1440c8", connected=flashed_as(jedec_id=0x1440C8)
    ),
    "another flash size": Failing(
        "flash",
        "out_of_limits",
        "flash_size = 1048576 B, allowed 2097152",
        connected=flashed_as(size_bytes=2 << 20),
    ),
    "another build": Failing(
        "firmware", "out_of_limits", "machine = ESP module (1M) with ESP8266, allowed ESP32", machine="ESP32"
    ),
    "80 MHz": Failing(
        "frequency",
        "out_of_limits",
        "frequency_80_mhz = 52000000 Hz, allowed 80000000",
        faults=("out_of_limits", "slow_clock"),
        recipe="[checks.frequency]\n[limits]\ncpu_frequency_hz = [52000000, 160000000]\n",
    ),
    "little room": Failing(
        "filesystem_free",
        "out_of_limits",
        "filesystem_free = ",
        recipe="[checks.filesystem_fill]\nshare = 0.001\n",
    ),
    "less room than it says": Failing(
        "filesystem_fill",
        "filesystem_lost_data",
        "filesystem_fill_written = nothing",
        recipe="[checks.filesystem_fill]\nshare = 0.3\n",
        says_free_sectors=900,
        left_out="filesystem_lost_data",
    ),
    "GPIO0 at GND": Failing(
        "gpio", "out_of_limits", "gpio0_level = 0, allowed 1", faults=("gpio@0low",), recipe="[checks.gpio]\n"
    ),
    "GPIO0 at VCC": Failing(
        "gpio", "out_of_limits", "gpio0_drive = 1, allowed 0", faults=("gpio@0high",), recipe="[checks.gpio]\n"
    ),
    "GPIO2 without pull-up": Failing(
        "gpio", "out_of_limits", "gpio2_pull_up = 0, allowed 1", faults=("gpio@2floating",), recipe="[checks.gpio]\n"
    ),
    "flash id": Failing(
        "flash",
        "flash_rejected",
        "PUYA 0x146085",
        measurement="flash_policy",
        recipe='[checks.flash_policy]\nreject = ["0x85"]\n',
        jedec_id=PUYA_1M,
    ),
    "flash vendor not allowed": Failing(
        "flash",
        "flash_rejected",
        "WINBOND 0x1440ef",
        measurement="flash_policy",
        recipe='[checks.flash_policy]\nallow = ["0xc8"]\n',
    ),
    "firmware version": Failing(
        "firmware",
        "out_of_limits",
        "firmware_version = 1.27.0, allowed 9.9",
        recipe='[limits]\nfirmware_version = "9.9"\n',
    ),
    "firmware damaged": Failing(
        "firmware_intact", "out_of_limits", "firmware_intact = no, allowed yes", change=damage_firmware
    ),
    "clock": Failing("cpu_frequency", "out_of_limits", "cpu_frequency = 52000000 Hz", faults=("out_of_limits",)),
    "little memory": Failing("free_ram", "out_of_limits", "free_ram = ", faults=("little_ram",)),
    "radio dead": Failing("wifi_start", "out_of_limits", "wifi_start = no", faults=("radio_dead",)),
    "160 MHz": Failing(
        "frequency",
        "out_of_limits",
        "frequency_160_mhz = 80000000 Hz, allowed 160000000",
        faults=("slow_clock",),
        recipe="[checks.frequency]\n",
    ),
    "small file lost": Failing(
        "filesystem_read",
        "filesystem_lost_data",
        "filesystem_hash = nothing",
        faults=("puya_loses",),
        left_out="filesystem_lost_data",
    ),
    "filling lost": Failing(
        "filesystem_fill_read",
        "filesystem_lost_data",
        "filesystem_fill_hash = ",
        faults=("loses_much",),
        left_out="access_point_open",
        recipe="[checks.filesystem_fill]\nshare = 0.2\n",
    ),
    "read-back for the vendor": Failing(
        "filesystem_fill_read",
        "filesystem_lost_data",
        "filesystem_fill_hash = ",
        faults=("loses_much",),
        left_out="access_point_open",
        jedec_id=PUYA_1M,
    ),
    "too weak": Failing(
        "wifi_scan",
        "out_of_limits",
        "wifi_rssi = -93 dBm, allowed -75.0…-10.0",
        faults=("weak_radio",),
        recipe='[checks.wifi_scan]\nssid = "bench"\n',
    ),
    "too strong": Failing(
        "wifi_scan",
        "out_of_limits",
        "wifi_rssi = -48 dBm",
        recipe='[checks.wifi_scan]\nssid = "bench"\nrssi_dbm = [-75.0, -50.0]\n',
    ),
    "not heard": Failing(
        "wifi_scan", "out_of_limits", "wifi_rssi = nothing dBm", recipe='[checks.wifi_scan]\nssid = "elsewhere"\n'
    ),
    "GPIO0 without pull-up": Failing(
        "gpio", "out_of_limits", "gpio0_pull_up = 0, allowed 1", faults=("gpio@0floating",), recipe="[checks.gpio]\n"
    ),
    "GPIO2 at GND": Failing(
        "gpio", "out_of_limits", "gpio2_level = 0, allowed 1", faults=("gpio@2low",), recipe="[checks.gpio]\n"
    ),
    "GPIO2 at VCC": Failing(
        "gpio", "out_of_limits", "gpio2_drive = 1, allowed 0", faults=("gpio@2high",), recipe="[checks.gpio]\n"
    ),
    "crashed once": Failing(
        "reset_cause",
        "out_of_limits",
        "reset_cause = watchdog, allowed no crash",
        faults=("crashes_once",),
        recipe="[checks.boot]\nto_prompt_s = [0.0, 60.0]\n",
    ),
    "access point": Failing(
        "access_point", "access_point_open", "access_point_off = no, allowed yes", faults=("ap_stays",)
    ),
    "network forgotten": Failing(
        "network_ssid",
        "network_not_set",
        "network_ssid = , allowed bench",
        faults=("forgets_network",),
        recipe='[network]\nssid = "bench"\n',
    ),
    "wrong key": Failing(
        "network_join",
        "network_not_set",
        "network_join = nothing s, allowed 0",
        recipe=NETWORK,
        names={"secret.wifi_key": "not the key"},
    ),
    "WebREPL stopped": Failing(
        "webrepl", "network_not_set", "webrepl = no, allowed yes", recipe=WEBREPL, files=STOPS_WEBREPL
    ),
    "own check": Failing(
        "mine",
        "out_of_limits",
        "mine.x = 7, allowed 1.0…2.0",
        **own("def check():\n    return {'x': 7}\n", "x = [1.0, 2.0]"),  # type: ignore[arg-type]
    ),
}
"""Each by the check that finds it; the whole self-test of a good board passes with every one of these checks."""


def recipe_of(folder: Path, case: Failing) -> Recipe:
    """The recipe under which it fails."""
    return recipe_with(folder, case.recipe, case.files)


def play(folder: Path, case: Failing):
    """The self-test of its board."""
    recipe = recipe_of(folder, case)
    if case.machine:
        recipe = msgspec.structs.replace(recipe, machine=case.machine)
    free = FlashFilesystem.free_sectors
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlashFilesystem, "free_sectors", lambda of: case.says_free_sectors or free(of))
        return self_tested(
            recipe,
            *case.faults,
            names=case.names,
            change=case.change,
            jedec_id=case.jedec_id,
            connected=case.connected,
        )


def test_a_good_board_passes_every_check_that_there_is(tmp_path):
    """One board, every check of the library, a network, WebREPL and a check of its own: all within their limits."""
    recipe = recipe_with(tmp_path, EVERYTHING, {"clock.py": OWN})
    tested = self_tested(recipe, names=NAMES)
    assert tested.ended == ("", "")
    measured = tested.measured
    assert all(taken.within for taken in measured.values())
    found = {name: measured[name].value for name in measured}
    assert found["wifi_rssi"] == -48
    assert found["network_ssid"] == "bench"
    assert found["webrepl"] is True
    assert found["access_point_off"] is True
    assert found["frequency_160_mhz"] == 160_000_000
    assert found["frequency_restored"] == 80_000_000
    assert found["reset_cause"] == found["reset_cause_after_restart"] == "reset line"
    assert [found[f"gpio{pin}_{part}"] for pin in (0, 2) for part in ("level", "drive", "pull_up")] == [1, 0, 1] * 2
    assert (found["clock.half"], found["clock.colour"], found["clock.extra"]) == (0.5, "red", None)
    assert (measured["clock.frequency"].unit, measured["clock.frequency"].high) == ("Hz", 160e6)
    assert not any(KEY in str(value) or PASSWORD in str(value) for value in found.values())
    said = tested.run.link.transcript
    assert KEY.encode() not in said
    assert PASSWORD.encode() not in said


ELSEWHERE = {
    "filesystem_written": "what writes the file hashes it: a write that fails raises",
    "reset_cause_after_restart": "the same check as reset_cause",
    "unexpected_boots": "counted by the station: test_more_restarts_than_allowed_are_a_brownout",
    "time_to_prompt": "timed by the station: test_a_prompt_that_comes_too_late_is_out_of_limits",
    "frequency_restored": "only recorded",
    "clock.done": "there, or evidence_missing: test_a_check_that_is_left_out_is_noticed",
    **dict.fromkeys(("clock.frequency", "clock.half", "clock.good", "clock.colour"), "the recipe's: mine.x"),
}
"""Judged measurements that no case of FAILING shows, and why not."""


def test_every_measurement_that_a_pass_needs_is_shown_failing(tmp_path):
    """Nobody adds a check without a board that fails it: all that can be required is in FAILING, or there is a reason."""
    recipe = recipe_with(tmp_path, EVERYTHING, {"clock.py": OWN})
    required = set(required_measurements(recipe, FlashChip(jedec_id=PUYA_1M, size_bytes=1 << 20)))
    shown = {case.name for case in FAILING.values()}
    assert shown - required == {"mine.x"}
    assert required - shown == set(ELSEWHERE)
    assert "test_more_restarts_than_allowed_are_a_brownout" in globals()
    assert "test_a_prompt_that_comes_too_late_is_out_of_limits" in globals()


def test_every_table_of_checks_is_asked_for_above():
    """Nobody adds a table to `[checks]` without its being in the recipe that asks for everything."""
    tables = set(ChecksSection.__struct_fields__)
    asked = set(re.findall(r"^\[checks\.(\w+)\]", EVERYTHING, re.MULTILINE))
    assert tables - asked == {"flash_policy"}, "that one is on by default"


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_bad_board_is_told_with_reason_value_and_limits(tmp_path, case):
    """Each check in its failing form: the reason of the closed list, and what was measured."""
    reason, detail = play(tmp_path, case).ended
    assert reason == case.reason
    assert case.detail in detail


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_check_that_is_left_out_is_noticed(tmp_path, monkeypatch, case):
    """Mutant one: the check is not run. The bad board does not pass for that: its evidence is missing."""
    ask = testing._SelfTest._check

    def forgetful(self: object, check: Check) -> tuple[Measurement, ...]:
        return () if check.name == case.check else ask(self, check)  # type: ignore[arg-type]

    monkeypatch.setattr(testing._SelfTest, "_check", forgetful)
    if case.check == "filesystem_free":
        # How much to fill depends on it: without it the test ends as a mistake of the station's own program.
        with pytest.raises(IndexError):
            play(tmp_path, case)
        return
    assert play(tmp_path, case).ended[0] == case.left_out


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_limit_that_is_turned_round_is_noticed(tmp_path, monkeypatch, case):
    """Mutant two: the check takes bad for good and good for bad. The failing form above would not end as it must."""
    parse = selftest.parse

    def inverted(check: Check, payload: bytes) -> tuple[Measurement, ...]:
        taken = parse(check, payload)
        if check.name != case.check:
            return taken
        return tuple(
            replace(each, within=not each.within) if each.low is not None or not each.within else each for each in taken
        )

    monkeypatch.setattr(selftest, "parse", inverted)
    reason, detail = play(tmp_path, case).ended
    assert reason != case.reason or case.detail not in detail


# -- the recipe's own checks -------------------------------------------------------------------------------------------


def own_case(folder: Path, source: str, limits: str = ""):
    """The self-test of a good board with one check of the recipe's own."""
    more = own(source, limits)
    return self_tested(recipe_with(folder, more["recipe"], more["files"]))  # type: ignore[arg-type]


def test_an_own_check_that_raises_leaves_its_traceback_with_its_own_lines(tmp_path):
    """FAIL check_raised with the check's name; the record has the traceback, with name and line of the recipe's file."""
    tested = own_case(tmp_path, "import machine\n\ndef check():\n    return {'x': 1 // 0}\n")
    assert tested.ended == ("check_raised", "mine")
    assert 'File "mine", line 4, in check' in tested.run.evidence.notes[-1]
    assert "ZeroDivisionError" in tested.run.evidence.notes[-1]


def test_an_own_check_that_never_ends_is_hung(tmp_path):
    """FAIL check_hung after its own time, not after that of the station's checks."""
    assert own_case(tmp_path, "def check():\n    while True:\n        pass\n").ended == ("check_hung", "mine")


def test_an_own_check_that_takes_its_line_away_is_hung(tmp_path):
    """What is done to TX silences the board: its own answer is not heard, and that is no pass."""
    source = "import machine\ndef check():\n    machine.PWM(machine.Pin(1), freq=1, duty=512)\n    return {'x': 1.5}\n"
    assert own_case(tmp_path, source, "x = [1.0, 2.0]").ended == ("check_hung", "mine")


@pytest.mark.parametrize(
    ("source", "reason", "detail"),
    [
        ("def check():\n    return 7\n", "check_raised", "mine"),
        ("def check():\n    pass\n", "check_raised", "mine"),
        ("def check():\n    return missing\n", "check_raised", "mine"),
        ("def check():\n    return {b'x': 1.5, 'x': 1.5}\n", "check_raised", "mine"),
        ("def check():\n    raise ValueError('caf\\xe9 \\x1b[2J')\n", "check_raised", "mine"),
        ("def check():\n    a = []\n    while True: a.append(bytearray(10000))\n", "check_raised", "mine"),
        ("def check():\n    print('{\"x\": 1.5}')\n    raise ValueError\n", "check_raised", "mine"),
        ("def check():\n    return {}\n", "evidence_missing", "mine.x"),
        ("def check():\n    return {'x': None}\n", "out_of_limits", "mine.x = nothing"),
        ("def check():\n    return {'x': True}\n", "out_of_limits", "mine.x = yes"),
        ("def check():\n    return {'x': 1.5, 'y' * 50: 1}\n", "repl_garbage", "check mine"),
        ("def check():\n    return {'x': 1.5, 'y': '\\x1b[2J'}\n", "repl_garbage", "check mine"),
        ("def check():\n    return {'x': 1.5, 'done': 1}\n", "repl_garbage", "check mine"),
        ("def check():\n    return {'x': 1.5, 'y': [1]}\n", "repl_garbage", "check mine"),
        ("def check():\n    return {'x': 1.5, 'y': float('nan')}\n", "repl_garbage", "check mine"),
        ("def check():\n    return {'x': 1.5, 'y': float('inf')}\n", "repl_garbage", "check mine"),
        ("def check():\n    return {'x': 1.5, 'y': 10 ** 30}\n", "repl_garbage", "check mine"),
        ("def check():\n    return {'x': 1e30}\n", "out_of_limits", "mine.x = 1"),
        ("def check():\n    print('\\x04\\x04>')\n    return {'x': 1.5}\n", "repl_garbage", ""),
        ("def check():\n    return dict([('k%d' % i, i) for i in range(40)])\n", "repl_garbage", "check mine"),
        ("def check():\n    print('z' * 5000)\n    return {'x': 1.5}\n", "repl_garbage", "at most 4096"),
        ("def check():\n    return {'x': bytearray(90000)}\n", "repl_garbage", ""),
        ("def check():\n    while True: print('x' * 1000)\n", "repl_garbage", "65536"),
        ("import machine\ndef check():\n    machine.reset()\n", "brownout", "check mine"),
        ("def check():\n    raise SystemExit\n", "brownout", "check mine"),
        ("def check():\n    print('MicroPython v1.27.0')\n    return {'x': 1.5}\n", "brownout", "check mine"),
    ],
)
def test_what_an_own_check_must_not_return(tmp_path, source, reason, detail):
    """Not a dict, a name that is missing, a value of another kind, too much of anything: never a pass."""
    ended = own_case(tmp_path, source, "x = [1.0, 2.0]").ended
    assert ended[0] == reason
    assert detail in ended[1]


def test_an_own_check_cannot_speak_for_the_station(tmp_path):
    """A check may call its values what it likes, and redefine what it likes: the station's own measurements stay its own."""
    source = (
        "import os, esp, network\n"
        "os.uname = lambda: ['x'] * 5\n"
        "esp.flash_id = lambda: 0\n"
        "network.WLAN = None\n"
        "def check():\n    return {'mac': 'forged', 'filesystem_hash': 'forged', 'access_point_off': True}\n"
    )
    tested = own_case(tmp_path, source)
    assert tested.ended == ("", "")
    assert tested.measured["mac"].value == "5c:cf:7f:dd:c1:42"
    assert tested.measured["mine.mac"].value == "forged"
    assert tested.measured["access_point_off"].low is True


# -- how the board starts ----------------------------------------------------------------------------------------------


def test_a_restart_that_the_recipe_allows_is_counted_and_tested_on(tmp_path):
    """With one unexpected boot allowed a board that browns out once passes, with the count on record."""
    recipe = recipe_with(tmp_path, "[checks.boot]\nto_prompt_s = [0.0, 60.0]\nunexpected_boots = 1\n")
    tested = self_tested(recipe, "brownout_once")
    assert tested.ended == ("", "")
    assert tested.measured["unexpected_boots"].value == 1
    assert "restarted by itself in check wifi_start" in tested.run.evidence.notes[0]


@pytest.mark.parametrize("more", ["", "[checks.boot]\nto_prompt_s = [0.0, 60.0]\n"])
def test_a_restart_that_nobody_allowed_is_a_brownout(tmp_path, more):
    """Without the check, and with none allowed, the first restart in a test is the board's end."""
    assert self_tested(recipe_with(tmp_path, more), "brownout_once").ended[0] == "brownout"


def test_more_restarts_than_allowed_are_a_brownout(tmp_path):
    """A board that gives way each time its radio starts is not saved by one that is allowed."""
    recipe = recipe_with(tmp_path, "[checks.boot]\nto_prompt_s = [0.0, 60.0]\nunexpected_boots = 1\n")
    assert self_tested(recipe, "brownout_wifi").ended[0] == "brownout"


def test_a_prompt_that_comes_too_late_is_out_of_limits(tmp_path):
    """The time from reset to prompt has limits of the recipe's."""
    recipe = recipe_with(tmp_path, "[checks.boot]\nto_prompt_s = [0.0, 0.0001]\n")
    reason, detail = self_tested(recipe).ended
    assert reason == "out_of_limits"
    assert detail.startswith("time_to_prompt = ")


@pytest.mark.parametrize("mutant", ["left out", "turned round"])
def test_how_a_board_starts_cannot_fall_away(tmp_path, monkeypatch, mutant):
    """What the station itself counts and times is required like every check: without it, or inverted, there is no PASS."""
    taken = selftest.start_measurements

    def mutated(recipe: Recipe, **seen: object) -> tuple[Measurement, ...]:
        found = taken(recipe, **seen)  # type: ignore[arg-type]
        return () if mutant == "left out" else tuple(replace(each, within=not each.within) for each in found)

    monkeypatch.setattr(selftest, "start_measurements", mutated)
    ended = self_tested(recipe_with(tmp_path, "[checks.boot]\nto_prompt_s = [0.0, 60.0]\n")).ended
    if mutant == "left out":
        assert ended == ("evidence_missing", "unexpected_boots, time_to_prompt")
    else:
        assert ended[0] == "brownout"
        assert "unexpected_boots = 0" in ended[1]


def test_a_jumper_at_gnd_makes_gpio0_not_applicable(tmp_path):
    """What a jumper holds is not measured and not judged; the other pin is."""
    recipe = recipe_with(tmp_path, "[checks.gpio]\n")
    checks = {check.name: check for check in selftest_checks(recipe)}
    assert "[2]" in checks["gpio"].code
    taken = {each.name: each.value for each in checks["gpio"].measure([(1, 0, 1)])}
    assert [taken[f"gpio0_{part}"] for part in ("level", "drive", "pull_up")] == ["not applicable"] * 3
    assert [taken[f"gpio2_{part}"] for part in ("level", "drive", "pull_up")] == [1, 0, 1]


def selftest_checks(recipe: Recipe):
    """The checks for a board that was started by software."""
    identity = Identity(mac="5c:cf:7f:dd:c1:42", chip_id=0xDDC142, otp_words=None)
    return checks_for(recipe, identity, FlashChip(jedec_id=0x1440EF, size_bytes=1 << 20), gpio0_held=True)


# -- from the loader to the record ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reset", "gpio0", "gpio0_level", "cause"),
    [(Reset.LINES, Gpio0.LINES, 1, "reset line"), (Reset.NONE, Gpio0.HAND, "not applicable", "power on")],
    ids=["by the lines", "by software"],
)
def test_a_fresh_board_gets_everything_and_passes_in_every_wiring(tmp_path, *, reset, gpio0, gpio0_level, cause):
    """Flashed, files and network set up, every check there is, restarted by what the slot allows: one PASS on record."""
    recipe = recipe_with(tmp_path, EVERYTHING, {"clock.py": OWN})
    kind, properties = ProgrammerKind(reset=reset, gpio0=gpio0), SlotProperties(reset=reset, gpio0=gpio0)
    job, chip = whole_visit(recipe, kind=kind, properties=properties, names=NAMES)
    assert isinstance(job, CommittedJob), job
    assert (job.outcome, job.reason) == (Outcome.PASS, ""), job.detail
    measured = {taken.name: taken.value for taken in job.measurements}
    assert measured["gpio0_level"] == gpio0_level
    assert measured["reset_cause_after_restart"] == cause
    assert (measured["network_ssid"], measured["webrepl"], measured["access_point_off"]) == ("bench", True, True)
    files = files_in(chip)
    assert files["webrepl_cfg.py"] == f'PASS = "{PASSWORD}"\n'.encode()
    assert files["boot.py"].endswith(b"import webrepl\nwebrepl.start()\n")
    assert not {name for name in files if "tmp" in name}
    assert not any(KEY in str(value) or PASSWORD in str(value) for value in measured.values())

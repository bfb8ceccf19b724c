"""The lamps: what each light looks like, what is written to real LED files, and what a dead lamp may not do."""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from station.adapters.lights import APPEARANCES, Colour, Rhythm, most_urgent
from station.adapters.lights.console import ConsoleLight
from station.adapters.lights.led import LedLight
from station.config import LightSection
from station.model import Light
from station.ports import LightDriver
from tests.adapters.umockdev import ROOT, Testbed, in_testbed

DEADLINE_S = 60.0
NAMES = {"green": "station:green", "red": "station:red", "amber": "station:amber"}
# What each light writes to the lamps: rhythm of the named colour, all others off.
LAMPS = {
    Light.EMPTY: {},
    Light.BUSY: {"amber": "steady"},
    Light.ACTION: {"amber": "blink"},
    Light.PASS: {"green": "steady"},
    Light.FAIL: {"red": "steady"},
    Light.FAULT: {"red": "blink"},
}


def make_leds(directory: Path) -> None:
    """Make three LEDs as plain files, lit in a way that nobody asked for."""
    for name in NAMES.values():
        led = directory / name
        led.mkdir(parents=True)
        (led / "max_brightness").write_text("255\n")
        (led / "brightness").write_text("7\n")
        (led / "trigger").write_text("none [heartbeat] timer\n")


def lamps(directory: Path) -> dict[str, str]:
    """Read what the LED files say: colour -> steady or blink, nothing for a lamp that is off."""
    seen = {}
    for colour, name in NAMES.items():
        trigger = (directory / name / "trigger").read_text()
        brightness = (directory / name / "brightness").read_text()
        rhythm = {("none", "0"): "off", ("none", "255"): "steady", ("timer", "255"): "blink"}.get((trigger, brightness))
        seen[colour] = rhythm or f"{trigger}/{brightness}"
    return {colour: rhythm for colour, rhythm in seen.items() if rhythm != "off"}


def eventually(question: Callable[[], bool]) -> None:
    """Wait until `question` is answered with yes."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not question():
        if time.monotonic() > deadline_s:
            raise AssertionError("it never came to that")
        time.sleep(0.002)


def section(directory: Path, *, lamp_test_s: float = 0.0, **names: str) -> LightSection:
    """Return a configuration of three LEDs in `directory`."""
    return LightSection(sysfs_dir=str(directory), lamp_test_s=lamp_test_s, **(NAMES | names))


def light_threads() -> list[str]:
    """Name the threads that lights have left running."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("light ")]


@contextmanager
def lit(configuration: LightSection, *, refresh_s: float = 5.0) -> Iterator[LedLight]:
    """Run a light and make sure that its thread ends with it."""
    light = LedLight(configuration, refresh_s=refresh_s)
    try:
        yield light
    finally:
        light.close()
    assert light_threads() == []


def test_every_light_has_a_look_that_no_other_has() -> None:
    """Neither colour and rhythm together nor the shape alone leave any two lights looking alike."""
    assert set(APPEARANCES) == set(Light)
    assert len({look.shape for look in APPEARANCES.values()}) == len(Light)
    assert len({(look.colour, look.rhythm) for look in APPEARANCES.values()}) == len(Light)


def test_only_pass_is_green_and_only_empty_is_dark() -> None:
    """Green is shown for a pass alone; a dark lamp promises nothing."""
    assert [light for light, look in APPEARANCES.items() if look.colour is Colour.GREEN] == [Light.PASS]
    assert [light for light, look in APPEARANCES.items() if look.rhythm is Rhythm.OFF] == [Light.EMPTY]
    assert [light for light, look in APPEARANCES.items() if look.blinks] == [Light.FAULT, Light.ACTION]


def test_the_most_urgent_slot_speaks_for_the_bench() -> None:
    """One lamp for many slots shows FAULT before FAIL before ACTION before BUSY before PASS; no slot at all is dark."""
    order = [Light.FAULT, Light.FAIL, Light.ACTION, Light.BUSY, Light.PASS, Light.EMPTY]
    for louder, quieter in pairwise(order):
        assert most_urgent([quieter, louder, quieter]) is louder
    assert most_urgent([]) is Light.EMPTY


def test_the_documentation_has_the_same_table() -> None:
    """docs/lights.md shows every light with the shape, colour and rhythm of the program, most urgent first."""
    text = (ROOT / "docs/lights.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z]+) \| (\S+) \| (\w+) \| (\w+) \|", text, flags=re.MULTILINE)
    assert rows == [(light, look.shape, look.colour, look.rhythm) for light, look in APPEARANCES.items()]


@pytest.mark.parametrize("light", list(Light))
def test_the_leds_show_one_light_and_nothing_else(tmp_path: Path, light: Light) -> None:
    """Each light drives its own lamp and switches the others off, whatever they did before."""
    make_leds(tmp_path)
    with lit(section(tmp_path)) as led:
        led.show("A1", light)
        eventually(lambda: lamps(tmp_path) == LAMPS[light])
        assert led.healthy()
    assert lamps(tmp_path) == {}


def test_the_lamp_follows_the_most_urgent_slot(tmp_path: Path) -> None:
    """A fault in one slot takes the lamp from the others and gives it back; green comes when all that is left passed."""
    make_leds(tmp_path)
    with lit(section(tmp_path)) as led:
        for slot, light, shown in [
            ("A1", Light.PASS, Light.PASS),
            ("A2", Light.BUSY, Light.BUSY),
            ("A3", Light.FAULT, Light.FAULT),
            ("A1", Light.EMPTY, Light.FAULT),
            ("A3", Light.EMPTY, Light.BUSY),
            ("A2", Light.PASS, Light.PASS),
            ("A2", Light.EMPTY, Light.EMPTY),
        ]:
            led.show(slot, light)
            eventually(lambda shown=shown: lamps(tmp_path) == LAMPS[shown])  # type: ignore[misc]


def test_the_lamp_test_lights_everything_and_then_shows_what_is(tmp_path: Path) -> None:
    """At the start all lamps are on together, without keeping the caller; afterwards comes what was said meanwhile."""
    make_leds(tmp_path)
    with lit(section(tmp_path, lamp_test_s=1.0)) as led:
        led.show("A1", Light.FAIL)
        eventually(lambda: lamps(tmp_path) == dict.fromkeys(NAMES, "steady"))
        eventually(lambda: lamps(tmp_path) == {"red": "steady"})


def test_closing_cuts_the_lamp_test_short(tmp_path: Path) -> None:
    """A station that is stopped at once goes dark at once."""
    make_leds(tmp_path)
    with lit(section(tmp_path, lamp_test_s=3600.0)):
        eventually(lambda: lamps(tmp_path) == dict.fromkeys(NAMES, "steady"))
    assert lamps(tmp_path) == {}


def test_blinking_is_set_to_half_a_second(tmp_path: Path) -> None:
    """Where the kernel's timer offers its two files, the rate is written to them."""
    make_leds(tmp_path)
    red = tmp_path / NAMES["red"]
    (red / "delay_on").write_text("1000\n")
    (red / "delay_off").write_text("1000\n")
    with lit(section(tmp_path)) as led:
        led.show("A1", Light.FAULT)
        eventually(lambda: (red / "delay_off").read_text() == "500")
        assert (red / "delay_on").read_text() == "500"


def test_a_lamp_that_is_not_configured_is_no_fault(tmp_path: Path) -> None:
    """A bench with a red and a green lamp only is healthy; what would be amber stays dark."""
    make_leds(tmp_path)
    with lit(section(tmp_path, amber="")) as led:
        led.show("A1", Light.FAIL)
        eventually(lambda: lamps(tmp_path).get("red") == "steady")
        led.show("A1", Light.BUSY)
        eventually(lambda: "red" not in lamps(tmp_path))
        assert led.healthy()
    assert (tmp_path / NAMES["amber"] / "brightness").read_text() == "7\n"


def test_a_dead_lamp_is_seen_and_hurts_no_other(tmp_path: Path) -> None:
    """A lamp that is not there makes the light unhealthy and nothing else; its files are not made up; it may come back."""
    make_leds(tmp_path)
    red = tmp_path / NAMES["red"]
    red.rename(tmp_path / "unplugged")
    with lit(section(tmp_path), refresh_s=0.01) as led:
        eventually(lambda: not led.healthy())
        led.show("A1", Light.FAIL)
        green, amber = tmp_path / NAMES["green"] / "brightness", tmp_path / NAMES["amber"] / "brightness"
        eventually(lambda: green.read_text() == amber.read_text() == "0")
        assert not led.healthy()
        assert not red.exists()
        (tmp_path / "unplugged").rename(red)
        eventually(led.healthy)
        eventually(lambda: lamps(tmp_path) == {"red": "steady"})


def test_a_lamp_that_lost_its_state_gets_it_again(tmp_path: Path) -> None:
    """A lamp that was unplugged for a moment, or that another program wrote to, is right again after the next refresh."""
    make_leds(tmp_path)
    with lit(section(tmp_path), refresh_s=0.01) as led:
        led.show("A1", Light.PASS)
        eventually(lambda: lamps(tmp_path) == {"green": "steady"})
        (tmp_path / NAMES["green"] / "brightness").write_text("0")
        eventually(lambda: lamps(tmp_path) == {"green": "steady"})


@pytest.mark.parametrize("file", ["brightness", "trigger", "max_brightness"])
def test_a_lamp_without_one_of_its_files_is_dead(tmp_path: Path, file: str) -> None:
    """An LED that lacks what every LED has is reported, and the missing file is not made."""
    make_leds(tmp_path)
    broken = tmp_path / NAMES["green"] / file
    broken.unlink()
    with lit(section(tmp_path)) as led:
        led.show("A1", Light.PASS)
        eventually(lambda: not led.healthy())
        assert not broken.exists()


def test_a_lamp_that_refuses_is_dead(tmp_path: Path) -> None:
    """Whatever error the kernel gives on writing, it stays with the lamp (here EISDIR, for root may write any file)."""
    make_leds(tmp_path)
    brightness = tmp_path / NAMES["green"] / "brightness"
    brightness.unlink()
    brightness.mkdir()
    with lit(section(tmp_path)) as led:
        led.show("A1", Light.PASS)
        eventually(lambda: not led.healthy())


def test_a_lamp_that_hangs_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A write that never returns is reported after a second, and holds up neither the other lamps nor closing."""
    make_leds(tmp_path)
    brightness = tmp_path / NAMES["amber"] / "brightness"
    brightness.unlink()
    os.mkfifo(brightness)  # opening it for writing waits for a reader
    led = LedLight(section(tmp_path))
    led.show("A1", Light.FAIL)
    green, red = tmp_path / NAMES["green"] / "brightness", tmp_path / NAMES["red"] / "brightness"
    eventually(lambda: (green.read_text(), red.read_text()) == ("0", "255"))
    eventually(lambda: not led.healthy())
    led.show("A1", Light.EMPTY)
    eventually(lambda: red.read_text() == "0")
    led.close()
    reader = os.open(brightness, os.O_RDONLY | os.O_NONBLOCK)
    eventually(lambda: light_threads() == [])
    os.close(reader)


async def _led_class(testbed: Testbed) -> Any:
    for name in NAMES.values():
        testbed.led(name)
    light = LedLight(LightSection(**NAMES, lamp_test_s=0.0))
    seen = {}
    for wanted in Light:
        light.show("A1", wanted)
        eventually(lambda wanted=wanted: lamps(Path("/sys/class/leds")) == LAMPS[wanted])  # type: ignore[misc]
        seen[wanted.value] = lamps(testbed.sys / "class/leds")
    light.close()
    return {"seen": seen, "closed": lamps(testbed.sys / "class/leds"), "healthy": light.healthy()}


@pytest.mark.umockdev
def test_the_led_class_of_sysfs_is_driven() -> None:
    """With nothing but the LEDs' names configured, the files of /sys/class/leds are written."""
    assert in_testbed(_led_class) == {"seen": LAMPS, "closed": {}, "healthy": True}


async def _absent_leds(_testbed: Testbed) -> Any:
    light = LedLight(LightSection(**NAMES, lamp_test_s=0.0))
    light.show("A1", Light.PASS)
    eventually(lambda: not light.healthy())
    light.close()
    return "unhealthy"


@pytest.mark.umockdev
def test_a_machine_without_leds_is_a_dead_light_and_no_more() -> None:
    """Names of LEDs that this kernel does not have make an unhealthy light, not an error."""
    assert in_testbed(_absent_leds) == "unhealthy"


def test_the_console_prints_one_line_per_change() -> None:
    """Slot, shape, word and colour, once per change of a slot's own light."""
    stream = io.StringIO()
    console = ConsoleLight(stream)
    for slot, light in [
        ("A1", Light.BUSY),
        ("A1", Light.BUSY),
        ("A2", Light.ACTION),
        ("A1", Light.PASS),
        ("A1", Light.EMPTY),
    ]:
        console.show(slot, light)
    assert stream.getvalue().splitlines() == [
        "A1 ◐ BUSY amber",
        "A2 ▲ ACTION amber, blinking",
        "A1 ✔ PASS green",
        "A1 ○ EMPTY grey",
    ]
    assert console.healthy()


def test_a_console_that_knows_only_ascii_still_gets_the_word() -> None:
    """Where a shape cannot be printed a question mark stands for it."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleLight(stream).show("A1", Light.FAIL)
    assert raw.getvalue() == b"A1 ? FAIL red\n"


def test_a_closed_console_is_an_unhealthy_light_and_no_more() -> None:
    """A stream that is gone is reported and raises nothing."""
    stream = io.StringIO()
    console = ConsoleLight(stream)
    stream.close()
    console.show("A1", Light.PASS)
    assert not console.healthy()
    console.close()


def test_both_lights_are_light_drivers(tmp_path: Path) -> None:
    """The type checker holds both to the port; a driver switches off and can be closed without ever having shown."""
    make_leds(tmp_path)
    drivers: list[LightDriver] = [ConsoleLight(io.StringIO()), LedLight(section(tmp_path))]
    for driver in drivers:
        assert driver.healthy()
        driver.close()
    assert lamps(tmp_path) == {}

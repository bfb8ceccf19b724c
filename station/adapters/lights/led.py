"""The bench's lamp on LEDs of the Linux LED class: one green, one red, one amber, for all slots together.

It shows the most urgent light of any slot (`station.adapters.lights`). Every lamp is switched, on or off, by a write of
ours: green never comes from something left undone. Each LED is written by a thread of its own, so that a dead or slow one
delays nothing and raises nothing; `healthy` tells, and the state is written again until it takes. Kernel's side:
Documentation/leds/leds-class.rst and drivers/leds/trigger/ledtrig-timer.c.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import assert_never

import structlog

from station.adapters.lights import APPEARANCES, Colour, Rhythm, most_urgent
from station.config import LightSection
from station.model import Light

BLINK_MS = 500
"""On and off for so long: the rate the kernel's timer trigger has by itself."""
REFRESH_S = 5.0
"""A lamp that lost its state shows it again after at most so long; whole blink periods, so that no blink is cut short."""
SLOW_WRITE_S = 1.0
"""A write to an LED that takes longer than this will not come back."""

_log = structlog.get_logger(__name__)


class LedLight:
    """The `LightDriver` of a bench with LEDs; used on the event loop."""

    def __init__(self, section: LightSection, *, refresh_s: float = REFRESH_S) -> None:
        """Begin the lamp test at once: everything on for `section.lamp_test_s`, then what `show` has said by then."""
        names = {Colour.RED: section.red, Colour.AMBER: section.amber, Colour.GREEN: section.green}
        self._lamps = {
            colour: _Lamp(Path(section.sysfs_dir) / name, lamp_test_s=section.lamp_test_s, refresh_s=refresh_s)
            for colour, name in names.items()
            if name
        }
        self._slots: dict[str, Light] = {}

    def show(self, slot: str, light: Light) -> None:
        """Set the light of `slot`; the lamps follow if this makes another light the most urgent."""
        self._slots[slot] = light
        look = APPEARANCES[most_urgent(self._slots.values())]
        for colour, lamp in self._lamps.items():
            lamp.drive(look.rhythm if colour is look.colour else Rhythm.OFF)

    def healthy(self) -> bool:
        """Whether every configured LED took, in good time, what was last written to it."""
        return all(lamp.healthy() for lamp in self._lamps.values())

    def close(self) -> None:
        """Switch all lamps off; waits for the last writes, but not for a write that hangs."""
        for lamp in self._lamps.values():
            lamp.finish()
        deadline_s = time.monotonic() + SLOW_WRITE_S
        for lamp in self._lamps.values():
            lamp.join(deadline_s - time.monotonic())


class _Lamp:
    """One LED and the thread that writes to it: one LED's hanging write must not keep a fault from the red one."""

    def __init__(self, led: Path, *, lamp_test_s: float, refresh_s: float) -> None:
        self._led = led
        self._lamp_test_s = lamp_test_s
        self._refresh_s = refresh_s
        self._wanted = Rhythm.OFF
        self._finishing = False
        self._changed = threading.Condition()
        self._dead = False
        self._writing_since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"light {led.name}", daemon=True)
        self._thread.start()

    def drive(self, rhythm: Rhythm) -> None:
        with self._changed:
            self._wanted = rhythm
            self._changed.notify()

    def healthy(self) -> bool:
        since_s = self._writing_since_s
        return not self._dead and (since_s is None or time.monotonic() - since_s < SLOW_WRITE_S)

    def finish(self) -> None:
        with self._changed:
            self._finishing = True
            self._changed.notify()

    def join(self, timeout_s: float) -> None:
        self._thread.join(max(0.0, timeout_s))

    def _run(self) -> None:
        if self._lamp_test_s > 0:
            self._write(Rhythm.STEADY)
            with self._changed:
                self._changed.wait_for(lambda: self._finishing, self._lamp_test_s)
        while not self._finishing:
            wanted = self._wanted
            self._write(wanted)
            self._wait_for_other_than(wanted)
        self._write(Rhythm.OFF)

    def _wait_for_other_than(self, written: Rhythm) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._finishing or self._wanted is not written, self._refresh_s)

    def _write(self, rhythm: Rhythm) -> None:
        self._writing_since_s = time.monotonic()
        try:
            _drive_led(self._led, rhythm)
        except OSError as error:
            if not self._dead:
                _log.warning("light.dead", led=str(self._led), why=str(error))
            self._dead = True
        else:
            if self._dead:
                _log.info("light.recovered", led=str(self._led))
            self._dead = False
        self._writing_since_s = None


def _drive_led(led: Path, rhythm: Rhythm) -> None:
    """Drive one LED; raises OSError when it is not there (ENOENT), not ours (EACCES) or broken (EIO)."""
    match rhythm:
        case Rhythm.OFF:
            _put(led / "trigger", "none")
            _put(led / "brightness", "0")
        case Rhythm.STEADY:
            _put(led / "trigger", "none")
            _put(led / "brightness", _full_brightness(led))
        case Rhythm.BLINK:
            # The timer blinks at the brightness it finds.
            _put(led / "brightness", _full_brightness(led))
            _put(led / "trigger", "timer")
            # These two files are made by the trigger and belong to root, whoever may write the trigger itself. Its
            # default is the rate we want, so a refusal changes nothing.
            with contextlib.suppress(OSError):
                _put(led / "delay_on", str(BLINK_MS))
                _put(led / "delay_off", str(BLINK_MS))
        case _:
            assert_never(rhythm)


def _full_brightness(led: Path) -> str:
    return (led / "max_brightness").read_text(encoding="ascii", errors="replace").strip()


def _put(file: Path, value: str) -> None:
    # Never O_CREAT: a file that is not there is a dead LED and not ours to make.
    fd = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("ascii", errors="replace"))
    finally:
        os.close(fd)

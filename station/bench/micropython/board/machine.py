# mypy: ignore-errors
"""The machine module of an ESP8266: identity, clock, resets and pins.

Runs inside MicroPython. A reset ends this interpreter: the call does not come back.
"""

import time

import _host
from _link import call, facts

PWRON_RESET = 0
WDT_RESET = 1
SOFT_RESET = 4
DEEPSLEEP_RESET = 5
HARD_RESET = 6
DEEPSLEEP = 4
_MHZ = 1_000_000
_freq = facts["frequency"]


def freq(hz=None):
    """The CPU's clock in Hz; sets it to 80 or 160 MHz."""
    global _freq
    if _freq is None:
        raise RuntimeError("clock unreadable")
    if hz is None:
        return _freq
    if hz // _MHZ not in (80, 160):
        raise ValueError("frequency can only be either 80Mhz or 160MHz")
    _freq = hz // _MHZ * _MHZ
    return None


def unique_id():
    """The chip ID, little-endian."""
    return bytes.fromhex(facts["unique_id"])


def reset():
    """Reset the board."""
    call("board.reset")


def soft_reset():
    """Start the interpreter afresh."""
    raise SystemExit


def reset_cause():
    """Why the board started last."""
    return facts["reset_cause"]


def idle():
    """Wait for next to no time."""
    _host.sleep(1)
    return 0


def lightsleep(ms=0):
    """Wait that many milliseconds."""
    _host.sleep(ms)


def deepsleep(ms=0):
    """Sleep for ever: RST is not wired to GPIO16 on an ESP-01."""
    while True:
        _host.sleep(60_000)


sleep = lightsleep


def disable_irq():
    """There are no interrupts to disable."""
    return 0


def enable_irq(state=0):
    """There are no interrupts to enable."""


class Pin:
    """A pin with nothing connected: an input reads its pull, an output what was last written."""

    IN = 0
    OUT = 1
    OPEN_DRAIN = 2
    PULL_UP = 1
    IRQ_RISING = 1
    IRQ_FALLING = 2
    _levels = {}

    def __init__(self, number, mode=-1, pull=-1, *, value=None):
        if not isinstance(number, int) or not 0 <= number <= 16:
            raise ValueError("invalid pin")
        self._number = number
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None):
        """Set mode, pull and value."""
        if value is not None:
            self.value(value)
        elif self._number not in self._levels:
            self._levels[self._number] = 1 if pull == self.PULL_UP or self._number in (0, 1, 2, 3) else 0

    def value(self, level=None):
        """Read or write the level."""
        if level is None:
            return self._levels.get(self._number, 0)
        self._levels[self._number] = 1 if level else 0
        return None

    __call__ = value

    def on(self):
        """Write 1."""
        self.value(1)

    def off(self):
        """Write 0."""
        self.value(0)

    def irq(self, handler=None, trigger=3, hard=False):
        """Nothing ever changes on a pin here."""

    def __repr__(self):
        return f"Pin({self._number})"


class ADC:
    """The one analogue input, not led out on an ESP-01."""

    def __init__(self, channel=0):
        if channel not in (0, 1):
            raise ValueError("not a valid ADC Channel")

    def read(self):
        """A floating input's reading."""
        return 3


class WDT:
    """The watchdog that the SDK feeds by itself."""

    def __init__(self, id=0, timeout=5000):
        self.feed()

    def feed(self):
        """Feed it."""


class Timer:
    """A timer that never fires: nothing here may interrupt a program."""

    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id=-1):
        self._since = time.ticks_ms()

    def init(self, *, mode=1, period=-1, freq=-1, callback=None):
        """Accepted and forgotten."""

    def deinit(self):
        """Nothing to stop."""

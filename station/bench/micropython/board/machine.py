# mypy: ignore-errors
"""The machine module of an ESP8266: identity, clock, resets, pins and the memory that outlives a reset.

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
    if not facts["clock_stuck"]:
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
    """A pin and what the board has soldered to it: a pull-up, GND, VCC, or nothing."""

    IN = 0
    OUT = 1
    OPEN_DRAIN = 2
    PULL_UP = 1
    IRQ_RISING = 1
    IRQ_FALLING = 2
    _modes = {}
    _pulls = {}
    _driven = {}

    def __init__(self, number, mode=-1, pull=-1, *, value=None):
        if not isinstance(number, int) or not 0 <= number <= 16:
            raise ValueError("invalid pin")
        self._number = number
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None):
        """Set mode, pull and value."""
        if mode != -1:
            self._modes[self._number] = mode
        if pull != -1:
            self._pulls[self._number] = pull == self.PULL_UP
        if value is not None:
            self.value(value)

    def value(self, level=None):
        """Read or write the level."""
        number = self._number
        if level is not None:
            self._driven[number] = 1 if level else 0
            return None
        tied, pulled = facts["pins"].get(str(number), (None, False))
        driven = self._driven.get(number, 0)
        drives = self._modes.get(number) == self.OUT or (self._modes.get(number) == self.OPEN_DRAIN and not driven)
        if tied is not None:
            return tied
        if drives:
            return driven
        # What nothing drives and nothing pulls keeps the charge of what was there before.
        return 1 if pulled or self._pulls.get(number) else driven

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


class PWM:
    """A pin that blinks by itself, also when no program runs; all pins have one rate, as on the chip."""

    _rate = 500
    _shares = {}

    def __init__(self, pin, *, freq=-1, duty=-1):
        self._pin = pin._number  # noqa: SLF001 - of this module
        if self._pin > 15:
            raise ValueError("invalid pin")
        self._shares[self._pin] = self._shares.get(self._pin, 0)
        self.init(freq=freq, duty=duty)

    def init(self, *, freq=-1, duty=-1):
        """Set rate and share."""
        if freq != -1:
            PWM._rate = min(1000, max(1, freq))
        if duty != -1:
            self._shares[self._pin] = min(1023, max(0, duty))
        for pin, share in self._shares.items():
            call("pwm.set", pin, PWM._rate, share)

    def freq(self, hz=None):
        """The rate in Hz, 1 to 1000."""
        return PWM._rate if hz is None else self.init(freq=hz)

    def duty(self, share=None):
        """The share of time at high level, 0 to 1023."""
        return self._shares[self._pin] if share is None else self.init(duty=share)

    def deinit(self):
        """Leave the pin alone."""
        self._shares.pop(self._pin, None)
        call("pwm.end", self._pin)


class RTC:
    """The clock's memory: 492 bytes that outlive every reset but that of the supply and of EN."""

    def __init__(self, id=0):
        if id:
            raise ValueError("invalid RTC")

    def memory(self, data=None):
        """Read it, or write it."""
        if data is None:
            return bytes.fromhex(call("rtc.read"))
        if len(data) > 492:
            raise ValueError("buffer too long")
        call("rtc.write", bytes(data).hex())
        return None


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

"""The checks that a recipe may choose: clock rates, what the radio hears, the boot pins, how the board started. Pure.

Each is switched on by its table in the recipe (`docs/recipes.md`), and its measurements are then required for a PASS. What
cannot be measured in a slot is on record as `not applicable`, and is never a number.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from station.model import Measurement
from station.recipe import Recipe
from station.selftest.measuring import JSON, TIME, Check, Number, Value, between, exactly, recorded

NOT_APPLICABLE = "not applicable"
RADIO_AT_ONCE_PER_HUB = 2
"""So many boards behind one hub may start their radios at once, where the recipe says nothing of it (fault E-3)."""

Rssi = Annotated[int, msgspec.Meta(ge=-128, le=0)]
Level = Literal[0, 1]

RESET_CAUSE_CODE = "import machine\nprint(machine.reset_cause())\n"
# machine.freq(hz) answers nothing; what was set is read back, and in the end what was there before.
_FREQUENCY_CODE = (
    f"{JSON}import machine\nf=machine.freq()\nr=[]\nfor h in @RATES@+[f if f==160000000 else 80000000]:\n"
    " machine.freq(h)\n r.append(machine.freq())\nprint(json.dumps(r))\n"
)
# Only the one network counts: every fresh board opens an access point of its own (fault E-4). A scan may miss a beacon.
_SCAN_CODE = (
    f"{JSON}import network\nw=network.WLAN(network.STA_IF)\na=w.active()\nw.active(True)\nr=None\nn=0\n"
    "for i in range(@SCANS@):\n"
    " for s in w.scan():\n"
    "  if s[0]==@SSID@:\n"
    "   r=s[3] if r is None else max(r,s[3])\n"
    "  elif not s[0].startswith(b'MicroPython-'):\n"
    "   n+=1\n"
    " if r is not None and @LOW@<=r<=@HIGH@:\n"
    "  break\n"
    "w.active(a)\nprint()\nprint(json.dumps([r,n]))\n"
)
# With the pull-up inside the chip; driven to GND; and let go again without that pull-up, so that only one outside lifts it.
_GPIO_CODE = (
    f"{JSON}{TIME}from machine import Pin\nr=[]\nfor n in @PINS@:\n"
    " p=Pin(n,Pin.IN,Pin.PULL_UP)\n time.sleep(0.002)\n u=p.value()\n"
    " p=Pin(n,Pin.OUT,value=0)\n time.sleep(0.002)\n d=p.value()\n"
    " p=Pin(n,Pin.IN,None)\n time.sleep(0.002)\n r.append([u,d,p.value()])\n"
    " p=Pin(n,Pin.IN,Pin.PULL_UP)\n"
    "print(json.dumps(r))\n"
)
# rst_info.reason of the SDK, which is what machine.reset_cause() returns.
_CAUSES = {
    0: "power on",
    1: "watchdog",
    2: "exception",
    3: "software watchdog",
    4: "software",
    5: "deep sleep",
    6: "reset line",
}
_CRASHES = (1, 2, 3)
_GPIO_PARTS = ("level", "drive", "pull_up")


def chosen_checks(recipe: Recipe, *, gpio0_held: bool) -> tuple[Check, ...]:
    """Return those that this recipe chose, in the order in which to run them; `gpio0_held`: a jumper has it at GND."""
    checks: list[Check] = []
    if recipe.checks.boot is not None:
        checks.append(reset_cause_check("reset_cause"))
    if recipe.checks.frequency is not None:
        checks.append(_frequency_check(recipe.checks.frequency.hz))
    if recipe.checks.gpio is not None:
        checks.append(_gpio_check(recipe.checks.gpio.pins, held=gpio0_held))
    if recipe.checks.wifi_scan is not None:
        checks.append(_scan_check(recipe))
    return tuple(checks)


def chosen_names(recipe: Recipe) -> tuple[str, ...]:
    """Return the measurements that these checks must leave for a PASS."""
    chosen, names = recipe.checks, []
    if chosen.boot is not None:
        names += ["reset_cause", "reset_cause_after_restart", "unexpected_boots", "time_to_prompt"]
    if chosen.frequency is not None:
        names += [*(_frequency_name(hz) for hz in chosen.frequency.hz), "frequency_restored"]
    if chosen.gpio is not None:
        names += [_gpio_name(pin, part) for pin in chosen.gpio.pins for part in _GPIO_PARTS]
    if chosen.wifi_scan is not None:
        names.append("wifi_rssi")
    return tuple(names)


def reset_cause_check(name: str) -> Check:
    """Return the check that asks why the board started last; a watchdog and an exception are no way to start."""
    return Check(
        name=name,
        code=RESET_CAUSE_CODE,
        answer=Annotated[int, msgspec.Meta(ge=0, le=255)],
        measure=lambda cause: (
            Measurement(
                name=name,
                value=_CAUSES.get(cause, f"unknown ({cause})"),
                low="no crash",
                high="no crash",
                within=cause in _CAUSES and cause not in _CRASHES,
            ),
        ),
    )


def start_measurements(recipe: Recipe, *, boots: int, to_prompt: Value) -> tuple[Measurement, ...]:
    """Return what the station itself saw of the board's starts; nothing where the recipe does not ask.

    `boots`: starts in the test that nobody ordered; `to_prompt`: seconds from the last start to its prompt, None: not seen.
    """
    wanted = recipe.checks.boot
    if wanted is None:
        return ()
    return (
        between("unexpected_boots", boots, (0, wanted.unexpected_boots)),
        between("time_to_prompt", to_prompt, wanted.to_prompt_s, unit="s"),
    )


def _frequency_check(rates: tuple[int, ...]) -> Check:
    return Check(
        name="frequency",
        code=_FREQUENCY_CODE.replace("@RATES@", str(list(rates))),
        answer=Annotated[list[Number], msgspec.Meta(min_length=len(rates) + 1, max_length=len(rates) + 1)],
        measure=lambda found: (
            *(exactly(_frequency_name(hz), is_, hz, unit="Hz") for hz, is_ in zip(rates, found, strict=False)),
            recorded("frequency_restored", found[-1], unit="Hz"),
        ),
    )


def _frequency_name(hz: int) -> str:
    return f"frequency_{hz // 1_000_000}_mhz"


def _scan_check(recipe: Recipe) -> Check:
    wanted = recipe.checks.wifi_scan
    assert wanted is not None  # noqa: S101 - asked by the caller
    low, high = wanted.rssi_dbm
    code = _SCAN_CODE.replace("@SCANS@", str(wanted.scans)).replace("@LOW@", str(low)).replace("@HIGH@", str(high))
    return Check(
        name="wifi_scan",
        code=code.replace("@SSID@", repr(wanted.ssid.encode())),
        answer=tuple[Rssi | None, Number],
        measure=lambda found: (
            between("wifi_rssi", found[0], wanted.rssi_dbm, unit="dBm"),
            recorded("wifi_other_networks", found[1]),
        ),
        timeout_s=20.0 + 5.0 * wanted.scans,
        radio=True,
    )


def _gpio_check(pins: tuple[int, ...], *, held: bool) -> Check:
    asked = tuple(pin for pin in pins if pin or not held)
    return Check(
        name="gpio",
        code=_GPIO_CODE.replace("@PINS@", str(list(asked))),
        answer=Annotated[list[tuple[Level, Level, Level]], msgspec.Meta(min_length=len(asked), max_length=len(asked))],
        measure=lambda found: tuple(
            measured
            for pin in pins
            for measured in _gpio_measurements(pin, dict(zip(asked, found, strict=False)).get(pin))
        ),
    )


def _gpio_measurements(pin: int, levels: tuple[int, int, int] | None) -> tuple[Measurement, ...]:
    if levels is None:
        return tuple(recorded(_gpio_name(pin, part), NOT_APPLICABLE) for part in _GPIO_PARTS)
    return tuple(
        exactly(_gpio_name(pin, part), level, expected)
        for part, level, expected in zip(_GPIO_PARTS, levels, (1, 0, 1), strict=True)
    )


def _gpio_name(pin: int, part: str) -> str:
    return f"gpio{pin}_{part}"

"""Pins, PWM, clock memory, radio and WebREPL of a virtual board, and the faults of them: each does what its line says."""

from __future__ import annotations

import pytest

from station.bench.chip import ResetCause
from tests.bench.firmware_rig import FRIENDLY, Session, board, on

LEVELS = (
    "from machine import Pin\n"
    "def look(n):\n"
    " Pin(n, Pin.OUT, value=0)\n low = Pin(n).value()\n"
    " Pin(n, Pin.IN, None)\n free = Pin(n).value()\n"
    " Pin(n, Pin.IN, Pin.PULL_UP)\n return [low, free, Pin(n).value()]\n"
    "print(look(0), look(2))\n"
)


@pytest.mark.parametrize(
    ("faults", "levels"),
    [
        ((), b"[0, 1, 1] [0, 1, 1]"),
        (("gpio@0low",), b"[0, 0, 0] [0, 1, 1]"),
        (("gpio@2high",), b"[0, 1, 1] [1, 1, 1]"),
        (("gpio@2floating",), b"[0, 1, 1] [0, 0, 1]"),
    ],
)
def test_a_pin_reads_what_is_soldered_to_it(faults: tuple[str, ...], levels: bytes) -> None:
    """Driven low, let go, and with the pull-up inside the chip: a pull-up, GND, VCC and nothing are told apart."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert await session.run(LEVELS) == (levels + b"\r\n", b"")

    on(board(*faults), scene)


def test_a_jumper_that_was_there_at_the_reset_holds_gpio0() -> None:
    """A firmware that was started by its loader, with GPIO0 at GND, reads it low."""
    chip = board()
    chip.gpio0_was_low = True

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert (await session.run(LEVELS))[0] == b"[0, 0, 0] [0, 1, 1]\r\n"

    on(chip, scene)


def test_the_clocks_memory_outlives_resets_by_software_and_nothing_else() -> None:
    """machine.RTC().memory() is there after a software reset and a watchdog, and gone when EN or the supply rose."""
    chip = board()

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert (await session.run("import machine\nmachine.RTC().memory(b'7 boots')"))[1] == b""
        for cause, kept in ((ResetCause.WATCHDOG, b"b'7 boots'"), (ResetCause.EXTERNAL, b"b''")):
            session.cut_power()
            chip.boot(gpio0_low=False, cause=cause)
            await session.to_raw_repl()
            assert (await session.run("import machine\nprint(machine.RTC().memory())"))[0] == kept + b"\r\n"

    on(chip, scene)


def test_a_led_blinks_by_pwm() -> None:
    """Rate and share are what was set, within what the chip can do."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        code = "from machine import Pin, PWM\np = PWM(Pin(2), freq=2, duty=2000)\nprint(p.freq(), p.duty())\np.deinit()"
        assert await session.run(code) == (b"2 1023\r\n", b"")

    on(board(), scene)


@pytest.mark.parametrize(
    ("faults", "key", "joined"),
    [
        ((), "bench-key", b"True True bench"),
        ((), "wrong", b"False False bench"),
        (("forgets_network",), "bench-key", b"True False "),
        (("radio_dead",), "bench-key", b"False False bench"),
    ],
)
def test_a_network_is_joined_with_its_key_and_again_after_a_restart(
    faults: tuple[str, ...], key: str, joined: bytes
) -> None:
    """What the SDK keeps in flash joins by itself at the next start; a wrong key, or what is not kept, does not."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        first, _ = await session.run(
            "import network\nw = network.WLAN(network.STA_IF)\nw.active(True)\n"
            f"w.connect('bench', '{key}')\nprint(w.isconnected())"
        )
        await session.to_raw_repl()
        again, _ = await session.run(
            "import network\nw = network.WLAN(network.STA_IF)\nprint(w.isconnected(), w.config('ssid'))"
        )
        assert first.strip() + b" " + again.strip(b"\r\n") == joined

    on(board(*faults), scene)


@pytest.mark.parametrize(("faults", "active"), [((), b"False"), (("ap_stays",), b"True")])
def test_an_access_point_that_was_switched_off_stays_off(faults: tuple[str, ...], active: bytes) -> None:
    """A fresh board has it on; off is kept in flash, but for the fault `ap_stays`."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        code = "import network\na = network.WLAN(network.AP_IF)\nprint(a.active())\na.active(False)"
        assert (await session.run(code))[0] == b"True\r\n"
        await session.to_raw_repl()
        printed, _ = await session.run("import network\nprint(network.WLAN(network.AP_IF).active())")
        assert printed == active + b"\r\n"

    on(board(*faults), scene)


def test_webrepl_listens_when_boot_py_starts_it_with_a_password() -> None:
    """Without webrepl_cfg it says that it is not configured; with it, it listens after every start."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        printed, _ = await session.run("import webrepl\nwebrepl.start()\nprint(webrepl.listen_s)")
        assert b"not configured" in printed
        assert printed.endswith(b"None\r\n")
        for name, text in (("webrepl_cfg.py", "PASS = 1"), ("boot.py", "import webrepl\nwebrepl.start()")):
            await session.run(f"with open({name!r}, 'w') as f: f.write({text!r})")
        session.boot()
        assert b"Started webrepl in normal mode" in await session.until(FRIENDLY)
        assert await session.line(b"import webrepl; webrepl.listen_s is None") == b"False\r\n"

    on(board(), scene)


@pytest.mark.parametrize(
    ("fault", "code", "printed"),
    [
        ("slow_clock", "import machine\nmachine.freq(160000000)\nprint(machine.freq())", b"80000000\r\n"),
        ("little_ram", "import gc\nprint(gc.mem_free() < 10000)", b"True\r\n"),
        (
            "weak_radio",
            "import network\nw = network.WLAN(network.STA_IF)\nw.active(True)\nprint(w.scan()[0][3])",
            b"-93\r\n",
        ),
    ],
)
def test_a_weak_part_shows_in_what_the_firmware_says(fault: str, code: str, printed: bytes) -> None:
    """A clock that stays, memory that is not there, and an antenna that is torn off."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert await session.run(code) == (printed, b"")

    on(board(fault), scene)


def test_a_board_that_gives_way_once_does_so_once() -> None:
    """`brownout_once`: the first start of the radio resets the board, the second one does not."""

    async def scene(session: Session) -> None:
        code = "import network\nw = network.WLAN(network.STA_IF)\nw.active(True)\nprint(w.active())"
        await session.to_raw_repl()
        session.type(code.encode() + b"\x04")
        assert await session.until_reset() == "brownout"
        await session.to_raw_repl()
        assert (await session.run(code))[0] == b"True\r\n"

    on(board("brownout_once"), scene)


def test_a_firmware_that_crashes_once_comes_up_the_second_time() -> None:
    """`crashes_once`: banner and watchdog reset; then the prompt."""

    async def scene(session: Session) -> None:
        session.boot()
        assert await session.until_reset() == "watchdog"
        session.heard.clear()
        session.boot()
        await session.until(FRIENDLY)

    on(board("crashes_once"), scene)

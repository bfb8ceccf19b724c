"""Pins that blink by themselves on a virtual board: what tests see of them, and that a reset ends them."""

from station.bench.chip import ResetCause
from tests.bench.firmware_rig import FRIENDLY, Session, board, on


def test_a_pin_blinks_at_the_rate_that_was_set() -> None:
    """Rate and share of each pin; all pins have one rate; what the chip cannot do is brought to what it can, or refused."""
    chip = board()

    async def scene(session: Session) -> None:
        session.boot()
        await session.until(FRIENDLY)
        await session.line(b"import machine; two = machine.PWM(machine.Pin(2), freq=1, duty=512)")
        assert chip.pwm == {2: (1, 512)}
        await session.line(b"machine.PWM(machine.Pin(0), freq=8, duty=100)")
        assert chip.pwm == {2: (8, 512), 0: (8, 100)}
        await session.line(b"two.init(freq=5000, duty=5000)")
        assert chip.pwm[2] == (1000, 1023)
        assert await session.line(b"print(two.freq(), two.duty())") == b"1000 1023\r\n"
        await session.line(b"two.deinit()")
        assert list(chip.pwm) == [0]
        assert b"invalid pin" in await session.line(b"machine.PWM(machine.Pin(16), freq=1)")

    on(chip, scene)


def test_a_board_whose_tx_blinks_says_nothing() -> None:
    """GPIO1 is the UART's TX: what is printed is lost, what is typed is heard, until the pin is let go."""
    chip = board()

    async def scene(session: Session) -> None:
        session.boot()
        await session.until(FRIENDLY)
        session.type(b"import machine; machine.PWM(machine.Pin(1), freq=1, duty=512)\r")
        session.type(b"print('lo' + 'st')\r")
        session.type(b"machine.PWM(machine.Pin(1)).deinit(); print('he' + 'ard')\r")
        said = await session.until(b"heard\r\n")
        assert b"lost" not in said
        assert chip.pwm == {}

    on(chip, scene)


def test_a_reset_ends_it_and_nothing_less_does() -> None:
    """MicroPython's own soft reset is none of the chip; every reset of the chip is one."""
    chip = board()

    async def scene(session: Session) -> None:
        session.boot()
        await session.until(FRIENDLY)
        await session.line(b"import machine; machine.PWM(machine.Pin(2), freq=1, duty=512)")
        session.type(b"\x04")
        await session.until(b"soft reboot")
        await session.until(FRIENDLY)
        assert chip.pwm == {2: (1, 512)}

    on(chip, scene)
    for cause in ResetCause:
        chip.pwm[2] = (1, 512)
        chip.boot(gpio0_low=False, cause=cause)
        assert chip.pwm == {}

"""The LED on the board as a light: when a job is on record, the board blinks slowly for PASS and fast for FAIL.

The pin is driven by the firmware's PWM from then on, until the board loses its power; no file is left behind. It is shown
only after the result was read back, it never changes that result, and its failure is a line in the log. On GPIO1 the LED is
the UART's TX: the board is deaf and dumb afterwards, so that nothing more is said to it.
"""

from __future__ import annotations

from typing import Literal, assert_never

import structlog

from station.errors import ReplSilent, StationError
from station.jobrun import JobRun
from station.model import CommittedJob, Outcome
from station.ports import Repl
from station.properties import Reset
from station.verdict import Verdict
from station.visit import VisitResult

SLOW_HZ, FAST_HZ = 1, 8
"""PASS and FAIL: far enough apart to be told without counting; 1 is the slowest that the ESP8266's PWM can do."""
ANSWER_S = 2.0
"""So long the light of the slot may wait for the board's own."""
UART_TX = 1
log = structlog.get_logger()


def code_for(pin: int, frequency_hz: int) -> str:
    """Return what makes the LED at this pin blink, half of the time on: it hangs at VCC on some boards, at GND on others."""
    return f"import machine;machine.PWM(machine.Pin({pin}),freq={frequency_hz},duty=512)"


def is_wanted(run: JobRun) -> bool:
    """Whether boards of this recipe blink in this slot.

    Where boards move and lines reset them, the station asks the loader after them as soon as the visit is over: no firmware
    goes on there. Golden and red boards are judged, not made.
    """
    properties = run.link.properties
    asked_again = properties.board_moves and properties.reset is Reset.LINES
    return pin_of(run.recipe.signal.led) is not None and not asked_again and run.proving is None


def has_light(run: JobRun, verdict: Verdict) -> bool:
    """Whether this board shall show this verdict: then its line has to stay open until the verdict is on record."""
    answers = run.repl is not None and run.evidence.boot_evidence is not None
    return is_wanted(run) and answers and verdict.outcome in (Outcome.PASS, Outcome.FAIL)


def show(run: JobRun, result: VisitResult) -> None:
    """Make the board show what is on record of it; raises nothing but `LineStopped`."""
    pin = pin_of(run.recipe.signal.led)
    if not isinstance(result, CommittedJob) or run.repl is None or pin is None:
        return
    match result.outcome:
        case Outcome.PASS:
            frequency_hz = SLOW_HZ
        case Outcome.FAIL:
            frequency_hz = FAST_HZ
        case _:
            return
    code = code_for(pin, frequency_hz)
    try:
        if pin == UART_TX:
            _type_last_words(run, run.repl, code)
        else:
            run.repl.run(code, ANSWER_S)
            run.repl.leave()
    except StationError as error:
        log.warning("board.does_not_blink", pin=pin, problem=f"{type(error).__name__}: {error}")


def _type_last_words(run: JobRun, repl: Repl, code: str) -> None:
    """Type the code at the friendly prompt, which echoes it, and end the line only then: after that there is no TX."""
    repl.leave()
    line, clock, said = run.link.line, run.tools.clock, b""
    line.send(code.encode())
    deadline = clock() + ANSWER_S
    while code.encode() not in said:
        if (left_s := deadline - clock()) <= 0:
            raise ReplSilent("the prompt does not echo")
        said += line.read_some(left_s)
    line.send(b"\r")


def pin_of(led: Literal["none", "gpio1", "gpio2"]) -> int | None:
    """Return the number of the LED's pin; None where the recipe wants no light."""
    match led:
        case "none":
            return None
        case "gpio1":
            return UART_TX
        case "gpio2":
            return 2
        case _:
            assert_never(led)

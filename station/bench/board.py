"""A chip with power: which program runs on it, and what it says to the bytes it hears. Sans-IO.

Promises one order of things whatever the pace: bytes come in with their times, effects go out with theirs. It knows the
faults that act in the loaders (a board that stops answering, hangs for good or resets itself); those of the hand
(unplug, lift) it only reports. The firmware itself runs elsewhere; here it is only known to run.
"""

from dataclasses import dataclass

from station.bench.chip import ROM_BAUD, UART_CLOCK_HZ, Boot, BootTo, Chip, ResetCause
from station.bench.faults import Fault
from station.bench.loader import (
    Effect,
    Mishap,
    Programming,
    Restart,
    RunFlash,
    Send,
    StartStub,
    StartUnknown,
)
from station.bench.registers import Registers
from station.bench.rom import RomLoader
from station.bench.slip import Decoder, encode
from station.bench.stub import FlasherStub

FIRMWARE_START_S = 0.4
"""From the reset to the application's first line (assumed; the reference chip has the same)."""
SELF_RESET_S = 0.05
"""How long a board that lost its supply for a moment is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Bytes leave the chip's TX at `at_s`, at `baud`."""

    at_s: float
    baud: float
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFirmware:
    """The firmware in flash starts at `at_s`."""

    at_s: float


BoardEffect = Say | StartFirmware | Restart | Mishap


class Board:
    """One board under power.

    `frames_lost` counts the frames its loaders could not take: malformed, or too early for the stub's buffers.
    """

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.frames_lost = 0
        self._programming = Programming(chip)
        self._registers = Registers(chip)
        self._loader: RomLoader | FlasherStub | None = None
        self._decoder = Decoder()
        self._silent = False

    @property
    def in_loader(self) -> bool:
        """Whether ROM or stub is listening."""
        return self._loader is not None

    def hears(self, host_baud: float, tolerance: float) -> bool:
        """Whether the loader's UART can read bytes sent at `host_baud`; before its first SYNC the ROM reads any."""
        if isinstance(self._loader, RomLoader) and self._loader.autobaud:
            return True
        return abs(self._uart_baud / host_baud - 1) <= tolerance

    def boot(self, *, gpio0_low: bool, cause: ResetCause, at_s: float) -> list[BoardEffect]:
        """Start at `at_s`: by power, by the lines, or by itself."""
        if cause.samples_pins:
            self._silent = False
        self._loader = None
        self._decoder = Decoder()
        self._registers = Registers(self.chip)
        return self._follow(self.chip.boot(gpio0_low=gpio0_low, cause=cause), at_s)

    def hear(self, data: bytes, *, begun_s: float, byte_s: float, host_baud: float) -> list[BoardEffect]:
        """Bytes at the RX pin, the first one begun at `begun_s`, each taking `byte_s`."""
        effects: list[BoardEffect] = []
        for frame in self._decoder.feed(data):
            if frame.payload is None:
                self.frames_lost += 1
                continue
            began_s = begun_s + frame.begun * byte_s
            ended_s = begun_s + (frame.ended + 1) * byte_s
            effects += self._settle(self._take(frame.payload, began_s, ended_s, host_baud))
        return effects

    @property
    def _uart_baud(self) -> float:
        return UART_CLOCK_HZ / self._registers.uart_divider

    def _take(self, payload: bytes, began_s: float, ended_s: float, host_baud: float) -> list[Effect]:
        """One frame for the program that runs."""
        if self._silent or self.chip.hung or self._loader is None:
            return []
        if isinstance(self._loader, RomLoader):
            return self._loader.receive(payload, ended_s, host_baud)
        lost = self._loader.frames_lost
        effects = self._loader.receive(payload, began_s, ended_s)
        self.frames_lost += self._loader.frames_lost - lost
        return effects

    def _settle(self, effects: list[Effect]) -> list[BoardEffect]:
        """Turn a loader's effects into the board's."""
        settled: list[BoardEffect] = []
        for effect in effects:
            match effect:
                case Send():
                    baud = UART_CLOCK_HZ / effect.divider
                    settled.append(Say(at_s=effect.at_s, baud=baud, data=encode(effect.payload)))
                case StartStub():
                    stub = FlasherStub(self.chip, self._registers, self._programming, effect.version)
                    self._loader = stub
                    settled += self._settle(stub.greet(effect.at_s))
                case StartUnknown():
                    self._loader = None
                case RunFlash() if self.chip.fault("no_soft_start") is not None:
                    pass  # ROM or stub, it goes on listening
                case RunFlash():
                    self._loader = None
                    settled += self._follow(self.chip.start_flash(), effect.at_s)
                case Restart():
                    settled.append(effect)
                case Mishap():
                    settled += self._strike(effect.fault, effect.at_s)
        return settled

    def _follow(self, boot: Boot, at_s: float) -> list[BoardEffect]:
        """What a start of the chip brings about."""
        effects: list[BoardEffect] = []
        if boot.chatter:
            effects.append(Say(at_s=at_s, baud=ROM_BAUD, data=boot.chatter))
        match boot.to:
            case BootTo.LOADER:
                self._loader = RomLoader(self.chip, self._registers, self._programming)
            case BootTo.FIRMWARE:
                effects.append(StartFirmware(at_s=at_s + FIRMWARE_START_S))
            case BootTo.NOWHERE:
                pass
        return effects

    def _strike(self, fault: Fault, at_s: float) -> list[BoardEffect]:
        """A fault in the middle of a write."""
        match fault.token:
            case "drop":
                self._silent = True
            case "hang":
                self.chip.hung = True
            case "reset":
                self._loader = None
                return [Restart(at_s=at_s + SELF_RESET_S, cause=ResetCause.BROWNOUT)]
            case _:
                self._silent = True
                return [Mishap(at_s=at_s, fault=fault)]
        return []

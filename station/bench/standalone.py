"""`station bench`: only the virtual boards, for any serial client: ttys linked as `DIR/<slot label>`, or USB devices.

A pty has no modem lines, so closing the port is the power cycle unless the person at standard input does that by hand: one
command per line, `typed.COMMANDS`. As USB devices the programmers have their lines, and ttys of the kernel's own;
`DIR/slots.json` says which socket is which. On SIGUSR1 and at the end each board's flash is written to
`DIR/<slot label>.flash`, by the slot in which it began, then the counts to `DIR/stats.json`; each file appears whole. It
must never take away a file in DIR that is not a link.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from station.bench.faults import Fault
from station.bench.firmware import MicroPythonHost
from station.bench.image import make_image
from station.bench.linked_port import LinkedPort
from station.bench.programmer import ProgrammerKind
from station.bench.scenario import PlannedBoard, fresh_board, plan
from station.bench.table import Table, write_whole
from station.bench.table_port import TablePort
from station.bench.typed import typed_lines
from station.bench.usb.attached_port import AttachedPort, TowerLight
from station.bench.usb.vhci import VhciSocket, sockets
from station.errors import ConfigurationError
from station.properties import Gpio0, Reset
from station.slotmap import label_number

BootSwitch = Literal["rom", "run", "auto"]
_JUMPERS: dict[BootSwitch, bool | None] = {"rom": True, "run": False, "auto": None}
FIRST_NICE = -10
"""The driver waits for one second for an answer to a control request, no longer."""
TOWER_LIGHT = "tower_light"
"""What the light is called in the files, where slots have labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsbRequest:
    """What is asked of USB devices.

    Whether lines reach EN and GPIO0, whether there is a tower light besides, and whether programmers begin in the hand.
    """

    lines: bool
    tower_light: bool
    unplugged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneRequest:
    """What the command line asks for.

    `boot` is how the jumper of every programmer is set at first: `rom` at GND, `run` off, `auto` a hand that grounds GPIO0
    for a board without a bootable image. With `keep_power` closing a port is nothing to its board, as with a real one.
    `usb` is None for ptys.
    """

    slots: int
    directory: Path
    boot: BootSwitch
    pace: float
    seed: int
    faults: Sequence[tuple[str, Fault]]
    keep_power: bool = False
    usb: UsbRequest | None = None

    @property
    def kind(self) -> ProgrammerKind:
        """How the programmers are built: a pty can carry no lines, and a USB device's board keeps its power."""
        if self.usb is not None and self.usb.lines:
            return ProgrammerKind()
        return ProgrammerKind(
            reset=Reset.NONE,
            gpio0=Gpio0.HAND,
            jumper_low=_JUMPERS[self.boot],
            close_cuts_power=self.usb is None and not self.keep_power,
        )


async def run_standalone(
    request: StandaloneRequest, *, finish: asyncio.Event, say: Callable[[str], None] = lambda _: None
) -> None:
    """Serve the boards, and do what is typed at standard input, until `finish` is set; `say` gets what was done.

    Raises `ConfigurationError` for a directory or a controller that cannot be used or a missing interpreter, and what
    `check_faults` raises.
    """
    labels = [label_number(number) for number in range(request.slots)]
    usb, image = request.usb is not None, make_image()
    boards = plan(labels, request.slots, request.seed, request.faults, image, usb=usb).boards
    # `reused_mac` is the last of its two boards: the one that wears the MAC of an earlier run with the same seed.
    first = {label: boards[label][-1] for label in labels}
    host = MicroPythonHost(pace=request.pace)
    places = _sockets(request, labels, say) if usb else {}
    ports = _attached(request, first, places, host) if usb else _linked(request, first, host)
    light = TowerLight(places[TOWER_LIGHT]) if TOWER_LIGHT in places else None
    seeds = itertools.count(request.seed)

    def fresh(label: str, faults: tuple[Fault, ...], macs: Mapping[str, bytes]) -> PlannedBoard:
        return fresh_board(label, faults, macs=macs, seed=next(seeds), image=image, usb=usb)

    table = Table(
        ports,
        {label: board.chip for label, board in first.items()},
        request.directory,
        fresh=fresh,
        more_stats=lambda: {} if light is None else {TOWER_LIGHT: light.stats},
    )
    await host.start()
    if usb:
        _go_first()
    loop = asyncio.get_running_loop()
    # Before the first link: whoever sees a link may ask for the counts.
    loop.add_signal_handler(signal.SIGUSR1, table.dump)
    try:
        with ExitStack() as stack:
            await _plug(request, [*ports.values(), *([] if light is None else [light])], stack)
            async with asyncio.TaskGroup() as hands:
                person = hands.create_task(_obey(table, say))
                await finish.wait()
                person.cancel()
            table.dump()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        await host.close()


def _go_first() -> None:
    """Adapters do not slow down because the host has much to do."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST_NICE)


async def _plug(request: StandaloneRequest, ports: Sequence[TablePort | TowerLight], stack: ExitStack) -> None:
    """Plug in what begins plugged in; everything is pulled when `stack` ends."""
    for port in ports:
        stack.callback(port.unplug)
        if request.usb is None or not request.usb.unplugged or isinstance(port, TowerLight):
            await port.plug()


def _linked(
    request: StandaloneRequest, boards: Mapping[str, PlannedBoard], host: MicroPythonHost
) -> dict[str, TablePort]:
    """The programmers as ptys."""
    links = _clear_directory(request.directory, tuple(boards))
    return _ports(request, boards, host, lambda label: partial(LinkedPort, links[label]))


def _attached(
    request: StandaloneRequest,
    boards: Mapping[str, PlannedBoard],
    places: Mapping[str, VhciSocket],
    host: MicroPythonHost,
) -> dict[str, TablePort]:
    """The programmers as USB devices."""
    return _ports(request, boards, host, lambda label: partial(AttachedPort, places[label]))


def _ports(
    request: StandaloneRequest,
    boards: Mapping[str, PlannedBoard],
    host: MicroPythonHost,
    port_at: Callable[[str], Callable[..., TablePort]],
) -> dict[str, TablePort]:
    return {
        label: port_at(label)(
            board.chip,
            board.exchange,
            boot_firmware=host.boot,
            kind=request.kind,
            pace=request.pace,
            seed=request.seed + number,
        )
        for number, (label, board) in enumerate(boards.items())
    }


def _sockets(request: StandaloneRequest, labels: Sequence[str], say: Callable[[str], None]) -> dict[str, VhciSocket]:
    """The kernel's sockets by label, said and written to `slots.json`."""
    names = [*labels, *([TOWER_LIGHT] if request.usb is not None and request.usb.tower_light else [])]
    places = dict(zip(names, sockets(len(names)), strict=True))
    _clear_directory(request.directory, ())
    written = {name: {"vhci_port": place.number, "id_path": place.id_path} for name, place in places.items()}
    write_whole(request.directory / "slots.json", msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n")
    for name, place in places.items():
        say(f"{name}: vhci port {place.number}, ID_PATH {place.id_path}")
    return places


def _clear_directory(directory: Path, labels: Sequence[str]) -> dict[str, Path]:
    """Make the directory; return where the links will be, after taking away those of an earlier run."""
    links = {label: directory / label for label in labels}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for link in links.values():
            if link.is_symlink():
                link.unlink()
            elif link.exists():
                raise ConfigurationError(
                    file=str(link), problem="exists and is no link", fix="name another directory, or remove it"
                )
    except OSError as error:
        raise ConfigurationError(
            file=str(directory), problem=f"cannot be used ({error.strerror})", fix="name a directory you may write to"
        ) from None
    return links


async def _obey(table: Table, say: Callable[[str], None]) -> None:
    """Do what is typed, line by line, and say what came of it."""
    async for line in typed_lines():
        if not line.split():
            continue
        try:
            say(await table.do(line))
        except (ValueError, OSError) as refused:
            say(f"{line.strip()}: {refused}")

"""The virtual programmer through its tty: power, lines, bauds, pace, and the faults that are seen from outside."""

import asyncio
import errno
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import serial

from station.bench.chip import make_chip
from station.bench.clock import Clock
from station.bench.faults import Fault
from station.bench.loader import Command
from station.bench.programmer import ProgrammerKind, VirtualProgrammer
from station.properties import Gpio0, Reset
from tests.bench.bench_rig import (
    LINES,
    MAC,
    RUNNING,
    STICK,
    FakeFirmware,
    RawClient,
    bootable_image,
    chip_with,
    data_request,
    programmer_with,
    request,
    write_begin,
)

T = TypeVar("T")
READ_MAGIC = request(Command.READ_REG, struct.pack("<I", 0x40001000))


def bench(story: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run a story on an event loop of its own."""
    return asyncio.run(asyncio.wait_for(story(), 60))


async def elsewhere(deed: Callable[..., T], *arguments: object, **named: object) -> T:
    """Do this in another thread, as a client would."""
    return await asyncio.to_thread(deed, *arguments, **named)


async def open_client(programmer: VirtualProgrammer, path: str, baud: int = 115200) -> RawClient:
    """A client whose opening the bench has noticed."""
    del programmer
    return await elsewhere(RawClient, path, baud)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for this, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def closed(client: RawClient) -> None:
    """Close the tty."""
    await elsewhere(client.close)


async def power_cycled(programmer: VirtualProgrammer, client: RawClient) -> None:
    """Close the tty of a programmer without lines, and wait for its board to start again."""
    before = programmer.stats.resets
    await elsewhere(client.close)
    await until(lambda: programmer.stats.resets == before + 1)


async def greeted(programmer: VirtualProgrammer) -> None:
    """Wait until the firmware runs and has said its greeting."""
    await until(lambda: programmer._firmware is not None)
    await asyncio.sleep(0.02)


async def reset_into(programmer: VirtualProgrammer, *, loader: bool) -> None:
    """The reset of a two-transistor circuit, moved line by line as the classic sequence does."""
    before = programmer.stats.resets
    for dtr, rts in ((False, True), (True, True), (True, False)) if loader else ((False, True), (False, False)):
        await elsewhere(programmer.set_lines, dtr=dtr, rts=rts)
    await until(lambda: programmer.chip is None or programmer.stats.resets == before + 1)
    await elsewhere(programmer.set_lines, dtr=False, rts=False)


def test_pulling_the_programmer_ends_a_read_and_a_write_as_the_kernel_does() -> None:
    """A blocked read returns at once with readiness and no data, a write gets EIO, and the tty is gone."""

    async def story() -> None:
        programmer = programmer_with(None)
        path = programmer.plug()
        tty = await elsewhere(serial.Serial, path, 115200, timeout=30)
        reading = asyncio.create_task(elsewhere(tty.read, 1))
        await asyncio.sleep(0.05)
        programmer.unplug()
        with pytest.raises(serial.SerialException, match="readiness to read but returned no data"):
            await reading
        with pytest.raises(serial.SerialException, match="Errno 5"):
            await elsewhere(tty.write, b"x")
        tty.close()
        with pytest.raises(OSError, match="not plugged in"):
            programmer.set_lines(dtr=True, rts=False)
        assert path not in await elsewhere(lambda: [str(tty) for tty in Path("/dev/pts").iterdir()])
        programmer.unplug()

    bench(story)


def test_the_lines_choose_between_loader_and_firmware() -> None:
    """EN's rise with GPIO0 low is the loader, without it the firmware; the boot message comes at 74880 baud."""

    async def story() -> None:
        programmer = programmer_with(chip_with(image=bootable_image()), LINES)
        path = programmer.plug()
        client = await open_client(programmer, path, 74880)
        await reset_into(programmer, loader=True)
        assert b"rst cause:2, boot mode:(1,7)" in await elsewhere(client.text, b"boot mode")
        client.tty.baudrate = 115200
        assert await elsewhere(client.sync)
        client.tty.baudrate = 74880
        await reset_into(programmer, loader=False)
        assert b"boot mode:(3,7)\r\n\r\nload 0x40100000" in await elsewhere(client.text, b"csum")
        client.tty.baudrate = 115200
        await elsewhere(client.tty.write, b"shout\n")
        assert b"SHOUT" in await elsewhere(client.text, b"SHOUT")
        await closed(client)
        programmer.unplug()

    bench(story)


def test_the_board_is_silent_while_en_is_low() -> None:
    """Nothing is answered in reset, and the firmware that ran has ended without another word."""

    async def story() -> None:
        programmer = programmer_with(chip_with(image=bootable_image()), LINES)
        path = programmer.plug()
        client = await open_client(programmer, path)
        await elsewhere(client.tty.write, b"a")
        assert b"A" in await elsewhere(client.text, b"A")
        await elsewhere(programmer.set_lines, dtr=False, rts=True)
        await elsewhere(client.tty.write, b"b")
        assert await elsewhere(client.text, b"B", 0.1) == b""
        await reset_into(programmer, loader=True)
        assert await elsewhere(client.sync)
        await elsewhere(programmer.set_lines, dtr=False, rts=True)
        assert not await elsewhere(client.sync, 0.1)
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_bench_that_is_late_reads_the_boot_pin_as_it_was_when_en_rose() -> None:
    """However long the machine stood still meanwhile: GPIO0 counts at the rise, not when somebody has time to look."""

    async def story() -> None:
        programmer = programmer_with(chip_with(image=bootable_image()), LINES)
        programmer.plug()
        before = programmer.stats.resets
        for dtr, rts in ((False, True), (True, False), (False, False)):
            programmer.set_lines(dtr=dtr, rts=rts)
            time.sleep(0.05)  # noqa: ASYNC251 - nobody else gets a turn
        await until(lambda: programmer.stats.resets == before + 1)
        assert programmer.chip is not None
        assert programmer.chip.gpio0_was_low
        await asyncio.sleep(0.02)
        assert programmer.stats.resets == before + 1
        programmer.unplug()

    bench(story)


def test_opening_asserts_both_lines_and_nothing_happens() -> None:
    """DTR and RTS asserted together, as the kernel does at open, leave the chip running."""

    async def story() -> None:
        programmer = programmer_with(chip_with(image=bootable_image()), LINES)
        programmer.plug()
        before = programmer.stats.resets
        for dtr, rts in ((True, True), (False, False), (True, False), (False, False)):
            programmer.set_lines(dtr=dtr, rts=rts)
            await asyncio.sleep(0.01)
        assert programmer.stats.resets == before == 1
        programmer.unplug()

    bench(story)


def test_both_lines_asserted_is_no_low_boot_pin() -> None:
    """When EN rises because DTR joins RTS and both stay, GPIO0 is high and the firmware starts."""

    async def story() -> None:
        programmer = programmer_with(chip_with(image=bootable_image()), LINES)
        programmer.plug()
        for dtr, rts in ((False, True), (True, True)):
            programmer.set_lines(dtr=dtr, rts=rts)
        assert programmer._firmware is None
        await greeted(programmer)
        programmer.unplug()

    bench(story)


@pytest.mark.parametrize("kind", [STICK, replace(STICK, close_cuts_power=False), LINES])
def test_closing_is_a_power_cycle_only_where_a_client_has_no_other(kind: ProgrammerKind) -> None:
    """Where closing cuts the power the board starts anew, with a stick as it really is, and with lines, a stub stays."""

    async def story() -> None:
        programmer = programmer_with(chip_with(), kind)
        path = programmer.plug()
        client = await open_client(programmer, path)
        if kind is LINES:
            await reset_into(programmer, loader=True)
        await elsewhere(client.start_stub)
        before = programmer.stats.resets
        if kind.close_cuts_power:
            await power_cycled(programmer, client)
        else:
            await closed(client)
            await asyncio.sleep(0.05)
            assert programmer.stats.resets == before
        client = await open_client(programmer, path)
        await elsewhere(client.send, request(Command.SYNC, b"\x07\x07\x12\x20" + b"\x55" * 32))
        replies = await elsewhere(client.frames, 8)
        assert (replies[0][4:8] != bytes(4)) == kind.close_cuts_power, "the value of a stub is 0"
        await closed(client)
        programmer.unplug()

    bench(story)


def test_what_was_written_just_before_closing_still_arrives() -> None:
    """A client that writes and closes at once has told the board."""

    async def story() -> None:
        chip = chip_with()
        programmer = programmer_with(chip)
        path = programmer.plug()
        client = await open_client(programmer, path)
        await elsewhere(client.start_stub)
        chip.flash.data[:] = bytes(len(chip.flash.data))

        def erase_and_go() -> None:
            client.send(request(Command.ERASE_FLASH))
            client.close()

        await elsewhere(erase_and_go)
        await until(lambda: programmer.stats.resets == 2)
        assert chip.flash.data == b"\xff" * len(chip.flash.data)
        programmer.unplug()

    bench(story)


async def comes_up_in_loader(kind: ProgrammerKind, image: bytes) -> bool:
    """Whether a board with this in its flash starts its loader when it gets power in such a programmer."""
    programmer = programmer_with(chip_with(image=image), kind)
    client = await open_client(programmer, programmer.plug())
    answers = await elsewhere(client.sync, 0.2)
    await closed(client)
    programmer.unplug()
    return answers


@pytest.mark.parametrize(
    ("kind", "blank", "flashed"),
    [
        (STICK, True, True),
        (RUNNING, False, False),
        (replace(STICK, jumper_low=None), True, False),
        (ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW), True, True),
        (ProgrammerKind(reset=Reset.LINES, gpio0=Gpio0.NEVER_LOW), False, False),
        (LINES, False, False),
    ],
)
def test_where_a_board_comes_up_when_it_gets_power(kind: ProgrammerKind, *, blank: bool, flashed: bool) -> None:
    """GPIO0 decides: a jumper, solder, or nobody; a hand that thinks grounds it until there is a bootable image."""
    assert bench(lambda: comes_up_in_loader(kind, b"")) == blank
    assert bench(lambda: comes_up_in_loader(kind, bootable_image())) == flashed


@pytest.mark.parametrize("low", [True, False])
def test_a_reset_line_may_go_with_a_jumper(low: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """RTS restarts the board; where it ends is the jumper's matter at that moment, whatever DTR does."""

    async def story() -> None:
        kind = ProgrammerKind(reset=Reset.LINES, gpio0=Gpio0.HAND, jumper_low=not low)
        programmer = programmer_with(chip_with(image=bootable_image()), kind)
        client = await open_client(programmer, programmer.plug())
        programmer.jumper_low = low
        await reset_into(programmer, loader=not low)
        assert await elsewhere(client.sync, 0.3) == low
        await closed(client)
        programmer.unplug()

    bench(story)


def test_lines_that_reach_nothing_do_nothing() -> None:
    """Without a reset line no sequence of DTR and RTS restarts the board or silences it."""

    async def story() -> None:
        programmer = programmer_with(chip_with(), ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND))
        client = await open_client(programmer, programmer.plug())
        await elsewhere(client.start_stub)
        for dtr, rts in ((True, True), (False, True), (True, False), (False, True)):
            await elsewhere(programmer.set_lines, dtr=dtr, rts=rts)
            assert await elsewhere(client.ask, READ_MAGIC) is not None
        assert programmer.stats.resets == 1
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_board_can_be_lifted_and_another_seated() -> None:
    """The tty stays and is silent in between; the new board answers with its own identity."""

    async def story() -> None:
        first = chip_with()
        programmer = programmer_with(first)
        client = await open_client(programmer, programmer.plug())
        assert await elsewhere(client.sync)
        assert programmer.lift() is first
        assert not await elsewhere(client.sync, 0.1)
        with pytest.raises(RuntimeError, match="plugged in already"):
            programmer.plug()
        programmer.seat(make_chip(mac=bytes.fromhex("ecfabc010203")))
        with pytest.raises(RuntimeError, match="a board in the programmer already"):
            programmer.seat(first)
        assert await elsewhere(client.sync)
        reply = await elsewhere(client.ask, request(Command.READ_REG, struct.pack("<I", 0x3FF0005C)))
        assert reply is not None
        assert reply[4:8] == b"\xbc\xfa\xec\0"
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_reset_by_the_firmware_keeps_the_boot_latch() -> None:
    """It asks for a restart and comes up again, although GPIO0 is low by now; after a power cycle it is the loader."""

    async def story() -> None:
        chip = chip_with(image=bootable_image())
        programmer = programmer_with(chip, RUNNING)
        path = programmer.plug()
        await greeted(programmer)
        client = await open_client(programmer, path)
        programmer.jumper_low = True
        await elsewhere(client.tty.write, b"!")
        assert (await elsewhere(client.text, b"hello")).endswith(b"hello\r\n")
        assert chip.reset_cause == "software"
        await power_cycled(programmer, client)
        client = await open_client(programmer, path)
        assert await elsewhere(client.sync)
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_client_at_another_baud_reads_and_says_nonsense() -> None:
    """More than three per cent apart nothing is understood in either direction; the firmware's words are garbage."""

    async def story() -> None:
        programmer = programmer_with(chip_with())
        client = await open_client(programmer, programmer.plug())
        assert await elsewhere(client.sync)
        client.tty.baudrate = 230400
        assert await elsewhere(client.ask, READ_MAGIC, 0.2) is None
        client.tty.baudrate = 117000
        assert await elsewhere(client.ask, READ_MAGIC) is not None
        assert programmer.stats.frames_lost > 0
        await closed(client)
        programmer.unplug()
        programmer = programmer_with(chip_with(image=bootable_image()), RUNNING)
        path = programmer.plug()
        await greeted(programmer)
        client = await open_client(programmer, path, 9600)
        assert isinstance(programmer._firmware, FakeFirmware)
        programmer._firmware.emit(b"plain words")
        heard = await elsewhere(client.text, b"plain words", 0.1)
        assert heard != b""
        assert b"plain words" not in heard
        await elsewhere(client.tty.write, b"what")
        await until(lambda: programmer.stats.bytes_from_host == 4)
        client.tty.baudrate = 115200
        assert b"WHAT" not in await elsewhere(client.text, b"WHAT", 0.1)
        await closed(client)
        programmer.unplug()

    bench(story)


def test_the_board_talks_to_nobody_while_the_port_is_closed() -> None:
    """What a firmware says without a client is lost, as in the kernel, and does not wait for the next one."""

    async def story() -> None:
        started = FakeFirmware.started
        programmer = programmer_with(chip_with(image=bootable_image()), RUNNING)
        path = programmer.plug()
        await greeted(programmer)
        assert FakeFirmware.started == started + 1
        client = await open_client(programmer, path)
        assert await elsewhere(client.text, b"hello", 0.1) == b""
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_client_that_sets_nothing_does_not_echo() -> None:
    """The tty is raw before anybody opens it: what the board says does not come back to it as input."""

    async def story() -> None:
        programmer = programmer_with(chip_with(image=bootable_image()), RUNNING)
        path = programmer.plug()
        await greeted(programmer)
        tty = os.open(path, os.O_RDWR | os.O_NOCTTY)
        assert isinstance(programmer._firmware, FakeFirmware)
        programmer._firmware.baud = 38400
        programmer._firmware.emit(b"echo?\n")
        assert await elsewhere(os.read, tty, 100) == b"echo?\n"
        await asyncio.sleep(0.02)
        assert programmer.stats.bytes_from_host == 0
        os.close(tty)
        programmer.unplug()

    bench(story)


def test_time_passes_at_the_pace_asked_for() -> None:
    """A sector's erase is 45 ms at pace 1, ten times that at pace 10, and the answer never comes before."""

    async def answer_after(pace: float) -> float:
        programmer = programmer_with(chip_with(), pace=pace)
        client = await open_client(programmer, programmer.plug(), 921600)
        await elsewhere(client.start_stub)
        begun = time.monotonic()
        assert await elsewhere(client.ask, request(Command.ERASE_REGION, struct.pack("<II", 0, 4096)), 5.0)
        took = time.monotonic() - begun
        await closed(client)
        programmer.unplug()
        return took

    assert bench(lambda: answer_after(1.0)) > 0.045
    assert bench(lambda: answer_after(4.0)) > 0.18


def test_the_wire_is_no_faster_than_its_baud() -> None:
    """At pace 1 three thousand bytes at 115200, there and back, take at least the 0.26 s they take one way."""

    async def story() -> float:
        programmer = programmer_with(chip_with(image=bootable_image()), RUNNING, pace=1.0)
        client = await open_client(programmer, programmer.plug())
        assert b"hello" in await elsewhere(client.text, b"hello")
        begun = time.monotonic()
        await elsewhere(client.tty.write, b"x" * 3000)
        heard = b""
        while heard.count(b"X") < 3000 and time.monotonic() < begun + 10:
            heard += await elsewhere(client.tty.read, 4096)
        took = time.monotonic() - begun
        assert heard == b"X" * 3000
        await closed(client)
        programmer.unplug()
        return took

    assert bench(story) > 3000 * 10 / 115200


def whole_write(client: RawClient, content: bytes) -> tuple[int, bytes | None]:
    """Write in blocks through stub "2"; how many were acknowledged and, if all, the chip's own MD5."""
    client.start_stub()
    blocks = [content[at : at + 0x4000] for at in range(0, len(content), 0x4000)]
    assert client.ask(write_begin(len(content), 0)) is not None
    for seq, block in enumerate(blocks):
        if client.ask(data_request(Command.FLASH_DATA, block, seq), 1.0) is None:
            return seq, None
    client.ask(request(Command.FLASH_END, struct.pack("<I", 1)))
    reply = client.ask(request(Command.SPI_FLASH_MD5, struct.pack("<IIII", 0, len(content), 0, 0)))
    return len(blocks), None if reply is None else reply[8:24]


CONTENT = bytes(range(256)) * 640


@pytest.mark.parametrize("pace", [0.0, 0.02])
def test_a_whole_write_ends_with_the_right_md5_at_any_pace(pace: float) -> None:
    """The same conversation leaves the same flash whether time is waited for or not."""

    async def story() -> None:
        chip = chip_with()
        programmer = programmer_with(chip, pace=pace)
        client = await open_client(programmer, programmer.plug())
        result = await elsewhere(whole_write, client, CONTENT)
        assert result == (10, hashlib.md5(CONTENT, usedforsecurity=False).digest())
        assert chip.flash.data[: len(CONTENT)] == CONTENT
        stats = programmer.stats
        assert stats.programs == len(CONTENT) // 256
        assert stats.bytes_from_host > len(CONTENT)
        assert stats.bytes_to_host > 0
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_removed_board_leaves_total_silence_and_a_tty() -> None:
    """At its percentage the board is lifted and the bench is told; the lines reset nothing any more."""

    async def story() -> None:
        told: list[Fault] = []
        programmer = programmer_with(chip_with("removed@50"), LINES)
        programmer.on_progress_fault = told.append
        client = await open_client(programmer, programmer.plug())
        await reset_into(programmer, loader=True)
        assert await elsewhere(whole_write, client, CONTENT) == (5, None)
        assert told == [Fault("removed", "50")]
        assert programmer.chip is None
        client.tty.baudrate = 74880
        await reset_into(programmer, loader=True)
        assert await elsewhere(client.text, b"boot mode", 0.2) == b""
        await closed(client)
        programmer.unplug()

    bench(story)


def test_an_unplug_fault_asks_the_bench_to_pull() -> None:
    """At its percentage the callback comes on the loop, where the programmer may be pulled at once."""

    async def story() -> None:
        programmer = programmer_with(chip_with("unplug@20"))
        programmer.on_progress_fault = lambda _: programmer.unplug()
        client = await open_client(programmer, programmer.plug())
        with pytest.raises(serial.SerialException):
            await elsewhere(whole_write, client, CONTENT)
        client.close()

    bench(story)


def test_a_board_that_resets_itself_says_its_boot_message() -> None:
    """In the middle of the write the loader is gone and the ROM's first line is heard."""

    async def story() -> None:
        programmer = programmer_with(chip_with("reset@50"))
        client = await open_client(programmer, programmer.plug())

        def until_reset() -> bytes:
            client.start_stub()
            client.ask(write_begin(len(CONTENT), 0))
            for seq in range(5):
                client.ask(data_request(Command.FLASH_DATA, CONTENT[:0x4000], seq))
            client.tty.baudrate = 74880
            return client.text(b"boot mode:(1,7)", 0.5)

        heard = await elsewhere(until_reset)
        # The bauds change while it may already be speaking, so only that it starts anew is certain.
        assert programmer.stats.resets == 2
        client.tty.baudrate = 115200
        assert heard == b"" or await elsewhere(client.sync)
        await closed(client)
        programmer.unplug()

    bench(story)


def test_an_echoing_adapter_gives_our_own_bytes_back() -> None:
    """Every byte sent comes back and nothing else does."""

    async def story() -> None:
        programmer = programmer_with(chip_with("echo"))
        client = await open_client(programmer, programmer.plug())
        await elsewhere(client.tty.write, b"\xc0anybody?\xc0")
        assert await elsewhere(client.text, b"?\xc0") == b"\xc0anybody?\xc0"
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_board_that_does_not_answer_says_nothing_at_all() -> None:
    """Neither a reply nor a boot message, at any baud."""

    async def story() -> None:
        programmer = programmer_with(chip_with("no_answer", image=bootable_image()), LINES)
        client = await open_client(programmer, programmer.plug(), 74880)
        await reset_into(programmer, loader=True)
        client.tty.baudrate = 115200
        assert not await elsewhere(client.sync, 0.1)
        assert programmer.stats.bytes_to_host == 0
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_deaf_adapter_is_cured_by_nothing_but_a_new_plug() -> None:
    """After a few answers reads give nothing, without an error; opening again does not help, plugging in again does."""

    async def story() -> None:
        programmer = programmer_with(chip_with("adapter_deaf"))
        path = programmer.plug()
        client = await open_client(programmer, path)
        assert await elsewhere(client.sync)
        assert await elsewhere(client.ask, READ_MAGIC) is not None
        answers = [await elsewhere(client.ask, READ_MAGIC, 0.1) for _ in range(6)]
        assert answers[-2:] == [None, None]
        await power_cycled(programmer, client)
        client = await open_client(programmer, path)
        assert not await elsewhere(client.sync, 0.1)
        await closed(client)
        programmer.unplug()
        client = await open_client(programmer, programmer.plug())
        for _ in range(4):
            assert await elsewhere(client.sync)
        await closed(client)
        programmer.unplug()

    bench(story)


def test_a_hung_adapter_hangs_until_it_is_plugged_in_again() -> None:
    """The opener is told to fail during the first plug only."""

    async def story() -> None:
        chip = chip_with("adapter_hung")
        programmer = programmer_with(chip)
        programmer.plug()
        assert programmer.control_hung
        programmer.unplug()
        programmer.plug()
        assert not programmer.control_hung
        assert not programmer_with(chip).control_hung
        programmer.unplug()
        assert not programmer_with(chip_with()).control_hung

    bench(story)


def test_noise_is_the_same_for_the_same_seed_and_falls_with_the_baud() -> None:
    """What a noisy contact corrupts is repeatable, and at a sixteenth of the baud it is next to nothing."""

    async def heard(baud: int) -> bytes:
        programmer = programmer_with(chip_with("noise@0.05", image=bootable_image()), RUNNING)
        path = programmer.plug()
        await greeted(programmer)
        client = await open_client(programmer, path)
        assert programmer._firmware is not None
        programmer._firmware.baud = baud
        client.tty.baudrate = baud
        await elsewhere(client.tty.write, b"y" * 2000)
        got = b""
        deadline = time.monotonic() + 10
        while len(got) < 2000 and time.monotonic() < deadline:
            got += await elsewhere(client.tty.read, 2000)
        await closed(client)
        programmer.unplug()
        return got

    loud, again, quiet = (bench(partial(heard, baud)) for baud in (460800, 460800, 28800))
    assert loud == again
    assert 50 < 2000 - loud.count(b"Y") < 400
    assert quiet.count(b"Y") >= 1999


def test_a_client_that_never_reads_costs_nobody_anything() -> None:
    """A firmware that talks without end fills what the kernel would hold, the rest is lost, and the loop goes on."""

    async def story() -> None:
        programmer = programmer_with(chip_with(image=bootable_image()), RUNNING)
        client = await open_client(programmer, programmer.plug())
        await elsewhere(client.tty.write, b"a")
        assert b"A" in await elsewhere(client.text, b"A")
        firmware = programmer._firmware
        assert isinstance(firmware, FakeFirmware)
        for _ in range(200):
            firmware.emit(b"la" * 20000)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert programmer.stats.bytes_to_host < 2 << 20
        held = 0
        while piece := await elsewhere(client.tty.read, 65536):
            held += len(piece)
        assert 1 << 20 <= held < (1 << 20) + 200_000
        await elsewhere(client.tty.write, b"b")
        assert b"B" in await elsewhere(client.text, b"B")
        await closed(client)
        programmer.unplug()

    bench(story)


def test_lines_of_a_bench_that_has_ended_fail_as_gone() -> None:
    """A client that outlives the loop gets EIO and never waits."""
    programmer = programmer_with(chip_with(), LINES)

    async def story() -> None:
        programmer.plug()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(story()))
    thread.start()
    thread.join()
    loop.close()
    with pytest.raises(OSError, match="has ended") as caught:
        programmer.set_lines(dtr=True, rts=False)
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize("pace", [0.0, 0.001])
def test_events_happen_in_the_order_of_their_times(pace: float) -> None:
    """However they were put in, at every pace, and one that is stopped never happens."""

    async def story() -> list[str]:
        seen: list[str] = []
        clock = Clock(asyncio.get_running_loop(), pace)
        for name, when_s in (("third", 3.0), ("first", 1.0), ("second", 2.0), ("first too", 1.0)):
            clock.at(when_s, partial(seen.append, name))
        clock.at(2.5, lambda: clock.at(2.7, lambda: seen.append("in between")))
        clock.at(50.0, lambda: seen.append("never"))
        clock.at(4.0, clock.stop)
        await asyncio.sleep(0.1)
        assert clock.now_s() >= 4.0
        return seen

    assert bench(story) == ["first", "first too", "second", "in between", "third"]


def test_the_mac_of_the_rig_is_no_special_one() -> None:
    """The rig's board has an OUI that stands in OTP, so that every word is tested."""
    assert MAC[:3] not in (b"\x18\xfe\x34", b"\xac\xd0\x74")

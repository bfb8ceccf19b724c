"""The USB face of a virtual programmer, over USB/IP to a host in user space: transfers, lines, back-pressure, pulls, faults."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest

from station.bench.chip import Chip
from station.bench.faults import USB_FAULT_TOKENS
from station.bench.loader import Command
from station.bench.programmer import ProgrammerKind, VirtualProgrammer
from station.bench.slip import Decoder, encode
from station.bench.usb.usb_port import MAX_WAITING_BYTES, MISHAP_BYTES, UsbPort
from station.properties import Gpio0, Reset
from tests.bench.bench_rig import SYNC_BODY, FakeFirmware, bootable_image, chip_with, request
from tests.bench.usb_rig import GONE, STALL, Board, Host, connected

SYNC = encode(request(Command.SYNC, SYNC_BODY))
INTO_LOADER = ("40 a4 ffff 0", "40 a4 ff9f 0", "40 a4 ffbf 0", "40 a4 ffdf 0", "40 a4 ffff 0")
"""esptool's reset sequence, as the adapter sees it."""
BLANK = b"U" * 1024


def bench(story: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a story on an event loop of its own."""
    asyncio.run(asyncio.wait_for(story(), 60))


def plugged(chip: Chip | None, kind: ProgrammerKind | None = None) -> tuple[Host, VirtualProgrammer]:
    """A programmer with this board as a USB device, plugged in, as fast as possible; and its host."""
    ours, theirs = socket.socketpair()

    def open_port(loop: asyncio.AbstractEventLoop, events: object) -> UsbPort:
        return UsbPort(loop, events, stream=ours, path="usb", has_fault=programmer.adapter_has)  # type: ignore[arg-type]

    programmer = VirtualProgrammer(
        chip=chip, boot_firmware=FakeFirmware, kind=kind or ProgrammerKind(), pace=0, seed=1, open_port=open_port
    )
    assert programmer.plug() == "usb"
    return Host(theirs), programmer


async def into_loader(host: Host) -> None:
    """Reset the board into its loader, with the pauses that esptool makes."""
    for words in INTO_LOADER:
        assert await host.control(words) == (0, b"")
        await asyncio.sleep(0.02)


def frames(count: int) -> Callable[[bytes], bool]:
    """Whether so many frames are in what was heard."""
    return lambda heard: len([1 for frame in Decoder().feed(heard) if frame.payload is not None]) >= count


def test_the_lines_of_the_driver_put_a_board_into_its_loader() -> None:
    """A4 requests reach EN and GPIO0: the loader answers SYNC through bulk transfers, and is left by RTS alone."""

    async def story() -> None:
        host, programmer = plugged(chip_with(image=bootable_image()))
        await host.probe()
        await host.open()
        await into_loader(host)
        await host.send(SYNC)
        assert await host.hear(frames(8))
        for words in ("40 a4 ffbf 0", "40 a4 ffff 0"):
            await host.control(words)
        assert b"hello" in await host.hear(lambda heard: b"hello" in heard)
        assert programmer.stats.resets == 3
        programmer.unplug()
        await host.close()

    bench(story)


def test_a_stick_without_reset_lines_does_not_hear_them() -> None:
    """Where neither line is wired, the same requests change nothing for the board."""

    async def story() -> None:
        chip = chip_with(image=bootable_image())
        host, programmer = plugged(chip, ProgrammerKind(reset=Reset.NONE, gpio0=Gpio0.HAND, jumper_low=False))
        await host.open()
        await into_loader(host)
        await host.send(b"abc")
        assert b"ABC" in await host.hear(lambda heard: b"ABC" in heard)
        assert programmer.stats.resets == 1
        programmer.unplug()
        await host.close()

    bench(story)


def test_the_rate_that_counts_is_the_one_in_the_registers() -> None:
    """A running firmware hears a host that has set 115200, and only nonsense from one that has set 460800."""

    async def story() -> None:
        host, programmer = plugged(chip_with("run_mode", image=bootable_image()))
        await host.open("f383")
        await host.send(b"never heard")
        await host.control("40 9a 1312 cc83")
        await host.send(b"abcdefgh")
        heard = await host.hear(lambda heard: b"ABCDEFGH" in heard)
        assert b"NEVER" not in heard
        programmer.unplug()
        await host.close()

    bench(story)


def test_writes_end_when_the_wire_has_room() -> None:
    """A wire that is far enough behind holds the ends of transfers; what comes meanwhile is taken after that, in order."""

    async def story() -> None:
        board = Board()
        host, port = connected(board)
        await host.open()
        assert await host.answer(host.write(b"a" * 32)) == (0, b"")
        board.busy = True
        held = [host.write(b"b" * 32), host.write(b"c" * 5)]
        await host.control("c0 95 0706 0 2")
        assert not set(held) & set(host.ended)
        later = host.write(b"d" * 3)
        await host.control("c0 95 0706 0 2")
        board.busy = False
        port.resume()
        for seqnum, size in zip((*held, later), (32, 5, 3), strict=True):
            assert await host.answer(seqnum) == (0, b"")
            assert host.sizes[seqnum] == size
        assert b"".join(board.heard) == b"a" * 32 + b"b" * 32 + b"c" * 5 + b"d" * 3
        port.close()
        await host.close()

    bench(story)


def test_a_read_waits_until_there_is_something() -> None:
    """An idle read is never ended empty; then it carries at most 32 bytes, and none is lost between two reads."""

    async def story() -> None:
        host, port = connected(Board())
        await host.open()
        reads = [host.read(), host.read()]
        await host.control("c0 95 0706 0 2")
        assert not set(reads) & set(host.ended)
        said = bytes(range(100))
        assert port.write(said) == 0
        reads += [host.read(), host.read()]
        ends = [await host.answer(seqnum) for seqnum in reads]
        assert [len(data) for _, data in ends] == [32, 32, 32, 4]
        assert b"".join(data for _, data in ends) == said
        port.close()
        await host.close()

    bench(story)


def test_what_nobody_reads_is_lost() -> None:
    """While the port is closed a board talks to nobody, and a client that never reads loses what does not fit."""

    async def story() -> None:
        host, port = connected(Board())
        assert port.write(b"boot message") == 12
        interrupt = await host.open()
        assert port.has_client
        assert port.write(bytes(MAX_WAITING_BYTES + 5)) == 5
        assert await host.until_unlinked(host.unlink(interrupt)) == GONE
        assert not port.has_client
        await host.open()
        assert port.opens == 2
        read = host.read()
        port.write(b"new")
        assert await host.answer(read) == (0, b"new")
        port.close()
        await host.close()

    bench(story)


def test_every_pending_transfer_is_given_back() -> None:
    """An unlink of a waiting read, write, interrupt or unanswered request ends it; of one that has ended, changes nothing."""

    async def story() -> None:
        board = Board()
        host, port = connected(board, "adapter_hung")
        interrupt = await host.open()
        await host.probe()
        board.busy = True
        ended = host.read()
        port.write(b"x")
        await host.answer(ended)
        pending = [host.read(), host.write(b"on the wire"), host.write(b"behind it"), interrupt, host.ask("40 a4 0 0")]
        assert [await host.until_unlinked(host.unlink(seqnum)) for seqnum in pending] == [GONE] * 5
        assert await host.until_unlinked(host.unlink(ended)) == 0
        assert not set(pending) & set(host.ended)
        port.close()
        await host.close()

    bench(story)


def test_a_pull_is_the_end_of_the_stream() -> None:
    """The host sees the end at once, with transfers under way; a new plug is a new device without the old one's state."""

    async def story() -> None:
        host, programmer = plugged(chip_with(image=bootable_image()))
        await host.open()
        host.read()
        programmer.unplug()
        await host.at_end()
        await host.close()

    bench(story)


def test_a_device_that_is_detached_by_the_kernel_is_let_go() -> None:
    """When the kernel ends the stream the programmer is still in the hand's books, and pulling it works."""

    async def story() -> None:
        host, programmer = plugged(chip_with(image=bootable_image()))
        await host.open()
        await host.close()
        await asyncio.sleep(0.05)
        programmer.unplug()
        with pytest.raises(OSError, match="not plugged in"):
            programmer.set_lines(dtr=True, rts=True)

    bench(story)


def test_a_host_that_speaks_something_else_is_cut_off() -> None:
    """Bytes that are no USB/IP end the stream, and nothing else."""

    async def story() -> None:
        host, port = connected(Board())
        host.stream.sendall(b"GET / HTTP/1.1\r\n".ljust(96))
        await host.at_end()
        port.close()
        await host.close()

    bench(story)


def test_an_endpoint_that_is_not_there_stalls() -> None:
    """Reading or writing elsewhere than a CH340 has endpoints is refused."""

    async def story() -> None:
        host, port = connected(Board())
        for seqnum in (host.submit(3, is_in=True, length=8), host.submit(1, is_in=False, data=b"x")):
            assert (await host.answer(seqnum))[0] == STALL
        port.close()
        await host.close()

    bench(story)


# -- the faults -----------------------------------------------------------------------------------------------------


async def stuck(host: Host, words: str) -> bool:
    """Whether this request gets no answer while a read does."""
    asked = host.ask(words)
    seqnum = host.unlink(asked)
    return await host.until_unlinked(seqnum) == GONE and asked not in host.ended


def test_a_stalled_probe_and_a_limited_clone() -> None:
    """The one stalls the version request; the other only the read that tells it apart, and can be opened."""

    async def story() -> None:
        for fault, version, quirk in (("usb_probe_stall", STALL, 0), ("usb_limited", 0, STALL)):
            host, port = connected(Board(), fault)
            assert (await host.control("c0 5f 0 0 2"))[0] == version
            assert (await host.control("c0 95 0005 0 2"))[0] == quirk
            await host.open()
            port.close()
            await host.close()

    bench(story)


def test_a_hung_adapter_is_found_by_the_driver_and_cannot_be_opened() -> None:
    """`adapter_hung`: the probe is answered, so that there is a tty, and no request after it."""

    async def story() -> None:
        host, port = connected(Board(), "adapter_hung")
        await host.probe()
        assert await stuck(host, "40 9a 1312 cc83")
        assert await stuck(host, "c0 95 0706 0 2")
        port.close()
        await host.close()

    bench(story)


def test_control_requests_stick_from_the_middle_of_a_job_on() -> None:
    """`usb_control_stuck`: after some 20 kB neither rate nor lines can be changed any more; data still flow."""

    async def story() -> None:
        board = Board()
        host, port = connected(board, "usb_control_stuck")
        await host.open()
        await host.send(bytes(MISHAP_BYTES - 32))
        assert await host.control("40 9a 1312 cc83") == (0, b"")
        await host.send(bytes(32))
        lines = list(board.lines)
        assert await stuck(host, "40 9a 1312 f383")
        assert await stuck(host, "40 a4 ffbf 0")
        assert (port.baud, board.lines) == (115385, lines)
        await host.send(b"still taken")
        assert board.heard[-1] == b"still taken"
        port.close()
        await host.close()

    bench(story)


def test_reading_halts_once_until_the_port_is_opened_again() -> None:
    """`usb_in_halted`: reads end with EPIPE in the middle of a job, what is said is lost; opened again, it works."""

    async def story() -> None:
        host, port = connected(Board(), "usb_in_halted")
        interrupt = await host.open()
        reads = [host.read(), host.read()]
        await host.send(bytes(MISHAP_BYTES))
        assert [await host.answer(seqnum) for seqnum in reads] == [(STALL, b"")] * 2
        assert port.write(b"lost") == 4
        assert await host.answer(host.read()) == (STALL, b"")
        await host.until_unlinked(host.unlink(interrupt))
        await host.open()
        await host.send(bytes(MISHAP_BYTES))
        read = host.read()
        port.write(b"heard")
        assert await host.answer(read) == (0, b"heard")
        port.close()
        await host.close()

    bench(story)


def test_a_halt_can_be_cleared() -> None:
    """CLEAR_FEATURE(ENDPOINT_HALT) lets reads wait again."""

    async def story() -> None:
        host, port = connected(Board(), "usb_in_halted")
        await host.open()
        await host.send(bytes(MISHAP_BYTES))
        assert await host.answer(host.read()) == (STALL, b"")
        assert await host.control("02 01 0 82") == (0, b"")
        read = host.read()
        port.write(b"heard")
        assert await host.answer(read) == (0, b"heard")
        port.close()
        await host.close()

    bench(story)


def test_writes_never_end_from_the_middle_of_a_job_on() -> None:
    """`usb_out_stuck`: the transfer in which it strikes and all after it stay pending, and only an unlink ends them."""

    async def story() -> None:
        board = Board()
        host, port = connected(board, "usb_out_stuck")
        await host.open()
        await host.send(bytes(MISHAP_BYTES - 32))
        writes = [host.write(bytes(32)), host.write(bytes(32))]
        assert await host.control("40 9a 1312 cc83") == (0, b"")
        port.resume()
        assert not set(writes) & set(host.ended)
        assert sum(map(len, board.heard)) <= MISHAP_BYTES + 32
        assert [await host.until_unlinked(host.unlink(seqnum)) for seqnum in writes] == [GONE] * 2
        port.close()
        await host.close()

    bench(story)


@pytest.mark.parametrize("token", [*USB_FAULT_TOKENS, "adapter_hung"])
def test_a_new_plug_cures_the_adapter(token: str) -> None:
    """Each fault of the adapter lasts until it is pulled: the next plug of the same board is free of it."""

    async def story() -> None:
        chip = chip_with(token, image=bootable_image())
        host, programmer = plugged(chip)
        assert programmer.adapter_has(token)
        programmer.unplug()
        await host.close()
        assert not programmer.adapter_has(token)
        host, programmer = plugged(chip)
        await host.probe()
        assert host.ended[1] == (0, b"\x31\0")
        assert host.ended[6] == (0, b"\x01\0")
        await host.open()
        await host.send(bytes(MISHAP_BYTES + 64))
        assert (await host.control("40 9a 1312 cc83"))[0] == 0
        programmer.unplug()
        await host.close()

    bench(story)

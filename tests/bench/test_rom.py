"""The loaders, sans-IO: SLIP, the ROM, and both flasher stubs, in frames and virtual seconds."""

import hashlib
import struct
import zlib
from itertools import pairwise

import pytest
from esptool.targets import ESP8266ROM
from hypothesis import given, settings
from hypothesis import strategies as st

from station.bench.board import Board, BoardEffect, Say, StartFirmware
from station.bench.chip import ResetCause
from station.bench.loader import Command, Mishap, Restart
from station.bench.slip import Decoder, encode
from tests.bench.bench_rig import (
    MAC,
    SYNC_BODY,
    bootable_image,
    chip_with,
    data_request,
    request,
    stub_upload,
    write_begin,
)

BAUD = 115200
BYTE_S = 10 / BAUD


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in chunks, cut at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:stop] for start, stop in pairwise(edges)]


def payloads(effects: list[BoardEffect]) -> list[bytes]:
    """The frames that were said."""
    stream = b"".join(effect.data for effect in effects if isinstance(effect, Say))
    return [frame.payload or b"" for frame in Decoder().feed(stream)]


class Talk:
    """A board in its loader, and the time on its wire."""

    def __init__(self, *tokens: str, image: bytes = b"", stub: int | None = None) -> None:
        self.chip = chip_with(*tokens, image=image)
        self.board = Board(self.chip)
        self.board.boot(gpio0_low=True, cause=ResetCause.EXTERNAL, at_s=0.0)
        self.now_s = 1.0
        if stub is not None:
            self.sync()
            for payload in stub_upload(stub):
                greeting = self.send(payload)
            assert payloads(greeting)[-1] == b"OHAI"

    def sync(self, baud: float = BAUD) -> list[BoardEffect]:
        """A SYNC."""
        return self.send(request(Command.SYNC, SYNC_BODY), baud)

    def send(self, payload: bytes, baud: float = BAUD) -> list[BoardEffect]:
        """One frame, sent when everything before it has been said; the clock goes on to the last effect."""
        data = encode(payload)
        effects = self.board.hear(data, begun_s=self.now_s, byte_s=10 / baud, host_baud=baud)
        self.now_s += len(data) * 10 / baud
        self.now_s = max([self.now_s, *(effect.at_s for effect in effects)])
        return effects

    def reply(self, payload: bytes) -> tuple[int, bytes]:
        """The value and the data with status of the one reply to this."""
        (frame,) = payloads(self.send(payload))
        assert frame[:2] == bytes((1, payload[1]))
        return struct.unpack_from("<I", frame, 4)[0], frame[8:]

    def status(self, payload: bytes) -> int:
        """The status of the reply."""
        return int.from_bytes(self.reply(payload)[1][-2:], "big")


def read_reg(address: int) -> bytes:
    """A READ_REG."""
    return request(Command.READ_REG, struct.pack("<I", address))


def write_reg(*entries: tuple[int, int]) -> bytes:
    """A WRITE_REG of several entries."""
    return request(Command.WRITE_REG, b"".join(struct.pack("<IIII", at, value, 0xFFFFFFFF, 0) for at, value in entries))


def spi(talk: Talk, opcode: int, miso_bits: int, *, address: int | None = None) -> int:
    """A flash command through the SPI registers in one multi-entry write; its answer."""
    user, user1 = 1 << 31 | 1 << 28, (miso_bits - 1) << 8
    if address is not None:
        user, user1 = user | 1 << 30, user1 | 23 << 26
    entries = [(0x6000021C, user), (0x60000220, user1), (0x60000224, 7 << 28 | opcode)]
    talk.reply(write_reg(*entries, (0x60000204, (address or 0) << 8), (0x60000240, 0), (0x60000200, 1 << 18)))
    return talk.reply(read_reg(0x60000240))[0]


@given(frames=st.lists(st.binary(min_size=1, max_size=60), max_size=6), places=st.lists(st.integers(0, 1000)))
def test_slip_survives_any_chunking(frames: list[bytes], places: list[int]) -> None:
    """Frames come out as they went in however the stream is cut, each with the place where it ended."""
    decoder, found, ends, offset = Decoder(), [], [], 0
    stream = b"".join(encode(frame) for frame in frames)
    for chunk in cut(stream, places):
        for frame in decoder.feed(chunk):
            found.append(frame.payload)
            ends.append(offset + frame.ended)
            assert offset + frame.begun == stream[: offset + frame.ended].rindex(b"\xc0") + 1
        offset += len(chunk)
    assert found == frames
    assert all(stream[end] == 0xC0 for end in ends)


@given(noise=st.binary(max_size=80))
def test_slip_finds_its_step_after_noise(noise: bytes) -> None:
    """After any noise, the second of two good frames is read at the latest."""
    decoder = Decoder()
    found = [frame.payload for frame in decoder.feed(noise + encode(b"first") + encode(b"second"))]
    assert found[-1] == b"second"


def test_slip_tells_a_malformed_escape() -> None:
    """A frame with an escape of nothing is there, without content."""
    assert [frame.payload for frame in Decoder().feed(b"\xc0ab\xdbcd\xc0")] == [None]


@settings(max_examples=40)
@given(places=st.lists(st.integers(0, 20000), max_size=30))
def test_loaders_do_not_care_how_bytes_are_chunked(places: list[int]) -> None:
    """A whole conversation, ROM and stub, says the same at the same times in whatever pieces it is heard."""
    image = zlib.compress(b"text " * 2000)
    conversation = [
        request(Command.SYNC, SYNC_BODY),
        read_reg(0x3FF00050),
        *stub_upload(2),
        request(Command.FLASH_DEFL_BEGIN, struct.pack("<IIIII", 10000, 1, 0x4000, 0, 0)),
        data_request(Command.FLASH_DEFL_DATA, image),
        request(Command.FLASH_DEFL_END, struct.pack("<I", 1)),
        request(Command.SPI_FLASH_MD5, struct.pack("<IIII", 0, 10000, 0, 0)),
    ]
    stream = b"".join(encode(payload) for payload in conversation)

    def heard(chunks: list[bytes]) -> list[tuple[float, bytes]]:
        talk = Talk()
        said: list[tuple[float, bytes]] = []
        begun_s = 1.0
        for chunk in chunks:
            effects = talk.board.hear(chunk, begun_s=begun_s, byte_s=BYTE_S, host_baud=BAUD)
            said += [(round(effect.at_s, 9), effect.data) for effect in effects if isinstance(effect, Say)]
            begun_s += len(chunk) * BYTE_S
        return said

    assert heard(cut(stream, places)) == heard([stream])


@pytest.mark.parametrize("baud", [9600, 74880, 115200, 460800, 921600])
def test_the_rom_measures_the_baud_of_the_first_sync(baud: int) -> None:
    """It answers SYNC eight times with a value that is no stub's, at the nearest baud its divider gives."""
    talk = Talk()
    effects = talk.sync(baud)
    replies = payloads(effects)
    assert len(replies) == 8
    assert replies[0][:4] == b"\x01\x08\x02\x00"
    assert replies[0][4:8] != bytes(4)
    assert all(isinstance(effect, Say) and abs(effect.baud / baud - 1) < 0.01 for effect in effects)
    assert talk.board.hears(baud, 0.03)
    assert not talk.board.hears(baud * 1.05, 0.03)


def test_the_rom_says_nothing_before_a_sync() -> None:
    """A command without SYNC before it is not answered."""
    assert Talk().send(read_reg(0x3FF00050)) == []


def test_an_unknown_command_is_answered_with_the_last_known_one() -> None:
    """After SYNC the refusal comes eight times, after another command once, both with status 01 05."""
    talk = Talk()
    talk.sync()
    unknown = request(Command.GET_SECURITY_INFO)
    assert [frame[:2] + frame[8:] for frame in payloads(talk.send(unknown))] == [b"\x01\x08\x01\x05"] * 8
    talk.reply(read_reg(0x40001000))
    assert [frame[:2] + frame[8:] for frame in payloads(talk.send(unknown))] == [b"\x01\x0a\x01\x05"]


@pytest.mark.parametrize("stub", [None, 1, 2])
def test_identity_registers(stub: int | None) -> None:
    """Magic and OTP words read alike in the ROM and in both stubs; an ESP32 has another magic."""
    talk, other = Talk(stub=stub), Talk("wrong_chip", stub=stub)
    if stub is None:
        talk.sync()
        other.sync()
    assert talk.reply(read_reg(0x40001000))[0] == ESP8266ROM.MAGIC_VALUE
    assert other.reply(read_reg(0x40001000))[0] == 0x00F01D83
    words = [talk.reply(read_reg(address))[0] for address in (0x3FF00050, 0x3FF00054, 0x3FF0005C)]
    assert words == [MAC[5] << 24, MAC[3] << 8 | MAC[4], int.from_bytes(MAC[:3], "big")]


def test_flash_commands_through_the_spi_registers() -> None:
    """Id, SFDP, status, erase and program work once the flash is attached, and the bus is silent before."""
    talk = Talk()
    talk.sync()
    assert spi(talk, 0x9F, 24) == 0
    talk.reply(write_begin(0, 0))
    assert spi(talk, 0x9F, 24) == 0x1440EF
    assert spi(talk, 0x5A, 32, address=0) == 0x50444653
    talk.chip.flash.data[:8192] = bytes(8192)
    spi(talk, 0x20, 8, address=4096)
    assert talk.chip.flash.data[4096] == 0, "without write-enable nothing is erased"
    spi(talk, 0x06, 8)
    assert spi(talk, 0x05, 8) == 0x02
    before_s = talk.now_s
    spi(talk, 0x20, 8, address=4096)
    assert talk.chip.flash.data[4095:4097] == b"\0\xff"
    assert talk.now_s - before_s > 0.045, "the answer waits for the flash"
    assert spi(talk, 0x05, 8) == 0


@given(offset=st.integers(0, 60), sectors=st.integers(1, 150))
def test_rom_erase_and_esptools_way_around_it(offset: int, sectors: int) -> None:
    """Asked as esptool asks, the ROM erases all that will be written and at most one sector more; others stay."""
    talk = Talk()
    talk.sync()
    flash = talk.chip.flash
    flash.data[:] = bytes(len(flash.data))
    asked = ESP8266ROM.get_erase_size(ESP8266ROM, offset * 4096, sectors * 4096)
    talk.reply(request(Command.FLASH_BEGIN, struct.pack("<IIII", asked, 1, 0x400, offset * 4096)))
    erased = [sector for sector in range(256) if flash.data[sector * 4096] == 0xFF]
    assert erased[:sectors] == list(range(offset, offset + sectors))
    assert len(erased) <= sectors + 1


def test_rom_flash_write_and_errors() -> None:
    """Blocks are programmed before they are answered; a wrong checksum, length or order is 01 07 or 01 06."""
    talk = Talk()
    talk.sync()
    block = bytes(range(256)) * 4
    assert talk.status(data_request(Command.FLASH_DATA, block)) == 0x0106, "no BEGIN yet"
    assert talk.status(write_begin(2048, 0x1000, block=0x400)) == 0
    broken = bytearray(data_request(Command.FLASH_DATA, block))
    broken[40] ^= 1
    assert talk.status(bytes(broken)) == 0x0107
    before_s = talk.now_s
    assert talk.status(data_request(Command.FLASH_DATA, block)) == 0
    assert talk.now_s - before_s > 4 * 0.0009
    assert talk.status(data_request(Command.FLASH_DATA, block, 1)) == 0
    assert talk.chip.flash.read(0x1000, 2048) == block * 2
    assert talk.status(read_reg(0)[:-1]) == 0x0105, "a length that is not the header's"


def test_leaving_the_rom() -> None:
    """FLASH_END 0 resets the chip, 1 starts what is in flash, and without a BEGIN it fails."""
    talk = Talk()
    talk.sync()
    end = request(Command.FLASH_END, struct.pack("<I", 0))
    assert talk.status(end) == 0x0106
    talk.reply(write_begin(0, 0))
    assert [effect.cause for effect in talk.send(end) if isinstance(effect, Restart)] == [ResetCause.SOFTWARE]


def test_a_program_that_is_no_stub_is_silent() -> None:
    """Something else that is uploaded and started answers nothing any more."""
    talk = Talk()
    talk.sync()
    talk.reply(request(Command.MEM_BEGIN, struct.pack("<IIII", 4, 1, 4, 0x40100000)))
    talk.reply(data_request(Command.MEM_DATA, b"code"))
    talk.reply(request(Command.MEM_END, struct.pack("<II", 0, 0x40100000)))
    assert talk.sync() == []


@pytest.mark.parametrize("stub", [1, 2])
def test_a_stub_answers_sync_as_a_stub(stub: int) -> None:
    """Eight replies of value 0, by which esptool knows it."""
    replies = payloads(Talk(stub=stub).sync())
    assert [frame[4:] for frame in replies] == [b"\0\0\0\0\0\0"] * 8


@pytest.mark.parametrize(("stub", "status"), [(1, 0xFF00), (2, 0xFF00)])
def test_a_stub_has_no_security_info(stub: int, status: int) -> None:
    """Both stubs say that the command is not implemented."""
    assert Talk(stub=stub).status(request(Command.GET_SECURITY_INFO)) == status


@pytest.mark.parametrize(("stub", "status"), [(1, 0xFF00), (2, 0xC300)])
def test_a_stub_refuses_what_it_does_not_know(stub: int, status: int) -> None:
    """Each version has its own number for an unknown command."""
    assert Talk(stub=stub).status(request(0x77)) == status


@pytest.mark.parametrize(
    ("stub", "synced", "asked", "told", "baud"),
    [
        (1, 115200, 460800, 115200, 52e6 / 112),
        (2, 115200, 460800, 115200, 52e6 / 112),
        (1, 460800, 921600, 460800, 52e6 / 56),
        (2, 460800, 921600, 460800, 52e6 / 14),
        (2, 115200, 2000000, 115200, 52e6 / 25),
    ],
)
def test_baud_change(stub: int, synced: int, asked: int, told: int, baud: float) -> None:
    """The reply comes at the old baud; stub "2" takes 115200 for the old one whatever it was, and both cut off."""
    talk = Talk()
    talk.sync(synced)
    for payload in stub_upload(stub):
        talk.send(payload, synced)
    (answer,) = talk.send(request(Command.CHANGE_BAUDRATE, struct.pack("<II", asked, told)), synced)
    assert isinstance(answer, Say)
    assert answer.baud == pytest.approx(synced, rel=0.01)
    (after,) = talk.send(read_reg(0x40001000), asked)
    assert isinstance(after, Say)
    assert after.baud == pytest.approx(baud)


@pytest.mark.parametrize("stub", [1, 2])
def test_a_block_is_acknowledged_before_it_is_worked_on(stub: int) -> None:
    """The first acknowledgement is at once, the second waits for the first block's work, END for the last one's."""
    talk = Talk(stub=stub)
    talk.chip.flash.data[:] = bytes(len(talk.chip.flash.data))
    talk.reply(write_begin(0x8000, 0))
    blocks = [bytes([n]) * 0x4000 for n in (1, 2)]
    arrived_s = talk.now_s + len(encode(data_request(Command.FLASH_DATA, blocks[0]))) * BYTE_S
    (first,) = talk.send(data_request(Command.FLASH_DATA, blocks[0]))
    assert first.at_s == pytest.approx(arrived_s)
    assert talk.chip.flash.read(0, 0x4000) == blocks[0]
    second = talk.board.hear(
        encode(data_request(Command.FLASH_DATA, blocks[1], 1)), begun_s=talk.now_s, byte_s=1e-6, host_baud=BAUD
    )
    assert second[0].at_s > arrived_s + 4 * 0.045, "four sectors were erased first"
    talk.now_s = second[0].at_s
    (end,) = talk.send(request(Command.FLASH_END, struct.pack("<I", 1)))
    assert end.at_s > second[0].at_s + 4 * 0.045
    assert talk.chip.flash.read(0x4000, 0x4000) == blocks[1]


def test_a_third_frame_too_early_is_lost() -> None:
    """With one block in work and one waiting, a frame that begins then is lost, and counted; later it is not."""
    talk = Talk(stub=2)
    talk.chip.flash.data[:] = bytes(len(talk.chip.flash.data))
    talk.reply(write_begin(0x10000, 0))

    def fast(seq: int, at_s: float) -> list[BoardEffect]:
        frame = encode(data_request(Command.FLASH_DATA, bytes([seq]) * 0x4000, seq))
        return talk.board.hear(frame, begun_s=at_s, byte_s=1e-6, host_baud=BAUD)

    acknowledged = [fast(seq, talk.now_s + 0.02 * seq) for seq in range(3)]
    assert [len(effects) for effects in acknowledged] == [1, 1, 0]
    assert talk.board.frames_lost == 1
    assert len(fast(2, talk.now_s + 10)) == 1


@pytest.mark.parametrize("stub", [1, 2])
def test_an_error_of_the_work_surfaces_on_the_next_command(stub: int) -> None:
    """A block that does not inflate is acknowledged; the next one brings the inflate error."""
    talk = Talk(stub=stub)
    talk.reply(request(Command.FLASH_DEFL_BEGIN, struct.pack("<IIII", 10000, 2, 0x4000, 0)))
    assert talk.status(data_request(Command.FLASH_DEFL_DATA, b"no zlib stream at all")) == 0
    assert talk.status(data_request(Command.FLASH_DEFL_DATA, b"more", 1)) == 0xC700


@pytest.mark.parametrize("stub", [1, 2])
def test_a_corrupted_block_is_refused_and_can_be_sent_again(stub: int) -> None:
    """A wrong checksum is C1 00 and leaves the stream as it was, so that the same block then goes through."""
    talk = Talk(stub=stub)
    image = bytes(range(256)) * 40
    good = data_request(Command.FLASH_DEFL_DATA, zlib.compress(image))
    bad = good[:-1] + bytes([good[-1] ^ 4])
    talk.reply(request(Command.FLASH_DEFL_BEGIN, struct.pack("<IIII", len(image), 1, 0x4000, 0)))
    assert talk.status(bad) == 0xC100
    assert talk.status(good) == 0
    assert talk.status(request(Command.FLASH_DEFL_END, struct.pack("<I", 1))) == 0
    assert talk.chip.flash.read(0, len(image)) == image


@settings(max_examples=30)
@given(
    image=st.binary(min_size=1, max_size=70000),
    offset=st.integers(0, 40).map(lambda sector: sector * 4096),
    stub=st.sampled_from([1, 2]),
    deflated=st.booleans(),
)
def test_what_is_written_is_in_flash(image: bytes, offset: int, stub: int, *, deflated: bool) -> None:
    """Any image, over any old content, ends in flash byte for byte, touches only its sectors, and its MD5 is told."""
    talk = Talk(stub=stub)
    flash = talk.chip.flash
    flash.data[:] = bytes(len(flash.data))
    begin, data, end = Command.FLASH_BEGIN, Command.FLASH_DATA, Command.FLASH_END
    stream = image
    if deflated:
        begin, data, end = Command.FLASH_DEFL_BEGIN, Command.FLASH_DEFL_DATA, Command.FLASH_DEFL_END
        stream = zlib.compress(image, 9)
    blocks = [stream[at : at + 0x4000] for at in range(0, len(stream), 0x4000)]
    assert talk.status(request(begin, struct.pack("<IIIII", len(image), len(blocks), 0x4000, offset, 0))) == 0
    for seq, block in enumerate(blocks):
        padded = block if deflated else block.ljust(0x4000, b"\xff")
        assert talk.status(data_request(data, padded, seq)) == 0
    assert talk.status(request(end, struct.pack("<I", 1))) == 0
    sectors = -(-len(image) // 4096) * 4096
    assert flash.read(offset, sectors) == image.ljust(sectors, b"\xff")
    assert flash.read(0, offset) + flash.read(offset + sectors, len(flash.data) - offset - sectors) == bytes(
        len(flash.data) - sectors
    )
    _, told = talk.reply(request(Command.SPI_FLASH_MD5, struct.pack("<IIII", offset, len(image), 0, 0)))
    assert told == hashlib.md5(image, usedforsecurity=False).digest() + b"\0\0"


def test_stub_2_skips_blank_sectors_until_the_first_used_one() -> None:
    """On a blank flash it erases nothing; from the first used sector on it erases everything; the legacy one always."""

    def erases(stub: int, used_sector: int | None) -> int:
        talk = Talk(stub=stub)
        if used_sector is not None:
            talk.chip.flash.data[used_sector * 4096] = 0
        talk.reply(write_begin(0x8000, 0x1000))
        for seq in range(2):
            talk.reply(data_request(Command.FLASH_DATA, bytes(0x4000), seq))
        return talk.chip.flash.erases

    assert erases(2, None) == 0
    assert erases(2, 4) == 5
    assert erases(1, None) == 8


def test_erase_commands_take_their_time() -> None:
    """Chip and region are erased, by 64 KB where aligned, answered when done; an unaligned region is refused."""
    talk = Talk(stub=2)
    flash = talk.chip.flash
    flash.data[:] = bytes(len(flash.data))
    before_s = talk.now_s
    assert talk.status(request(Command.ERASE_REGION, struct.pack("<II", 0xF000, 0x12000))) == 0
    assert talk.now_s - before_s == pytest.approx(2 * 0.045 + 0.2, abs=0.01)
    assert flash.data.count(0xFF) == 0x12000
    assert talk.status(request(Command.ERASE_REGION, struct.pack("<II", 0x100, 0x1000))) == 0xC000
    before_s = talk.now_s
    assert talk.status(request(Command.ERASE_FLASH)) == 0
    assert talk.now_s - before_s == pytest.approx(2.5, abs=0.01)
    assert flash.data == b"\xff" * len(flash.data)


@pytest.mark.parametrize("stub", [1, 2])
def test_reading_flash_goes_packet_by_packet(stub: int) -> None:
    """Each packet waits for the acknowledgement of the one before, and the digest of all ends it."""
    talk = Talk(stub=stub)
    content = bytes(range(256)) * 40
    talk.chip.flash.data[: len(content)] = content
    frames = payloads(talk.send(request(Command.READ_FLASH, struct.pack("<IIII", 0, len(content), 4096, 64))))
    got = frames[1]
    while len(got) < len(content):
        (packet,) = payloads(talk.send(struct.pack("<I", len(got))))
        got += packet
    assert got == content
    (digest,) = payloads(talk.send(struct.pack("<I", len(got))))
    assert digest == hashlib.md5(content, usedforsecurity=False).digest()
    assert talk.reply(read_reg(0x40001000))[0] == ESP8266ROM.MAGIC_VALUE


def test_only_the_legacy_stub_starts_the_firmware_or_reboots() -> None:
    """RUN_USER_CODE and FLASH_END 0 do nothing in stub "2"; with bytes missing its FLASH_END is refused."""
    run = request(Command.RUN_USER_CODE)
    end = request(Command.FLASH_END, struct.pack("<I", 0))
    legacy = Talk(stub=1, image=bootable_image())
    assert any(isinstance(effect, StartFirmware) for effect in legacy.send(run))
    assert legacy.sync() == []
    modern = Talk(stub=2, image=bootable_image())
    assert modern.send(run) == []
    assert len(modern.sync()) == 8
    modern.reply(write_begin(100, 0))
    assert modern.status(end) == 0xC000
    modern.reply(data_request(Command.FLASH_DATA, bytes(100)))
    assert [type(effect) for effect in modern.send(end)] == [Say]
    legacy = Talk(stub=1)
    legacy.reply(write_begin(0, 0))
    assert [type(effect) for effect in legacy.send(end)] == [Say, Restart]


def test_wrong_md5s() -> None:
    """One board answers the same wrong digest every time, another a different one each time."""
    ask = request(Command.SPI_FLASH_MD5, struct.pack("<IIII", 0, 4096, 0, 0))
    right = Talk(stub=2).reply(ask)
    same, unstable = Talk("bad_md5", stub=2), Talk("unstable_md5", stub=2)
    assert same.reply(ask) == same.reply(ask) != right
    assert len({unstable.reply(ask)[1] for _ in range(4)} | {right[1]}) == 5


def write_until_silence(talk: Talk, blocks: int = 10) -> tuple[int, list[BoardEffect]]:
    """A write of ten blocks: how many were acknowledged, and what else happened."""
    talk.reply(write_begin(blocks * 0x4000, 0))
    other: list[BoardEffect] = []
    for seq in range(blocks):
        effects = talk.send(data_request(Command.FLASH_DATA, bytes(0x4000), seq))
        other += [effect for effect in effects if not isinstance(effect, Say)]
        if not effects:
            return seq, other
    return blocks, other


def test_a_dropping_board_is_back_after_a_reset_and_drops_again() -> None:
    """It stops at the very byte of its percentage, answers after a reset by the lines, and does it again."""
    talk = Talk("drop@45", stub=2)
    for _ in range(2):
        written, _ = write_until_silence(talk)
        assert written == 5
        assert talk.chip.flash.data.count(0) == round(10 * 0x4000 * 0.45)
        assert talk.sync() == []
        talk.board.boot(gpio0_low=True, cause=ResetCause.EXTERNAL, at_s=talk.now_s)
        talk.chip.flash.erase_chip()
        assert len(talk.sync()) == 8
        for payload in stub_upload(2):
            talk.send(payload)


def test_a_hung_board_never_answers_again_but_says_its_boot_message() -> None:
    """Even after a reset only the ROM's first line is heard: that is how one knows that it is there."""
    talk = Talk("hang@0", stub=2)
    assert write_until_silence(talk)[0] == 1
    effects = talk.board.boot(gpio0_low=True, cause=ResetCause.EXTERNAL, at_s=talk.now_s)
    assert [effect.data[:5] for effect in effects if isinstance(effect, Say)] == [b"\r\n et"]
    assert talk.sync() == []


def test_a_resetting_board_restarts_once_in_every_write() -> None:
    """In each write the stub is gone at that percentage and the chip starts again."""
    talk = Talk("reset@50", stub=1)
    for _ in range(2):
        written, other = write_until_silence(talk)
        assert written == 5
        assert [effect.cause for effect in other if isinstance(effect, Restart)] == [ResetCause.BROWNOUT]
        talk.board.boot(gpio0_low=True, cause=ResetCause.EXTERNAL, at_s=talk.now_s)
        talk.sync()
        for payload in stub_upload(1):
            talk.send(payload)


@pytest.mark.parametrize("token", ["unplug", "removed"])
def test_a_hand_comes_once(token: str) -> None:
    """The deed is told at its percentage, nothing is answered then, and the next write goes through."""
    talk = Talk(f"{token}@30", stub=2)
    written, other = write_until_silence(talk)
    assert written == 3
    assert [str(effect.fault) for effect in other if isinstance(effect, Mishap)] == [f"{token}@30"]
    talk.board.boot(gpio0_low=True, cause=ResetCause.POWER_ON, at_s=talk.now_s)
    talk.sync()
    for payload in stub_upload(2):
        talk.send(payload)
    assert write_until_silence(talk) == (10, [])


def test_a_fault_strikes_a_rom_write_too() -> None:
    """Without a stub the same percentage counts."""
    talk = Talk("drop@50")
    talk.sync()
    talk.reply(write_begin(4096, 0, block=0x400))
    answers = [len(talk.send(data_request(Command.FLASH_DATA, bytes(0x400), seq))) for seq in range(4)]
    assert answers == [1, 0, 0, 0]

"""The board's silicon: faults by name, identity in OTP, and when and from what it boots."""

import pytest
from esptool.targets import ESP8266ROM
from hypothesis import given
from hypothesis import strategies as st

from station.bench.chip import BootTo, ResetCause, make_chip, otp_words
from station.bench.faults import FAULT_TOKENS, Fault, parse_fault, parse_slot_fault
from tests.bench.bench_rig import MAC, bootable_image, chip_with

EXAMPLES = {
    "noise": "noise@0.001",
    "drop": "drop@50",
    "hang": "hang@40",
    "unplug": "unplug@30",
    "removed": "removed@30",
    "reset": "reset@60",
    "gpio": "gpio@2floating",
    "twin_chip_id": "twin_chip_id@A2",
    "duplicate_mac": "duplicate_mac@B1",
}


@pytest.mark.parametrize("token", FAULT_TOKENS)
def test_every_token_can_be_written(token: str) -> None:
    """Each fault parses as its description says it is written, and prints as it was written."""
    text = EXAMPLES.get(token, token)
    slot, fault = parse_slot_fault(f"A1:{text}")
    assert (slot, fault.token, str(fault)) == ("A1", token, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A1:burn", "unknown fault 'burn'; the faults are: no_answer, run_mode"),
        ("drop@50", "'drop@50' names no slot: write SLOT:FAULT"),
        ("1A:drop@50", "'1A' in '1A:drop@50' is no slot label"),
        ("A1:drop", "fault drop needs an argument: drop@ and a percentage"),
        ("A1:drop@101", "fault drop cannot take '101'"),
        ("A1:noise@nan", "fault noise cannot take 'nan'"),
        ("A1:noise@0", "fault noise cannot take '0'"),
        ("A1:worn@3", "fault worn takes no argument"),
        ("A1:twin_chip_id@", "fault twin_chip_id cannot take ''"),
        ("A1:bad_mac@red", "after bad_mac@ comes one of zero, blank, ff, multicast, oui"),
    ],
)
def test_a_wrong_fault_is_refused_in_words(text: str, message: str) -> None:
    """The error names what is wrong and what is accepted."""
    with pytest.raises(ValueError) as caught:
        parse_slot_fault(text)
    assert message in str(caught.value)


class Otp(ESP8266ROM):  # type: ignore[misc]
    """esptool's own reading of OTP words, without a line."""

    def __init__(self, words: dict[int, int]) -> None:
        self.words = words

    def read_reg(self, addr: int) -> int:
        """One word."""
        return self.words[addr]


@given(tail=st.binary(min_size=3, max_size=3), oui=st.sampled_from(["18fe34", "acd074", "5ccf7f", "ecfabc", "010203"]))
def test_esptool_reads_the_mac_back(tail: bytes, oui: str) -> None:
    """The words made from a MAC give esptool that MAC and its last three bytes as the chip ID, on an ESP8266EX."""
    mac = bytes.fromhex(oui) + tail
    otp = Otp(otp_words(mac))
    assert bytes(otp.read_mac()) == mac
    assert otp.chip_id() & 0xFFFFFF == int.from_bytes(tail, "big")
    assert otp.get_chip_description() == "ESP8266EX"


@pytest.mark.parametrize(
    ("variant", "reads_as"),
    [("zero", "00:00:00"), ("blank", "18:fe:34"), ("ff", "ff:ff:ff"), ("multicast", "01:00:5e")],
)
def test_bad_macs_read_as_such(variant: str, reads_as: str) -> None:
    """Every kind of bad MAC is read by esptool as what it is; the fault without a variant is all zeros."""
    chip = chip_with(f"bad_mac@{variant}")
    mac = bytes(Otp(chip.otp).read_mac())
    assert mac[:3].hex(":") == reads_as
    assert mac == chip.mac
    assert bytes(Otp(chip_with("bad_mac").otp).read_mac()) == bytes(6)


def test_an_unknown_oui_is_refused_by_esptool() -> None:
    """The OUI selector of no known OUI makes esptool say so."""
    with pytest.raises(Exception, match="Unknown OUI"):
        Otp(chip_with("bad_mac@oui").otp).read_mac()


def test_the_boot_pin_counts_only_when_en_or_power_rises() -> None:
    """A software reset keeps the mode of the last hardware reset, whatever the pin is by then."""
    chip = chip_with(image=bootable_image())
    loader = chip.boot(gpio0_low=True, cause=ResetCause.EXTERNAL)
    assert loader.to is BootTo.LOADER
    assert loader.chatter == b"\r\n ets Jan  8 2013,rst cause:2, boot mode:(1,7)\r\n\r\n"
    assert chip.boot(gpio0_low=False, cause=ResetCause.SOFTWARE).to is BootTo.LOADER
    firmware = chip.boot(gpio0_low=False, cause=ResetCause.POWER_ON)
    assert firmware.to is BootTo.FIRMWARE
    assert firmware.chatter.startswith(
        b"\r\n ets Jan  8 2013,rst cause:1, boot mode:(3,7)\r\n\r\nload 0x40100000, len 3000"
    )
    assert chip.boot(gpio0_low=True, cause=ResetCause.WATCHDOG).to is BootTo.FIRMWARE
    assert chip.reset_cause is ResetCause.WATCHDOG


@pytest.mark.parametrize("cause", [ResetCause.SOFTWARE, ResetCause.WATCHDOG])
def test_a_board_that_was_started_by_its_loader_is_back_there_after_a_soft_reset(cause: ResetCause) -> None:
    """Leaving the loader by software moves no latch: a reset without EN ends in the loader again, or with the fault nowhere."""
    ends = {}
    for faults in ((), ("soft_reset_hangs",)):
        chip = chip_with(*faults, image=bootable_image())
        chip.boot(gpio0_low=True, cause=ResetCause.POWER_ON)
        assert chip.start_flash().to is BootTo.FIRMWARE
        ends[faults] = chip.boot(gpio0_low=False, cause=cause)
        assert chip.boot(gpio0_low=True, cause=ResetCause.EXTERNAL).to is BootTo.LOADER, "EN cures it"
        assert chip.boot(gpio0_low=False, cause=ResetCause.POWER_ON).to is BootTo.FIRMWARE
        assert chip.boot(gpio0_low=True, cause=cause).to is BootTo.FIRMWARE
    assert ends[()].to is BootTo.LOADER
    assert ends[("soft_reset_hangs",)].to is BootTo.NOWHERE
    assert ends[("soft_reset_hangs",)].chatter.endswith(b"rst cause:4, boot mode:(1,7)\r\n\r\nwdt reset\r\n")


def test_a_board_in_run_mode_never_sees_its_pin_low() -> None:
    """It starts its firmware where the loader was wanted."""
    chip = chip_with("run_mode", image=bootable_image())
    assert chip.boot(gpio0_low=True, cause=ResetCause.EXTERNAL).to is BootTo.FIRMWARE


@given(position=st.integers(0, len(bootable_image()) - 1), flip=st.integers(1, 255))
def test_only_an_intact_image_boots(position: int, flip: int) -> None:
    """Any changed byte of the segment or the checksum stops the ROM; a changed entry point or flash size does not."""
    image = bytearray(bootable_image())
    image[position] ^= flip
    boots = make_chip(mac=MAC, image=bytes(image)).boot(gpio0_low=False, cause=ResetCause.POWER_ON)
    if position >= 16 and (position < 3016 or position == len(image) - 1):
        assert boots.to is BootTo.NOWHERE
        assert b"csum err" in boots.chatter
    if 3 <= position < 12:
        assert boots.to is BootTo.FIRMWARE


@pytest.mark.parametrize("mode", range(5))
def test_flash_modes_and_boards(mode: int) -> None:
    """A usual board starts from the four flash modes, one that needs dout from that only, neither from others."""
    image = bootable_image(flash_mode=mode)
    usual = chip_with(image=image).boot(gpio0_low=False, cause=ResetCause.POWER_ON)
    picky = chip_with("needs_dout", image=image).boot(gpio0_low=False, cause=ResetCause.POWER_ON)
    assert (usual.to is BootTo.FIRMWARE) == (mode < 4)
    assert (picky.to is BootTo.FIRMWARE) == (mode == 3)


def test_blank_dead_and_silent_boards_boot_nowhere() -> None:
    """Blank flash and dead flash make the ROM complain; a board without boot or without answer ends in silence."""

    def boot(*tokens: str, image: bytes = b"") -> tuple[BootTo, bytes]:
        started = chip_with(*tokens, image=image).boot(gpio0_low=False, cause=ResetCause.POWER_ON)
        return started.to, started.chatter[-24:]

    assert boot() == (BootTo.NOWHERE, b"e:(3,7)\r\n\r\nets_main.c \r\n"[-24:])
    assert b"flash read err" in chip_with("flash_dead").boot(gpio0_low=False, cause=ResetCause.POWER_ON).chatter
    assert boot("no_boot", image=bootable_image())[0] is BootTo.NOWHERE
    assert boot("no_answer", image=bootable_image()) == (BootTo.NOWHERE, b"")


def test_faults_choose_the_flash_chip() -> None:
    """Size, id and vendor are those the token speaks of."""

    def sizes(*tokens: str) -> tuple[int, int, int]:
        flash = chip_with(*tokens).flash
        return flash.jedec_id, flash.size_bytes, flash.real_size_bytes

    assert sizes() == (0x1440EF, 1 << 20, 1 << 20)
    assert sizes("small_flash") == (0x1340EF, 1 << 19, 1 << 19)
    assert sizes("fake_flash") == (0x1440EF, 1 << 20, 1 << 19)
    assert sizes("puya") == (0x146085, 1 << 20, 1 << 20)
    assert sizes("flash_unknown")[0] >> 16 == 0x7F
    assert sizes("flash_dead")[0] == 0xFFFFFF
    assert sizes("flash_dead@000000")[0] == 0


def test_fault_numbers() -> None:
    """A percentage is a number; a fault without one says so."""
    assert parse_fault("hang@12.5").number == 12.5
    with pytest.raises(ValueError, match="no number"):
        _ = Fault("worn").number

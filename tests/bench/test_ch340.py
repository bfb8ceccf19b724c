"""The virtual CH340 answers what Linux's ch341 driver asks of a real one; sequences and figures as measured on real kernels."""

import pytest

from station.bench.usb.ch340 import Ch340

# The baud that is asked for, the index of the driver's request for it, the rate of the real chip (ch341.c, chip version 0x31).
BAUDS = (
    (1200, "b281", 1202),
    (2400, "d981", 2404),
    (9600, "b282", 9615),
    (19200, "d982", 19231),
    (38400, "6483", 38462),
    (57600, "9883", 57692),
    (74880, "b083", 75000),
    (115200, "cc83", 115385),
    (230400, "e683", 230769),
    (250000, "e883", 250000),
    (460800, "f383", 461538),
    (500000, "f483", 500000),
    (921600, "f387", 923077),
    (1000000, "fa83", 1000000),
    (1500000, "fc83", 1500000),
    (2000000, "fd83", 2000000),
    (3000000, "fe83", 3000000),
)


def ask(chip: Ch340, words: str) -> str | None:
    """Make a request as a usbmon trace writes it (type, request, value, index, length); the answer in hex, None for a stall."""
    kind, request, value, index, *length = words.split()
    setup = bytes((int(kind, 16), int(request, 16)))
    setup += int(value, 16).to_bytes(2, "little") + int(index, 16).to_bytes(2, "little")
    answer = chip.control(setup + int(length[0] if length else "0", 16).to_bytes(2, "little"))
    return None if answer is None else answer.hex()


def test_the_kernel_finds_the_descriptors_of_a_real_one() -> None:
    """Device, configuration, language and product descriptor are, byte for byte, those of a CH340 with bcdDevice 2.64."""
    chip = Ch340()
    device = "12011001ff000008861a2375640200020001"
    configuration = "0902270001010080310904000003ff01020007058202200000070502022000000705810308000" + "1"
    assert ask(chip, "80 06 0100 0000 08") == device[:16]
    assert ask(chip, "80 06 0100 0000 12") == device
    assert ask(chip, "80 06 0200 0000 09") == configuration[:18]
    assert ask(chip, "80 06 0200 0000 27") == configuration
    assert ask(chip, "80 06 0300 0000 ff") == "04030904"
    product = ask(chip, "80 06 0302 0409 ff")
    assert product is not None
    assert bytes.fromhex(product)[2:].decode("utf-16-le") == "USB Serial"
    assert bytes.fromhex(product)[:2] == bytes((22, 3))


def test_standard_requests_are_answered_and_all_else_is_stalled() -> None:
    """Configuration, status, interface and halt are served; a device qualifier, another string, another request stall."""
    chip = Ch340()
    assert ask(chip, "00 09 0001 0000") == ""
    assert ask(chip, "80 08 0000 0000 01") == "01"
    assert ask(chip, "80 00 0000 0000 02") == "0000"
    assert ask(chip, "01 0b 0000 0000") == ""
    assert ask(chip, "02 01 0000 0082") == ""
    for unknown in (
        "80 06 0600 0000 0a",
        "80 06 03ee 0000 12",
        "80 06 0301 0409 ff",
        "c0 42 0000 0000 02",
        "40 42 0 0",
    ):
        assert ask(chip, unknown) is None


def test_the_driver_can_probe_and_open_it() -> None:
    """The driver's own requests, from the probe to the end of an open, get the answers that a real chip gives."""
    chip = Ch340()
    for request, answer in (
        ("c0 5f 0000 0000 02", "3100"),
        ("40 a1 0000 0000", ""),
        ("40 9a 1312 b282", ""),
        ("40 9a 2518 00c3", ""),
        ("40 a4 ffff 0000", ""),
        ("c0 95 0005 0000 02", "0100"),
        ("40 9a 1312 cc83", ""),
        ("40 9a 2518 00c3", ""),
        ("c0 95 0706 0000 02", "ffee"),
        ("40 a4 ff9f 0000", ""),
    ):
        assert ask(chip, request) == answer, request
    assert (chip.baud, chip.dtr, chip.rts, chip.line_control) == (115385, True, True, 0xC3)


@pytest.mark.parametrize(("index", "real"), [(index, real) for _, index, real in BAUDS])
def test_the_rate_is_what_divisor_and_prescaler_make_of_the_clock(index: str, real: int) -> None:
    """The emulation runs at the rate the real chip would have, off by as little as that one from what was asked."""
    chip = Ch340()
    ask(chip, f"40 9a 1312 {index}")
    assert chip.baud == real


@pytest.mark.parametrize(("index", "real"), [("b202", 9615), ("cc03", 115385)])
def test_the_rate_does_not_depend_on_the_flag_of_newer_chips(index: str, real: int) -> None:
    """Bit 7 of the prescaler only says when a packet is sent."""
    chip = Ch340()
    ask(chip, f"40 9a 1312 {index}")
    assert chip.baud == real


@pytest.mark.parametrize(
    ("value", "lines"),
    [("ff9f", (True, True)), ("ffdf", (True, False)), ("ffbf", (False, True)), ("ffff", (False, False))],
)
def test_the_modem_lines_are_inverted_bits(value: str, lines: tuple[bool, bool]) -> None:
    """DTR is bit 5 and RTS bit 6 of the request's value, asserted where the bit is 0."""
    chip = Ch340()
    ask(chip, f"40 a4 {value} 0000")
    assert (chip.dtr, chip.rts) == lines


def test_a_break_is_two_registers() -> None:
    """The driver begins and ends a break by writing registers 0x05 and 0x18, which it reads before."""
    chip = Ch340()
    assert ask(chip, "c0 95 1805 0000 02") == "01c3"
    ask(chip, "40 9a 1805 8300")
    assert chip.break_on
    assert ask(chip, "c0 95 1805 0000 02") == "0083"
    ask(chip, "40 9a 1805 c301")
    assert not chip.break_on


def test_a_dead_and_a_limited_adapter_stall_one_request_each() -> None:
    """One that stalls the probe does nothing else wrong, and a limited clone stalls only the read that tells it apart."""
    dead, limited = Ch340(stalls_probe=True), Ch340(limited=True)
    assert ask(dead, "c0 5f 0000 0000 02") is None
    assert ask(dead, "80 06 0302 0409 ff") is not None
    assert ask(limited, "c0 5f 0000 0000 02") == "3100"
    assert ask(limited, "c0 95 0005 0000 02") is None
    assert ask(limited, "c0 95 0706 0000 02") == "ffee"

"""The label printer at the end of a real socket or a real device file: what it gets, and what is said when it cannot."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import threading

import pytest

from station.adapters import printer as adapter
from station.adapters.printer import complaint_in, open_printer
from station.config import parse_printer
from station.errors import PrinterTrouble
from tests.adapters.printer_rig import Mood, printing

LABEL = b"^XA\n^FH^FDhello^FS\n^XZ\n"


def trouble_with(where: str, label: bytes = LABEL) -> PrinterTrouble:
    """Print where it cannot work, and return what is said."""
    with pytest.raises(PrinterTrouble) as trouble, open_printer(where) as there:
        there.send(label)
    return trouble.value


@pytest.mark.parametrize("mood", ["well", "mute"])
def test_a_printer_gets_the_label_whole(mood: Mood, monkeypatch) -> None:
    """One that answers how it is, and one that does not answer at all, which is believed to be well."""
    monkeypatch.setattr(adapter, "STATUS_S", 0.2)
    with printing(mood) as printer:
        with open_printer(printer.url) as there:
            there.send(LABEL)
        assert printer.came.wait(10)
        assert printer.labels == [LABEL]


@pytest.mark.parametrize("mood", ["paper out", "head open", "paused"])
def test_a_printer_that_cannot_print_gets_nothing(mood: Mood) -> None:
    """It says so itself, and no byte of the label is sent: it may be sent later."""
    with printing(mood) as printer:
        trouble = trouble_with(printer.url)
    assert (trouble.problem, trouble.sent, printer.labels) == (mood, False, [])


def test_a_printer_that_is_off_is_named() -> None:
    """Nobody listens there: nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    trouble = trouble_with(f"tcp://127.0.0.1:{port}")
    assert not trouble.sent
    assert f"127.0.0.1:{port}" in trouble.problem


@pytest.mark.parametrize("size_bytes", [200, 4_000_000])
def test_a_printer_that_breaks_off_may_have_printed(size_bytes, monkeypatch) -> None:
    """The connection is torn down in the middle of a label, also of one that the kernel had taken whole."""
    monkeypatch.setattr(adapter, "GOODBYE_S", 10.0)
    with printing("breaks") as printer:
        assert trouble_with(printer.url, LABEL + b" " * size_bytes).sent


def test_a_printer_that_hangs_up_when_it_is_asked_gets_nothing() -> None:
    """It serves somebody else, or is not ready: no byte of the label is sent, so it may be sent later."""
    with printing("hangs up") as printer:
        trouble = trouble_with(printer.url)
        assert (trouble.sent, printer.labels) == (False, [])
    assert "hangs up" in trouble.problem


@pytest.mark.parametrize("host", ["no-such-printer.invalid", "printer..example", "a" * 70])
def test_a_printer_whose_name_nobody_knows_is_named(host) -> None:
    """Whether the name service does not know it or it is no name at all: nothing was sent."""
    trouble = trouble_with(f"tcp://{host}:9100")
    assert not trouble.sent
    assert host in trouble.problem


@pytest.mark.parametrize("reads", [True, False])
def test_what_a_device_still_holds_is_not_printed(reads, monkeypatch) -> None:
    """A driver that took the bytes and is not ready again has not given them to the printer, and drops them at the end.

    A pipe behaves like that driver: it takes as much as it can hold, and is writable again when somebody reads.
    """
    monkeypatch.setattr(adapter, "SEND_S", 10.0 if reads else 0.3)
    ours, theirs = os.pipe2(os.O_NONBLOCK)
    label = b"^" * fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    reader = threading.Timer(0.2, lambda: os.read(ours, len(label)))
    try:
        if reads:
            reader.start()
            adapter._Link(theirs).send(label)
        else:
            with pytest.raises(PrinterTrouble) as trouble:
                adapter._Link(theirs).send(label)
            assert trouble.value.sent
    finally:
        reader.cancel()
        if reads:
            reader.join()
        os.close(ours)
        os.close(theirs)


def test_a_printer_that_takes_no_more_is_given_up(monkeypatch) -> None:
    """A printer that stops reading costs a deadline, and what it took may be printed."""
    monkeypatch.setattr(adapter, "SEND_S", 0.5)
    monkeypatch.setattr(adapter, "STATUS_S", 0.2)
    with printing("hangs") as printer:
        assert trouble_with(printer.url, LABEL * 400_000).sent


def test_an_answer_that_makes_no_sense_keeps_nobody_from_printing() -> None:
    """Only the flags of a whole status count; anything else is a printer of another kind."""
    assert complaint_in(b"") == ""
    assert complaint_in(b"\x02030,1\x03\r\n") == ""
    assert complaint_in(b"HTTP/1.1 400 Bad Request\r\n") == ""
    whole = b"\x02030,1,1,1245,000,1,0,0,000,0,0,0\x03\r\n\x02000,0,1,1,0,2,4,0,0,1,0\x03\r\n\x021234,0\x03\r\n"
    assert complaint_in(whole) == "paper out, paused, its memory is full, head open, ribbon out"


def test_a_device_file_gets_the_label_byte_for_byte() -> None:
    """A terminal device changes nothing of what is written to it."""
    ours, theirs = pty.openpty()
    try:
        got = bytearray()

        def listen() -> None:
            while b"^XZ\n" not in got and select.select([ours], [], [], 10)[0]:
                got.extend(os.read(ours, 4096))

        listener = threading.Thread(target=listen)
        listener.start()
        with open_printer(os.ttyname(theirs)) as there:
            there.send(LABEL)
        listener.join(20)
        assert bytes(got) == LABEL
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_device_that_takes_nothing_is_given_up(monkeypatch) -> None:
    """Nobody reads at the other end: the deadline passes, and a part may be on paper."""
    monkeypatch.setattr(adapter, "SEND_S", 0.5)
    ours, theirs = pty.openpty()
    try:
        assert trouble_with(os.ttyname(theirs), LABEL * 100_000).sent
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_is_no_device_is_never_written_to(tmp_path) -> None:
    """A file, or nothing at all, in the place of a printer: said so, and left as it is."""
    file = tmp_path / "lp0"
    file.write_bytes(b"precious")
    assert not trouble_with(str(file)).sent
    assert file.read_bytes() == b"precious"
    assert "cannot be opened" in trouble_with(str(tmp_path / "lp1")).problem


def test_a_port_may_be_left_out() -> None:
    """9100 is what every label printer listens at."""
    assert parse_printer("tcp://printer") == ("printer", 9100)
    assert parse_printer("tcp://[::1]:6101") == ("::1", 6101)
    assert parse_printer("tcp://[fe80::1]") == ("fe80::1", 9100)
    assert parse_printer("/dev/usb/lp0") is None

"""USB/IP framing: the kernel's requests are found in any cutting of the stream, and answers have the kernel's layout."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.bench.usb.usbip import BrokenStream, Framing, Submit, Unlink, ret_submit, ret_unlink


def command(request: Submit | Unlink) -> bytes:
    """The bytes of one request, laid out by hand from the kernel's usbip_protocol.rst."""
    if isinstance(request, Unlink):
        return struct.pack(">IIIII I", 2, request.seqnum, 0x10001, 0, 0, request.victim) + bytes(24)
    head = struct.pack(">IIIII", 1, request.seqnum, 0x10001, request.is_in, request.endpoint)
    return head + struct.pack(">Iiiii", 0x200, request.length_bytes, 0, 0, 0) + request.setup + request.data


NUMBERS = st.integers(0, 0xFFFFFFFF)
ENDPOINTS, SETUPS = st.integers(0, 15), st.binary(min_size=8, max_size=8)
REQUESTS = st.one_of(
    st.builds(Unlink, NUMBERS, NUMBERS),
    st.builds(Submit, NUMBERS, st.just(True), ENDPOINTS, st.integers(0, 4096), SETUPS, st.just(b"")),
    st.builds(
        lambda number, endpoint, setup, data: Submit(number, False, endpoint, len(data), setup, data),
        NUMBERS,
        ENDPOINTS,
        SETUPS,
        st.binary(max_size=70),
    ),
)


@given(requests=st.lists(REQUESTS, max_size=12), cuts=st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_requests_are_found_however_the_stream_is_cut(requests: list, cuts: list[int]) -> None:
    """Every request comes out once, in order and whole, whatever pieces the stream arrives in."""
    stream, framing, found, at = b"".join(map(command, requests)), Framing(), [], 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        found += framing.feed(stream[at : at + size])
        at += size
    assert found == requests
    assert framing.feed(b"") == []


@pytest.mark.parametrize("wrong", [b"\0" * 48, b"\0\0\0\x05" + b"\0" * 44, b"\x01\x11\x80\x03" + b"\0" * 44])
def test_what_is_no_usbip_is_refused(wrong: bytes) -> None:
    """Unknown commands, the handshake of the user-space tools among them, are no requests."""
    with pytest.raises(BrokenStream):
        Framing().feed(wrong)


@pytest.mark.parametrize("length", [-1, 1 << 30])
def test_a_transfer_of_an_impossible_length_is_refused(length: int) -> None:
    """A length that no driver asks for ends the stream instead of filling the memory."""
    head = struct.pack(">IIIII Iiiii", 1, 1, 1, 0, 2, 0, length, 0, 0, 0)
    with pytest.raises(BrokenStream):
        Framing().feed(head + bytes(8))


def test_answers_have_the_layout_of_the_protocol() -> None:
    """An end of a transfer has 48 bytes and its data, an answer to an unlink 48; statuses are negative errnos."""
    assert ret_submit(7, 0, 3, b"abc") == struct.pack(">10I", 3, 7, 0, 0, 0, 0, 3, 0, 0, 0) + bytes(8) + b"abc"
    assert ret_submit(8, -32, 0) == struct.pack(">IIIIIi", 3, 8, 0, 0, 0, -32) + bytes(24)
    assert ret_unlink(9, was_pending=True) == struct.pack(">IIIIIi", 4, 9, 0, 0, 0, -104) + bytes(24)
    assert ret_unlink(9, was_pending=False) == struct.pack(">IIIIIi", 4, 9, 0, 0, 0, 0) + bytes(24)

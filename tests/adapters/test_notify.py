"""systemd's notification protocol, spoken to a socket of our own: whole datagrams, and never an exception."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.adapters.notify import notify, watchdog_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager that listens where NOTIFY_SOCKET says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield channel


def test_lines_arrive_in_one_datagram(manager: socket.socket) -> None:
    """Readiness and status said together reach the manager together."""
    notify("READY=1", "STATUS=page at http://127.0.0.1:8080/")
    assert manager.recv(4096) == b"READY=1\nSTATUS=page at http://127.0.0.1:8080/"
    notify("WATCHDOG=1")
    assert manager.recv(4096) == b"WATCHDOG=1"


def test_an_abstract_socket_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that begins with @ is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(b"")  # the kernel chooses an abstract name
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + channel.getsockname()[1:].decode())
        notify("STOPPING=1")
        assert channel.recv(4096) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody", "/" + "x" * 200, "vsock:2:1234", "relative"])
def test_no_manager_is_no_trouble(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Without a manager, or with an address nobody can be at, nothing is sent and nothing is raised."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_a_manager_that_does_not_read_stops_nobody(manager: socket.socket) -> None:
    """When the manager's queue is full the datagram is dropped; the caller, who is the event loop, goes on at once."""
    for _ in range(2000):
        notify("WATCHDOG=1")
    assert manager.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("pid", "usec", "wanted_s"),
    [
        ("", "30000000", 30.0),
        pytest.param(str(os.getpid()), "500000", 0.5, id="our own pid"),
        ("1", "30000000", None),
        ("", "", None),
        ("", "0", None),
        ("", "soon", None),
        ("", "-5", None),
    ],
)
def test_the_manager_says_how_often_it_wants_to_hear_of_us(
    monkeypatch: pytest.MonkeyPatch, pid: str, usec: str, wanted_s: float | None
) -> None:
    """In microseconds, and for one process: what is meant for another, is zero or is no number asks for nothing."""
    monkeypatch.setenv("WATCHDOG_PID", pid)
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    assert watchdog_s() == wanted_s

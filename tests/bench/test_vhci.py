"""The kernel's virtual host controller as its sysfs files show it: which sockets it has, and the order to attach a device."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from station.bench.usb.vhci import VhciSocket, attach, sockets
from station.errors import ConfigurationError

HEAD = "hub port sta spd dev      sockfd local_busid\n"


def controller(directory: Path, *, buses: int = 2, ports: int = 15) -> Path:
    """A controller as Debian 6.1 has it: 15 sockets for USB 2 and 15 for USB 3 on each bus."""
    directory.mkdir()
    (directory / "attach").write_text("")
    for bus in range(buses):
        lines = [
            f"{hub}  {bus * 2 * ports + half * ports + port:04d} 004 000 00000000 000000 0-0\n"
            for half, hub in enumerate(("hs", "ss"))
            for port in range(ports)
        ]
        (directory / (f"status.{bus}" if bus else "status")).write_text(HEAD + "".join(lines))
    return directory


def test_sockets_are_numbered_and_named_as_the_kernel_does(tmp_path: Path) -> None:
    """The first fifteen are 0 to 14 of the first controller, the next are 30 and on of the second."""
    found = sockets(17, controller(tmp_path / "vhci"))
    assert [place.number for place in found] == [*range(15), 30, 31]
    assert found[0].id_path == "platform-vhci_hcd.0-usb-0:1:1.0"
    assert found[14].id_path == "platform-vhci_hcd.0-usb-0:15:1.0"
    assert found[16].id_path == "platform-vhci_hcd.1-usb-0:2:1.0"


def test_more_sockets_than_there_are_is_refused(tmp_path: Path) -> None:
    """The message says how many there are."""
    with pytest.raises(ConfigurationError, match="it has 3 sockets, not 4"):
        sockets(4, controller(tmp_path / "vhci", buses=1, ports=3))


def test_a_kernel_without_the_controller_is_told_how_to_get_it(tmp_path: Path) -> None:
    """No vhci_hcd: the fix is the command that loads it."""
    with pytest.raises(ConfigurationError, match="sudo modprobe vhci_hcd"):
        sockets(1, tmp_path / "nothing")


def test_who_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that we may not write to: the fix is sudo."""
    place = controller(tmp_path / "vhci")
    monkeypatch.setattr(os, "access", lambda path, _mode: path != place / "attach")
    with pytest.raises(ConfigurationError, match="run it with sudo"):
        sockets(1, place)


def test_a_device_is_attached_by_one_line(tmp_path: Path) -> None:
    """The order is socket, descriptor, device and 2 for full speed; the stream's other end belongs to the kernel alone."""
    place = controller(tmp_path / "vhci")
    with attach(VhciSocket(number=30, bus=1, root_port=1), place) as stream:
        number, descriptor, device, speed = (place / "attach").read_text().split()
        assert (number, speed) == ("30", "2")
        assert int(device) > 0
        assert int(descriptor) > 2
        assert stream.type is socket.SOCK_STREAM
        assert stream.recv(1) == b""  # nobody but the kernel would have held the other end


def test_a_refusal_of_the_kernel_names_the_socket(tmp_path: Path) -> None:
    """What the kernel says to the order is passed on with the socket's number."""
    place = tmp_path / "vhci"
    place.mkdir()
    (place / "attach").symlink_to("/dev/full")
    with pytest.raises(OSError, match="cannot attach to vhci port 3: No space left on device"):
        attach(VhciSocket(number=3, bus=0, root_port=4), place)

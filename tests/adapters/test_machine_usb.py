"""The USB tree from sysfs: what is attached, which of it are programmers, and who shares which translator."""

from __future__ import annotations

from pathlib import Path

import pytest

from station.adapters.machine.usb import above, programmers, translator_of, usb_tree
from station.config import DEFAULT_USB_IDS
from tests.adapters.machine_rig import CH340, HUB, PLACE, ROOT_HUB, MadeUpMachine


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    """A machine with a root hub and nothing on it."""
    return MadeUpMachine(tmp_path)


def shared(machine: MadeUpMachine) -> dict[str, str]:
    """Programmer -> the translator it shares."""
    tree = usb_tree(machine.root)
    return {each.path: translator_of(each, tree) for each in programmers(tree, DEFAULT_USB_IDS, ())}


def test_a_programmer_is_read_with_its_port(machine: MadeUpMachine) -> None:
    """Ids, version, power and the tty with udev's place come out of sysfs and udev's record."""
    machine.usb("1-2", HUB)
    node = machine.programmer("2.3", 4)
    tree = usb_tree(machine.root)
    found = tree["1-2.3"]
    assert (found.kind, found.path, found.speed_mbit, found.max_power_ma) == ("1a86:7523 0262", "2.3", 12.0, 98)
    assert (found.self_powered, found.power_control, found.autosuspend_delay_ms) == (False, "on", 2000)
    assert [(tty.node, tty.id_path, tty.port) for tty in found.ttys] == [(node, PLACE.format(ports="2.3"), "0")]
    assert [hub.name for hub in above(found, tree)] == ["1-2", "usb1"]
    assert list(tree) == ["usb1", "1-2", "1-2.3"]


def test_a_cdc_acm_adapter_has_its_port_one_directory_higher(machine: MadeUpMachine) -> None:
    """WCH's newer parts come up through cdc_acm, as ttyACM."""
    machine.usb("1-4", CH340 | {"idProduct": "55d4"})
    machine.write("sys/bus/usb/devices/1-4/1-4:1.0/tty/ttyACM0/dev", "166:0\n")
    assert [tty.node for tty in usb_tree(machine.root)["1-4"].ttys] == ["/dev/ttyACM0"]


def test_a_tower_light_in_an_excluded_place_is_no_programmer(machine: MadeUpMachine) -> None:
    """A place is excluded by its ID_PATH, or by the one with the port's number."""
    machine.programmer("2", 0)
    machine.programmer("3", 1)
    tree = usb_tree(machine.root)
    place = PLACE.format(ports="2")
    for excluded in (place, f"{place}:0"):
        assert [each.path for each in programmers(tree, DEFAULT_USB_IDS, [excluded])] == ["3"]


def test_odd_devices_hide_nobody(machine: MadeUpMachine) -> None:
    """Interfaces, a device without ids, numbers that are none and a product of control characters harm no other."""
    machine.usb("1-1:1.0", {"bInterfaceClass": "ff"})
    machine.usb("1-6", {"product": "half gone"})
    machine.usb("1-5", CH340 | {"bMaxPower": "lots", "speed": "fast", "product": "a\x1b[31mb" + "x" * 900})
    machine.programmer("7", 0)
    tree = usb_tree(machine.root)
    assert list(tree) == ["usb1", "1-5", "1-7"]
    assert (tree["1-5"].max_power_ma, tree["1-5"].speed_mbit) == (None, 0.0)
    assert tree["1-5"].product.isprintable()
    assert len(tree["1-5"].product) <= 64


def test_a_machine_without_usb_has_an_empty_tree(tmp_path: Path) -> None:
    """No bus is no error: there is nothing on it."""
    assert usb_tree(tmp_path) == {}


def test_behind_a_single_tt_hub_all_share(machine: MadeUpMachine) -> None:
    """By bDeviceProtocol 1 the hub has one translator for all ports."""
    machine.usb("1-2", HUB)
    machine.programmer("2.1", 0)
    machine.programmer("2.4", 1)
    assert shared(machine) == {"2.1": "1-2", "2.4": "1-2"}


def test_behind_a_multi_tt_hub_each_port_has_its_own(machine: MadeUpMachine) -> None:
    """By bDeviceProtocol 2 there is one translator for each port; a slow hub in a port shares that port's."""
    machine.usb("1-2", HUB | {"bDeviceProtocol": "02"})
    machine.programmer("2.1", 0)
    machine.usb("1-2.4", HUB | {"speed": "12", "bDeviceProtocol": "00"})
    machine.programmer("2.4.1", 1)
    machine.programmer("2.4.2", 2)
    assert shared(machine) == {"2.1": "1-2 port 1", "2.4.1": "1-2 port 4", "2.4.2": "1-2 port 4"}


def test_the_nearest_high_speed_hub_counts(machine: MadeUpMachine) -> None:
    """A single-TT hub behind a multi-TT one has its own translator."""
    machine.usb("1-2", HUB | {"bDeviceProtocol": "02"})
    machine.usb("1-2.1", HUB)
    machine.programmer("2.1.1", 0)
    machine.programmer("2.1.2", 1)
    assert set(shared(machine).values()) == {"1-2.1"}


def test_at_the_machine_itself_each_port_stands_alone(machine: MadeUpMachine) -> None:
    """A root port is nobody else's; a bus that is itself full speed is shared by all of it."""
    machine.programmer("1", 0)
    machine.programmer("2", 1)
    assert shared(machine) == {"1": "usb1 port 1", "2": "usb1 port 2"}
    machine.usb("usb1", ROOT_HUB | {"speed": "12"})
    assert shared(machine) == {"1": "usb1", "2": "usb1"}

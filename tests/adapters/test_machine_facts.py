"""Processes, mounts, users and kernel modules as their files tell them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from station.adapters.machine.kernel import Kernel, ModuleState, module_state, running_kernel
from station.adapters.machine.people import Person, group_name, group_number, person_at_work
from station.adapters.machine.processes import Holder, holders_of, is_running
from station.adapters.machine.storage import free_bytes, mount_of, nearest_directory, same_device
from station.adapters.machine.tools import output_of
from tests.adapters.machine_rig import DEFAULT_RELEASE, MadeUpMachine


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    """A machine with nobody on it."""
    return MadeUpMachine(tmp_path)


# --- processes -----------------------------------------------------------------------------------------------------


def test_who_holds_a_port_is_named_with_its_command(machine: MadeUpMachine) -> None:
    """PID and command line of everybody who has the node open; who has others open is not named."""
    machine.process(41, "/usr/bin/minicom -D /dev/ttyUSB0", "/dev/null", "/dev/ttyUSB0")
    machine.process(42, "cat", "/dev/ttyUSB1")
    found = holders_of(machine.root, ["/dev/ttyUSB0"])
    assert found.found == (Holder(pid=41, command="/usr/bin/minicom -D /dev/ttyUSB0", node="/dev/ttyUSB0"),)
    assert found.unseen == 0


def test_processes_that_hide_their_files_are_counted(machine: MadeUpMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the files of others cannot be seen; that is part of the answer."""
    hidden = machine.process(41, "minicom", "/dev/ttyUSB0")
    iterdir = Path.iterdir

    def refuse(path: Path):
        if path == hidden:
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = holders_of(machine.root, ["/dev/ttyUSB0"])
    assert (found.found, found.unseen) == ((), 1)


def test_a_process_is_found_by_its_name(machine: MadeUpMachine) -> None:
    """The kernel's own name of a process counts, and only the whole of it."""
    machine.process(7, "/usr/sbin/ModemManager --debug")
    assert is_running(machine.root, "ModemManager")
    assert not is_running(machine.root, "Modem")


def test_the_files_of_this_very_process_are_seen(tmp_path: Path) -> None:
    """On the real /proc, what we have open ourselves is found."""
    with (tmp_path / "open").open("w") as file:
        found = holders_of(Path("/"), [file.name])
    assert os.getpid() in {holder.pid for holder in found.found}


# --- mounts --------------------------------------------------------------------------------------------------------


def test_the_deepest_mount_counts_and_the_last_of_two(machine: MadeUpMachine, tmp_path: Path) -> None:
    """A path is on the mount that is nearest above it; blanks in mount points are written in octal."""
    deep = tmp_path / "a b" / "c"
    deep.mkdir(parents=True)
    octal = str(tmp_path / "a b").replace(" ", "\\040")
    machine.write(
        "proc/self/mountinfo",
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"22 21 0:5 / {octal} rw shared:3 master:1 - tmpfs tmpfs rw\n"
        f"23 21 0:6 / {octal} rw - nfs4 server:/x rw\n"
        f"24 21 0:7 / {octal}/cd rw - vfat /dev/sdb rw\n",
    )
    assert mount_of(machine.root, deep / "not yet there").kind == "nfs4"
    assert mount_of(machine.root, deep).point == str(tmp_path / "a b")
    assert mount_of(machine.root, tmp_path).kind == "ext4"


def test_the_real_mounts_are_read(tmp_path: Path) -> None:
    """On this machine there is a filesystem under a path, space on it, and one device under one directory."""
    there = tmp_path / "no" / "such" / "file"
    assert nearest_directory(there) == tmp_path
    assert mount_of(Path("/"), there).kind
    assert free_bytes(there) > 0
    assert same_device(there, tmp_path)
    assert not same_device(Path("/proc"), tmp_path)


# --- users ---------------------------------------------------------------------------------------------------------


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    """A file's status."""
    return os.stat_result((stat.S_IFCHR | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "may"),
    [
        (0o660, 0, 20, True),
        (0o660, 0, 21, False),
        (0o640, 0, 20, False),
        (0o600, 107, 21, True),
        (0o060, 107, 20, False),
        (0o606, 0, 20, False),
        (0o666, 0, 21, True),
    ],
)
def test_the_first_that_fits_of_owner_group_and_others_decides(*, mode: int, uid: int, gid: int, may: bool) -> None:
    """Read and write are both needed, and an owner without them is not helped by the group."""
    person = Person(name="station", uid=107, groups=frozenset((20, 9999)), is_running=False)
    assert person.may_use(status(mode, uid, gid)) is may


def test_root_asks_for_the_user_of_the_service(machine: MadeUpMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its groups are those of /etc/group and those that the unit and its drop-ins add."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.users(station=107, dialout=20, members="ada")
    assert person_at_work(machine.root) == Person(name="station", uid=107, groups=frozenset((9999,)), is_running=False)
    machine.write("usr/lib/systemd/system/station.service", "[Service]\nSupplementaryGroups=dialout\n")
    assert person_at_work(machine.root).groups == {20, 9999}
    machine.write("etc/systemd/system/station.service.d/own.conf", "[Service]\nSupplementaryGroups=\n")
    assert person_at_work(machine.root).groups == {9999}
    assert (group_name(machine.root, 20), group_name(machine.root, 5)) == ("dialout", "5")
    assert (group_number(machine.root, "dialout"), group_number(machine.root, "nobody")) == (20, None)


def test_anybody_else_asks_for_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person who runs the station by hand has the groups of the running process."""
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    person = person_at_work(tmp_path)
    assert (person.name, person.uid, person.is_running) == ("4321", 4321, True)
    assert person.groups == {os.getegid(), *os.getgroups()}


# --- kernel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "version", "upstream"),
    [
        ("5.10.0-8-amd64", "#1 SMP Debian 5.10.46-4 (2021-08-03)", "5.10.46"),
        ("5.13.10-arch1-1", "#1 SMP PREEMPT Thu, 12 Aug 2021", "5.13.10"),
        ("5.4.0-88-generic", "#99-Ubuntu SMP Thu Sep 23 17:29:00 UTC 2021", ""),
        ("6.6.31+rpt-rpi-v8", "#1 SMP PREEMPT Debian 1:6.6.31-1+rpt1 (2024-05-29)", "6.6.31"),
    ],
)
def test_the_upstream_version_is_found_where_the_distribution_tells_it(
    release: str, version: str, upstream: str
) -> None:
    """Debian's release has no upstream version, its build line does; Ubuntu's has none at all."""
    assert Kernel(release=release, version=version).upstream == upstream


def test_a_module_is_loaded_there_or_missing(machine: MadeUpMachine) -> None:
    """Built-in and compressed ones are there, too; a kernel without a directory has none at all."""
    directory = f"lib/modules/{DEFAULT_RELEASE}"
    assert module_state(machine.root, DEFAULT_RELEASE, "ch341") is ModuleState.AVAILABLE
    assert module_state(machine.root, DEFAULT_RELEASE, "h341") is ModuleState.MISSING
    machine.write(f"{directory}/modules.dep", "kernel/drivers/usb/serial/usbserial.ko.xz:\n")
    assert module_state(machine.root, DEFAULT_RELEASE, "ch341") is ModuleState.MISSING
    assert module_state(machine.root, DEFAULT_RELEASE, "usbserial") is ModuleState.AVAILABLE
    machine.write(f"{directory}/modules.builtin", "kernel/drivers/usb/serial/ch341.ko\n")
    assert module_state(machine.root, DEFAULT_RELEASE, "ch341") is ModuleState.AVAILABLE
    assert module_state(machine.root, "9.9.9", "ch341") is ModuleState.NO_MODULES
    (machine.root / "sys/module/ch341").mkdir()
    assert module_state(machine.root, "9.9.9", "ch341") is ModuleState.LOADED


def test_the_running_kernel_is_that_of_uname() -> None:
    """Release and version are those of this machine."""
    assert running_kernel().release == os.uname().release
    assert running_kernel().version == os.uname().version


# --- tools ---------------------------------------------------------------------------------------------------------


def test_a_tool_that_fails_or_is_missing_says_so() -> None:
    """Its output comes back as text; without it there is an OSError that names the tool."""
    assert output_of("printf", "a\\377b") == "a\\xffb"
    with pytest.raises(OSError, match="there is no no-such-tool here"):
        output_of("no-such-tool")
    with pytest.raises(OSError, match=r"ls ended with 2: .*no-such-file"):
        output_of("ls", "/no-such-file")

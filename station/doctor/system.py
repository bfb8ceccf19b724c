"""What the machine does to programmers: driver, kernel, udev, other programs, permissions. One function per check.

The fixes name Debian's commands. What others need (a Braille display, a modem) is never switched off from here.
"""

from __future__ import annotations

import os

from station.adapters.machine.kernel import ModuleState, module_state
from station.adapters.machine.people import Person, group_name, group_number
from station.adapters.machine.processes import command_of, holders_of, is_running
from station.adapters.machine.rules import OUR_RULE, Claim, brltty_claims, our_rule
from station.adapters.machine.usb import above
from station.doctor.patient import Patient, Said, names, ok, plural, problem, warning

# The kernels that carry commit 3c18e9baee0e ("fix character loss at high transfer rates"), with which esptool gets no answer
# through a CH340: esptool#653, esp8266/Arduino#8328; reverted by df7b16d1c00e.
BAD_KERNELS = ("5.13.10", "5.10.61")
BAD_UBUNTU_KERNEL = "5.4.0-88"
_RELOAD = "udevadm control --reload, then plug the programmers anew"
_INSTALL_RULE = f"install {OUR_RULE} (it is part of the package) into /etc/udev/rules.d; {_RELOAD}"


def driver(one: Patient) -> Said:
    """The kernel's driver for CH340, and an adapter that is there without a port."""
    for programmer in one.programmers():
        if not programmer.ttys:
            yield problem(
                f"the programmer at {programmer.path} ({programmer.usb_id}) has no serial port",
                "plug it anew; if that does not help, the kernel's log (dmesg) says why: a driver that is missing, brltty,"
                " or a broken adapter",
            )
    release = one.kernel.release
    states = {name: module_state(one.root, release, name) for name in ("usbserial", "ch341")}
    missing = [name for name, state in states.items() if state is ModuleState.MISSING]
    if ModuleState.NO_MODULES in states.values():
        yield problem(
            f"the running kernel {release} has no modules on disk, so no driver can be loaded",
            "start the machine again if its kernel was replaced while it ran; else use your distribution's kernel",
        )
    elif missing:
        yield problem(
            f"the running kernel {release} has no driver {' and '.join(missing)}",
            "install the kernel's extra modules (Ubuntu: linux-modules-extra), or a kernel that has them",
        )
    else:
        words = ", ".join(
            f"{name} {'is loaded' if state is ModuleState.LOADED else 'is there'}" for name, state in states.items()
        )
        yield ok(f"{words} (kernel {release})")


def kernel(one: Patient) -> Said:
    """Kernels of 2021 with which a CH340 does not work."""
    running = one.kernel
    if running.upstream in BAD_KERNELS or running.release.startswith(f"{BAD_UBUNTU_KERNEL}-"):
        yield problem(
            f"the kernel {running.release} loses what a CH340 sends (a mistake of August 2021, since taken back)",
            "install the newest kernel of your distribution, and start the machine again",
        )
    else:
        known = ", ".join((*BAD_KERNELS, f"Ubuntu's {BAD_UBUNTU_KERNEL}"))
        yield ok(f"{running.release} is none of those known to be bad ({known})")


def udev(one: Patient) -> Said:
    """Whether udev runs, and speaks to us."""
    if (one.root / "run/udev/control").exists():
        yield ok("udev runs")
    else:
        yield warning(
            "udev does not run here, or this is a container without /run/udev: plugs are found by looking only",
            "run the station on the machine itself, or give the container /run/udev",
        )


def udev_rule(one: Patient) -> Said:
    """Our own rule: in force, and for every configured id."""
    rule = our_rule(one.root)
    if rule is None:
        yield warning(f"the udev rule {OUR_RULE} is not in force", _INSTALL_RULE)
        return
    uncovered = [usb_id for usb_id in one.config.usb.ids if usb_id not in rule.tagged]
    if uncovered:
        yield warning(
            f"{rule.file} does not know {names(uncovered)}, which usb.ids has",
            f"add them there as the others are written, or install the rule of this version; {_RELOAD}",
        )
    else:
        yield ok(f"{rule.file} covers all {len(one.config.usb.ids)} ids of usb.ids")


def brltty(one: Patient) -> Said:
    """A rule by which brltty takes a programmer for a Braille display."""
    claims = brltty_claims(one.root, one.config.usb.ids)
    for claim in {(claim.file, claim.behind): claim for claim in claims}.values():
        yield from _brltty_claim(one, claim)
    if not claims:
        yield ok("no rule of brltty claims a programmer")


def _brltty_claim(one: Patient, claim: Claim) -> Said:
    fix = (
        f"where no Braille display is used: apt-get remove brltty; else: ln -s /dev/null /etc/udev/rules.d/"
        f"{claim.file.rpartition('/')[2]}; {_RELOAD}"
    )
    if not claim.behind:
        yield problem(f"{claim.file} gives every {claim.usb_id} to brltty, which pulls it away from the station", fix)
        return
    tree = one.tree()
    taken = [
        programmer.path
        for programmer in one.programmers()
        if programmer.usb_id == claim.usb_id and any(hub.usb_id == claim.behind for hub in above(programmer, tree))
    ]
    if taken:
        yield problem(
            f"{claim.file} gives every {claim.usb_id} behind a {claim.behind} hub to brltty, and {names(taken)} is", fix
        )
    elif any(hub.usb_id == claim.behind for hub in tree.values()):
        yield warning(
            f"{claim.file} gives every {claim.usb_id} behind a {claim.behind} hub to brltty, and there is such a hub",
            fix,
        )
    else:
        yield ok(f"{claim.file} claims a {claim.usb_id} only behind a {claim.behind} hub, and there is none")


def modemmanager(one: Patient) -> Said:
    """ModemManager, which sends AT commands to what it takes for a modem."""
    running = is_running(one.root, "ModemManager")
    if not running and not (one.root / "usr/sbin/ModemManager").exists():
        yield ok("is not installed")
        return
    said = "runs" if running else "is installed"
    rule = our_rule(one.root)
    open_to_it = [usb_id for usb_id in one.config.usb.ids if rule is None or usb_id not in rule.kept_from_modemmanager]
    if not open_to_it:
        yield ok(f"{said}, and our udev rule keeps it away")
    else:
        yield warning(
            f"ModemManager {said}, and no udev rule of ours keeps it from {names(open_to_it)}",
            f"{_INSTALL_RULE}; or, where there is no modem: apt-get remove modemmanager",
        )


def permission(one: Patient) -> Said:
    """Whether the station's user may open the programmers."""
    person, nodes = one.person(), one.nodes()
    if not nodes:
        yield from _permission_by_group(one, person)
        return
    refused = 0
    for node in nodes:
        file = one.root / node.removeprefix("/")
        status = file.stat()
        by_mode = person.may_use(status)
        if by_mode and (not person.is_running or os.access(file, os.R_OK | os.W_OK)):
            continue
        refused += 1
        group = group_name(one.root, status.st_gid)
        if by_mode:
            yield problem(
                f"{node} is refused to {person.name} although its mode allows it",
                "the unit's DeviceAllow= was resolved without the driver: systemctl restart station",
            )
        else:
            yield problem(
                f"{person.name} may not open {node} (group {group}, mode {status.st_mode & 0o777:04o})",
                f"usermod -aG {group} {person.name}, then log in anew (the service: systemctl restart station);"
                f" or install the udev rule",
            )
    if not refused:
        yield ok(f"{person.name} may open {plural(len(nodes), 'programmer')}")


def _permission_by_group(one: Patient, person: Person) -> Said:
    """Without a programmer: the group that our rule will give them."""
    rule = our_rule(one.root)
    group = rule.group if rule is not None and rule.group else "dialout"
    number = group_number(one.root, group)
    if person.uid == 0 or number in person.groups:
        yield ok(f"no programmer is plugged in; {person.name} may open those of the group {group}")
    else:
        yield problem(
            f"{person.name} is not in the group {group}, to which programmers belong",
            f"usermod -aG {group} {person.name}, then log in anew (the service: systemctl restart station)",
        )


def port(one: Patient) -> Said:
    """Another process that has a programmer open; the station itself may."""
    nodes = one.nodes()
    if not nodes:
        yield ok("no programmer is plugged in")
        return
    holders = holders_of(one.root, nodes)
    strangers = [holder for holder in holders.found if not _is_station(one, holder.pid)]
    for holder in strangers:
        yield problem(
            f"{holder.node} is held by process {holder.pid} ({holder.command})",
            f"end that program (kill {holder.pid}), and keep it from the programmers",
        )
    if strangers:
        return
    if holders.unseen:
        raise PermissionError(f"{plural(holders.unseen, 'process')} of other users hide what they have open")
    yield ok(f"nobody else has one of {plural(len(nodes), 'programmer')} open")


def _is_station(one: Patient, pid: int) -> bool:
    """Whether this is us, or the daemon of this state directory: the lock names it, and its command says so."""
    if pid == os.getpid():
        return True
    try:
        locked_by = (one.config.state_dir / "lock").read_text("ascii", errors="replace").strip()
    except OSError:
        return False
    return locked_by == str(pid) and "station" in command_of(one.root, pid)

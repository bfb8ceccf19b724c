"""What hubs do to programmers: how many share one way to the host, what they draw, and whether they are put to sleep.

Numbers are estimates from descriptors and from the rates that were configured, and each line says which.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from station.adapters.machine.usb import HUB_CLASS, UsbDevice, above, translator_of
from station.doctor.patient import Patient, Said, names, ok, plural, warning

TRANSLATOR_BYTES_PER_S = 1_000_000
"""What full-speed adapters with 32-byte packets get through one transaction translator, about; not measured on silicon."""
BITS_PER_BYTE = 10
"""On the line: start and stop bit."""
BOARD_MA = 250
"""What a board's supply should be able to give (esptool, "Troubleshooting"); its programmer declares only its own share."""
BUS_MA = 500
"""What a USB 2.0 port gives a hub without a supply of its own, for itself and everything behind it."""


def hub_speed(one: Patient) -> Said:
    """How many programmers share the 12 Mbit/s of one transaction translator."""
    tree, found = one.tree(), one.programmers()
    if not found:
        yield ok("no programmer is plugged in")
        return
    baud = one.config.flashing.baud_ladder[0]
    each = baud // BITS_PER_BYTE
    fit = max(1, TRANSLATOR_BYTES_PER_S // each)
    shared = Counter(translator_of(programmer, tree) for programmer in found)
    crowded = {name: count for name, count in shared.items() if count > fit}
    for name, count in crowded.items():
        yield warning(
            f"{count} programmers share the one full-speed translator of {_place(name)}: {count} x {each / 1000:.0f} KB/s at"
            f" {baud} baud is {count * each / 1e6:.2f} of about {TRANSLATOR_BYTES_PER_S / 1e6:.1f} MB/s",
            f"at most {fit} there: spread them over hubs at several ports of the machine, or over a multi-TT hub, or take"
            f" {baud} out of flashing.baud_ladder",
        )
    if not crowded:
        chains = Counter(_chain(programmer) for programmer in found)
        most = max(shared.values())
        spread = ", ".join(f"{count} at {name}" for name, count in sorted(chains.items()))
        yield ok(
            f"{plural(len(found), 'programmer')} ({spread}); at most {most} share one full-speed translator:"
            f" {most * each / 1e6:.2f} of about {TRANSLATOR_BYTES_PER_S / 1e6:.1f} MB/s at {baud} baud"
        )


def hub_power(one: Patient) -> Said:
    """Hubs without a supply of their own that carry more than the bus gives."""
    tree = one.tree()
    mine = {programmer.name for programmer in one.programmers()}
    behind: defaultdict[str, list[UsbDevice]] = defaultdict(list)
    for device in tree.values():
        behind[device.parent].append(device)
    looked_at = {hub.name: hub for name in mine for hub in above(tree[name], tree) if not hub.is_root}
    weak = 0
    for hub in looked_at.values():
        if hub.self_powered is not False:
            continue
        asked_ma = sum(_drawn_ma(device, device.name in mine) for device in behind[hub.name])
        left_ma = BUS_MA - (hub.max_power_ma or 0)
        if asked_ma > left_ma:
            weak += 1
            yield warning(
                f"the hub {hub.path} ({hub.usb_id}) has no supply of its own: {plural(len(behind[hub.name]), 'device')} there"
                f" may draw {asked_ma} mA, and the bus gives {left_ma}",
                "give it its power supply, or use a hub that has one: boards fail when Wi-Fi starts",
            )
    if not weak:
        unsaid = [hub.path for hub in looked_at.values() if hub.self_powered is None]
        if unsaid:
            raise FileNotFoundError(f"sysfs does not say how the hubs {names(unsaid)} are supplied")
        yield ok(f"{plural(len(looked_at), 'hub')} with programmers, none overloaded by what its devices declare")


def autosuspend(one: Patient) -> Said:
    """Programmers that the kernel may put to sleep; a hub sleeps only when everything behind it does."""
    tree = one.tree()
    found = one.programmers()
    sleepy = [programmer for programmer in found if _may_sleep(programmer)]
    if not found:
        yield ok("no programmer is plugged in")
    elif sleepy:
        hubs = sorted({hub.path for programmer in sleepy for hub in above(programmer, tree) if _may_sleep(hub)})
        also = f", and with them the hubs {names(hubs)}" if hubs else ""
        yield warning(
            f"the kernel may put {plural(len(sleepy), 'programmer')} to sleep"
            f" ({names([programmer.path for programmer in sleepy])}){also}",
            "switch autosuspend off for them: write `on` into their power/control, and take them out of TLP or powertop",
        )
    else:
        yield ok(f"{plural(len(found), 'programmer')}, none is put to sleep")


def _drawn_ma(device: UsbDevice, is_programmer: bool) -> int:  # noqa: FBT001 - what kind it is
    declared = device.max_power_ma or 0
    if device.device_class == HUB_CLASS and device.self_powered:
        return 0
    return max(declared, BOARD_MA) if is_programmer else declared


def _may_sleep(device: UsbDevice) -> bool:
    return (
        device.power_control == "auto" and device.autosuspend_delay_ms is not None and device.autosuspend_delay_ms >= 0
    )


def _chain(programmer: UsbDevice) -> str:
    """The hub it sits in, as people read it."""
    return programmer.parent if not programmer.parent.startswith("usb") else f"{programmer.parent} directly"


def _place(translator: str) -> str:
    return f"the hub {translator.partition('-')[2] or translator}"

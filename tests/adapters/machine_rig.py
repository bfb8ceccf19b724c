"""A made-up machine: /etc, /run, /usr, /proc, /sys and /dev below a directory, as the kernel and Debian write them."""

from __future__ import annotations

from pathlib import Path

DEFAULT_RELEASE = "6.1.0-31-amd64"
DIRECT_CLAIM = 'ENV{PRODUCT}=="1a86/7523/*", ENV{BRLTTY_BRAILLE_DRIVER}="bm", GOTO="brltty_usb_run"\n'
CLAIM_BEHIND_HUB = (
    'ENV{PRODUCT}=="1a86/7523/*", ATTRS{idVendor}=="1a40", ATTRS{idProduct}=="0101", '
    'ENV{BRLTTY_BRAILLE_DRIVER}="bm", GOTO="brltty_usb_run"\n'
)
PLACE = "pci-0000:00:14.0-usb-0:{ports}:1.0"
ROOT_HUB = {
    "idVendor": "1d6b",
    "idProduct": "0002",
    "bDeviceClass": "09",
    "bDeviceProtocol": "01",
    "speed": "480",
    "bMaxPower": "0mA",
    "bmAttributes": "e0",
    "power/control": "auto",
    "power/autosuspend_delay_ms": "0",
}
HUB = ROOT_HUB | {"idVendor": "1a40", "idProduct": "0201", "bmAttributes": "e0", "bMaxPower": "100mA"}
CH340 = {
    "idVendor": "1a86",
    "idProduct": "7523",
    "bcdDevice": "0262",
    "product": "USB Serial",
    "bDeviceClass": "ff",
    "bDeviceProtocol": "00",
    "speed": "12",
    "bMaxPower": "98mA",
    "bmAttributes": "80",
    "power/control": "on",
    "power/autosuspend_delay_ms": "2000",
}


class MadeUpMachine:
    """A machine whose files the test writes; with a USB bus, udev, and nobody on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in ("dev", "proc", "etc/udev/rules.d", "usr/lib/udev/rules.d", "run/udev/data", "sys/module"):
            (root / directory).mkdir(parents=True)
        self.write("run/udev/control", "")
        self.write("proc/self/mountinfo", "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
        self.write(f"lib/modules/{DEFAULT_RELEASE}/modules.dep", self.modules("ch341", "usbserial"))
        self.usb("usb1", ROOT_HUB)

    def write(self, path: str, text: str) -> Path:
        """Write a file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def modules(self, *names: str) -> str:
        """The list of modules as depmod writes it."""
        return "".join(f"kernel/drivers/usb/serial/{name}.ko: kernel/drivers/usb/core/usbcore.ko\n" for name in names)

    def usb(self, name: str, attributes: dict[str, str]) -> Path:
        """Attach a USB device."""
        for attribute, value in attributes.items():
            self.write(f"sys/bus/usb/devices/{name}/{attribute}", f"{value}\n")
        return self.root / "sys/bus/usb/devices" / name

    def programmer(self, ports: str, number: int, **changed: str) -> str:
        """Plug a CH340 into these ports of bus 1; return its node. `changed` are attributes that differ."""
        name = f"1-{ports}"
        self.usb(name, CH340 | {key.replace("__", "/"): value for key, value in changed.items()})
        tty = f"ttyUSB{number}"
        below = f"sys/bus/usb/devices/{name}/{name}:1.0/{tty}"
        self.write(f"{below}/port_number", "0\n")
        self.write(f"{below}/tty/{tty}/dev", f"188:{number}\n")
        self.write(f"run/udev/data/c188:{number}", f"S:serial/by-id/x\nE:ID_PATH={PLACE.format(ports=ports)}\n")
        self.write(f"dev/{tty}", "").chmod(0o660)
        return f"/dev/{tty}"

    def process(self, pid: int, command: str, *open_files: str) -> Path:
        """Run a process that has these files open."""
        self.write(f"proc/{pid}/cmdline", command.replace(" ", "\0") + "\0")
        self.write(f"proc/{pid}/comm", f"{command.split(maxsplit=1)[0].rpartition('/')[2][:15]}\n")
        directory = self.root / f"proc/{pid}/fd"
        directory.mkdir()
        for number, target in enumerate(open_files):
            (directory / str(number)).symlink_to(target)
        return directory

    def users(self, *, station: int, dialout: int, members: str = "station") -> None:
        """Write /etc/passwd and /etc/group with the service's user, and who is in dialout."""
        self.write("etc/passwd", f"root:x:0:0::/root:/bin/sh\nstation:x:{station}:9999::/var/lib/station:/bin/false\n")
        self.write("etc/group", f"dialout:x:{dialout}:{members}\nstation:x:9999:\n")

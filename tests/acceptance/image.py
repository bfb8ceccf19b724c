"""The guest's disks: a Debian built from packages once, and per run a copy of it and a disk with what is tested.

The base (`base.ext4`, its kernel and its initrd) is cached by a key of everything it is made of: suite, packages, what is
left out, what is added. It knows nothing of the station: the packages, the driver and the recipe come on a disk of their own,
and are installed from there in the guest as a user would. Everything here runs as root and must never leave a half-made cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
PACKAGES = (
    "systemd-sysv",
    "udev",
    "kmod",
    "dbus",
    "apt",
    "ca-certificates",
    "python3",
    "nodejs",
    "procps",
    "initramfs-tools",
    "linux-image-amd64",
)
LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    # Drivers of machines that this guest is not: two thirds of the kernel package, copied at every run.
    *(f"/lib/modules/*/kernel/drivers/{name}/*" for name in (
        "gpu", "media", "infiniband", "scsi", "staging", "iio", "bluetooth", "isdn", "ata", "mtd", "md", "target",
        "mmc", "nvme", "hwmon", "power", "mfd", "platform", "video", "nfc", "i2c", "edac", "crypto", "atm", "firewire",
    )),
    *(f"/lib/modules/*/kernel/drivers/net/{name}/*" for name in ("ethernet", "wireless", "usb", "can", "wwan", "phy")),
    *(f"/lib/modules/*/kernel/{name}/*" for name in (
        "sound", "fs/xfs", "fs/btrfs", "fs/ocfs2", "fs/gfs2", "fs/nfsd", "fs/nfs", "fs/cifs", "fs/ceph", "fs/jfs",
        "fs/f2fs", "fs/afs", "fs/reiserfs", "net/netfilter", "net/sctp", "net/ceph", "net/mac80211", "net/bluetooth",
    )),
)  # fmt: skip
INITRD_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")
BASE_BYTES = 1 << 30
MOST_BYTES_OF_RESULTS = 64 << 20
LABEL = "acceptance"
"""Of the disk with what is tested; the guest mounts it there, at /acceptance."""

_FILES: Mapping[str, str] = {
    "/etc/fstab": f"/dev/vda / ext4 noatime 0 1\nLABEL={LABEL} /{LABEL} ext4 ro 0 0\n",
    "/etc/hostname": "bench\n",
    "/etc/hosts": "127.0.0.1 localhost bench\n",
    # The driver starts while the machine boots, so that it can plug in boards meanwhile; the machine ends with it.
    f"/etc/systemd/system/{LABEL}.service": f"""[Unit]
Description=Acceptance run
RequiresMountsFor=/{LABEL}
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=exec
WorkingDirectory=/{LABEL}
ExecStart=/usr/bin/python3 -B -m tests.acceptance.guest.main
Environment=PYTHONUNBUFFERED=1 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
TimeoutStopSec=10
[Install]
WantedBy=multi-user.target
""",
    # The journal is an artifact: kept whole, on disk, and never rate-limited.
    "/etc/systemd/journald.conf.d/acceptance.conf": "[Journal]\nStorage=persistent\nRateLimitBurst=0\nSyncIntervalSec=5s\n",
}
# What a machine without a network, a battery or a user waits for in vain.
_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_reap.service", "fstrim.timer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A Debian without the station, ready to be copied and booted."""

    disk: Path
    kernel: Path
    initrd: Path


def base_key() -> str:
    """Return the name of the base in the cache: a digest of everything it is made of."""
    made_of = (SUITE, PACKAGES, LEFT_OUT, INITRD_MODULES, BASE_BYTES, sorted(_FILES.items()), _MASKED)
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]


def cached_base(cache: Path) -> Base:
    """Return the base from `cache`, made there first when it is not; raises CalledProcessError.

    It is built beside its place and moved there whole. Bases of other keys are deleted: they are not asked for again.
    """
    place = cache / f"base-{base_key()}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        for other in cache.glob("base-*"):
            shutil.rmtree(other)
        with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as directory:
            made = Path(directory) / "base"
            _build(made, Path(directory))
            made.rename(place)
    return Base(disk=place / "base.ext4", kernel=place / "vmlinuz", initrd=place / "initrd.img")


def _build(made: Path, scratch: Path) -> None:
    """Make base disk, kernel and initrd in the new directory `made`."""
    root = scratch / "root"
    made.mkdir()
    modules = "\\n".join(INITRD_MODULES)
    here = "$1/usr/share/initramfs-tools/modules.d"
    essential = (
        f'mkdir -p "{here}" "$1/etc/initramfs-tools/conf.d";'
        f' printf "{modules}\\n" >"{here}/acceptance"; echo MODULES=list >"$1/etc/initramfs-tools/conf.d/acceptance"'
    )
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    # The station's own documentation and man page are part of what is tested.
    unfiltered = 'sed -i /path-exclude/d "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"'
    command += [f"--essential-hook={essential}", f"--customize-hook={unfiltered}", SUITE, str(root)]
    subprocess.run(command, check=True)
    for name, content in _FILES.items():
        path = root / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    (root / LABEL).mkdir()
    units = root / "etc/systemd/system"
    (units / f"multi-user.target.wants/{LABEL}.service").symlink_to(f"../{LABEL}.service")
    for unit in _MASKED:
        (units / unit).symlink_to("/dev/null")
    for file, name in (("vmlinuz", "vmlinuz-*"), ("initrd.img", "initrd.img-*")):
        (found,) = (root / "boot").glob(name)
        shutil.copyfile(found, made / file)
        found.unlink()
    _make_ext4(made / "base.ext4", root, BASE_BYTES)


def copy_disk(disk: Path, to: Path) -> None:
    """Copy a sparse disk image; raises CalledProcessError."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(disk), str(to)], check=True)


def make_payload(disk: Path, files: Mapping[str, Path | bytes]) -> None:
    """Make the disk that the guest mounts at /acceptance: path in it -> file, directory or content."""
    with tempfile.TemporaryDirectory(dir=disk.parent) as directory:
        root = Path(directory)
        root.chmod(0o755)
        for name, content in files.items():
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                place.write_bytes(content)
            elif content.is_dir():
                shutil.copytree(content, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(content, place)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        _make_ext4(disk, root, 2 * size + (16 << 20), label=LABEL)


def make_empty(disk: Path) -> None:
    """Make the raw disk on which the guest leaves what is kept of it."""
    with disk.open("wb") as file:
        os.truncate(file.fileno(), MOST_BYTES_OF_RESULTS)


def unpack_results(disk: Path, to: Path) -> None:
    """Unpack the tar archive that the guest wrote to its raw disk; a guest that died left none, and `to` stays empty."""
    to.mkdir(parents=True, exist_ok=True)
    command: Sequence[str] = ("tar", "--extract", "--no-same-owner", "--file", str(disk), "--directory", str(to))
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)


def _make_ext4(disk: Path, root: Path, size_bytes: int, *, label: str = "root") -> None:
    command = ["mke2fs", "-q", "-t", "ext4", "-L", label, "-m", "0", "-d", str(root), str(disk), f"{size_bytes >> 10}K"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

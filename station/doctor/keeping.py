"""What the station itself needs: configuration, recipe, slots, records and the disk under them, backups, the clock.

Files are read as the station reads them; its own refusal (`ConfigurationError`) is the problem, and carries its fix.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from station.adapters.archive import newest_backup
from station.adapters.machine.storage import free_bytes, mount_of, nearest_directory, same_device
from station.adapters.records import check, database_path, require_usable
from station.adapters.records.database import MINIMUM_FREE_BYTES
from station.doctor.patient import Patient, Said, names, ok, plural, problem, warning
from station.errors import RecordsUnwritable
from station.qualification import UNPROVEN_BAUD, why_left_out
from station.qualification import load as load_qualification
from station.recipe import trailer_problem
from station.slotmap import load_slot_map

COMFORTABLE_FREE_BYTES = 16 * MINIMUM_FREE_BYTES
"""Room for some 3500 failed jobs at 70 KB each: time enough for a person to make more."""
NETWORK_FILESYSTEMS = (
    *(
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "gpfs",
        "ocfs2",
        "gfs2",
        "9p",
        "davfs",
    ),
    *("virtiofs", "vboxsf", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.ceph", "fuse.davfs2"),
)
"""SQLite: "WAL does not work over a network filesystem" (sqlite.org/wal.html); locks and fsync lie there, too."""
FORGETFUL_FILESYSTEMS = ("tmpfs", "ramfs", "rootfs")
LAYERED_FILESYSTEMS = ("overlay", "aufs", "fuse.fuse-overlayfs")


def configuration(one: Patient) -> Said:
    """Whether the configuration can be used at all."""
    if one.config_error is not None:
        raise one.config_error
    yield ok("is good")


def recipe(one: Patient) -> Said:
    """The recipe and its image: there, unchanged against its sha256, whole by the image's own trailer."""
    loaded = one.recipe()
    if loaded is None:
        yield warning("no recipe is named: nothing can be made", "station recipe new makes one; set work.recipe")
        return
    unproven = trailer_problem(loaded.image)
    if unproven:
        yield warning(
            f"{loaded.firmware_path} does not prove by itself that it is whole ({unproven}); only its sha256 is checked",
            "if it should be a MicroPython, fetch it again and make the recipe anew",
        )
    else:
        yield ok(f"{loaded.name} {loaded.version} [{loaded.short_hash}], image unchanged and whole")


def slots(one: Patient) -> Said:
    """Whether places were taught, and whether programmers are plugged in elsewhere or twice."""
    known = load_slot_map(one.config)
    places = {slot.place for slot in known.values()}
    if not known:
        yield warning("no slot was taught: programmers are shown and never used", "station slots teach")
        return
    attached = [tty for programmer in one.programmers() for tty in programmer.ttys if tty.id_path]
    double = sorted({tty.id_path for tty in attached if sum(tty.id_path == other.id_path for other in attached) > 1})
    unnumbered = [path for path in double if path in places]
    strangers = [tty.node for tty in attached if not tty.places & places]
    if unnumbered:
        yield warning(
            f"{names(unnumbered)} was taught as one slot, and a programmer with several ports sits there",
            "teach that place anew: station slots teach gives each port a label",
        )
    if strangers and one.config.usb.enroll == "never":
        yield warning(
            f"{plural(len(strangers), 'programmer')} in places that are no slot: {names(strangers)}",
            "station slots teach, or for what is no programmer: add the place to usb.excluded",
        )
    elif not unnumbered:
        yield ok(f"{plural(len(known), 'slot')}, {plural(len(attached), 'programmer')} plugged in")


def baud(one: Patient) -> Said:
    """Rates above 460800 are used only where `station qualify` found them clean, with that kind of adapter."""
    ladder = one.config.flashing.baud_ladder
    if ladder[0] <= UNPROVEN_BAUD:
        yield ok(f"{ladder[0]} baud at most")
        return
    measured = load_qualification(one.config.state_dir)
    kinds = {place: device.kind for device in one.programmers() for tty in device.ttys for place in tty.places}
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    for label, slot in load_slot_map(one.config).items():
        left_out[why_left_out(ladder, slot.place, measured, kinds.get(slot.place))].append(label)
    used = left_out.pop("", [])
    for why, labels in left_out.items():
        said, _, _ = why.partition("; ")
        yield warning(
            f"{names(labels)}: {said}",
            "station qualify measures what these slots can do; or shorten flashing.baud_ladder",
        )
    if not left_out:
        yield ok(f"{ladder[0]} baud was measured in {plural(len(used), 'slot')}")


def database(one: Patient) -> Said:
    """Whether the records are of this station's schema, and whole."""
    file = database_path(one.config.database_url)
    if not file.exists():
        _look_into(nearest_directory(file.parent))
        yield ok(f"{file} will be made at the first start")
        return
    if not os.access(file, os.R_OK):
        raise PermissionError(13, "may not be read", str(file))
    try:
        require_usable(one.config.database_url)
    except RecordsUnwritable as error:
        yield problem(str(error), "stop the station, and restore the newest backup")
        return
    damage = [] if one.in_daemon else check(one.config.database_url)
    if damage:
        yield problem(f"{file} is damaged: {damage[0]}", "stop the station, and restore the newest backup")
    else:
        yield ok(f"{file} is of this station's schema" + ("" if one.in_daemon else ", and whole"))


def filesystem(one: Patient) -> Said:
    """What kind of filesystem the records lie on."""
    file = database_path(one.config.database_url)
    mount = mount_of(one.root, file)
    fix = "move station.state_dir (or database.url) to a local disk"
    if mount.kind in NETWORK_FILESYSTEMS:
        yield problem(
            f"{file} is on a network filesystem ({mount.kind} at {mount.point}), where SQLite loses records", fix
        )
    elif mount.kind in FORGETFUL_FILESYSTEMS:
        yield problem(f"{file} is in memory only ({mount.kind} at {mount.point}): gone with the power", fix)
    elif mount.kind in LAYERED_FILESYSTEMS:
        yield warning(f"{file} is on the layer of a container ({mount.kind} at {mount.point}), and goes with it", fix)
    else:
        yield ok(f"{mount.kind} at {mount.point}")


def disk(one: Patient) -> Said:
    """The space beside the records."""
    directory = nearest_directory(database_path(one.config.database_url).parent)
    free = free_bytes(directory)
    said = f"{free >> 20} MiB are free in {directory}"
    if free < MINIMUM_FREE_BYTES:
        yield problem(f"{said}, below {MINIMUM_FREE_BYTES >> 20} no job begins", "make room there")
    elif free < COMFORTABLE_FREE_BYTES:
        yield warning(f"{said}, and {COMFORTABLE_FREE_BYTES >> 20} are wanted", "make room there soon")
    else:
        yield ok(said)


def backup(one: Patient) -> Said:
    """The second place: there, writable, on another disk, and not too old."""
    settings = one.config.backup
    if not settings.directory:
        yield warning(
            "there is no second place for records, configuration and slot map",
            "set backup.directory to a directory on another disk",
        )
        return
    directory = Path(settings.directory)
    person = one.person()
    try:
        status = directory.stat()
    except FileNotFoundError:
        yield problem(f"{directory} does not exist", f"install -d -o {person.name} -m 0750 {directory}")
        return
    if (
        not directory.is_dir()
        or not person.may_use(status)
        or (person.is_running and not os.access(directory, os.R_OK | os.W_OK | os.X_OK))
    ):
        yield problem(
            f"{person.name} may not write into {directory}", f"chown {person.name} {directory}, and give it mode 0750"
        )
        return
    newest = newest_backup(directory, one.config.station_id)
    age_h = None if newest is None else (one.now() - newest.made_at).total_seconds() / 3600
    if age_h is None:
        yield warning(f"{directory} holds no backup yet", "station backup")
    elif age_h > settings.warn_after_h:
        yield warning(
            f"the newest backup is {age_h:.0f} h old, more than {settings.warn_after_h:g}",
            "station backup; systemctl status station-backup.timer says why none was made",
        )
    if same_device(directory, database_path(one.config.database_url).parent):
        yield warning(
            f"{directory} is on the same disk as the records: a disk that dies takes both",
            "mount another disk there, or set backup.directory to one",
        )
    elif age_h is not None and age_h <= settings.warn_after_h:
        yield ok(f"the newest is {age_h:.0f} h old, in {directory}")


def clock(one: Patient) -> Said:
    """Whether the clock is set by the network: every record carries its time."""
    synchronised = one.clock_synchronised()
    if synchronised is None:
        raise PermissionError(1, "the kernel does not say whether the clock is right")
    if synchronised:
        yield ok("is synchronised")
    else:
        yield warning(
            "is not synchronised, and every record carries its time",
            "timedatectl set-ntp true, or install systemd-timesyncd or chrony",
        )


def _look_into(directory: Path) -> None:
    """Raise OSError when we could not see what is in there."""
    next(directory.iterdir(), None)

"""Who works at the ports: the running user, or the one of the service, and whether a mode lets that user open a file.

A user's groups are those of /etc/group and, for the service, those that its unit adds (`SupplementaryGroups=`): systemd gives
them without any file saying so elsewhere.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVICE_USER = "station"
SERVICE_UNIT = "station.service"
UNIT_DIRECTORIES = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_READ, _READ_WRITE, _SEARCH = 0o4, 0o6, 0o1


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user as the kernel judges it."""

    name: str
    uid: int
    groups: frozenset[int]
    is_running: bool
    """Whether it is the user of this very process, so that the kernel itself can be asked."""

    def may_use(self, status: os.stat_result) -> bool:
        """Whether owner, group and mode let this user read and write."""
        return self._may(status, _READ_WRITE)

    def may_read(self, status: os.stat_result) -> bool:
        """Whether they let this user read."""
        return self._may(status, _READ)

    def may_search(self, status: os.stat_result) -> bool:
        """Whether they let this user open files of this directory."""
        return self._may(status, _SEARCH)

    def _may(self, status: os.stat_result, wanted: int) -> bool:
        if self.uid == 0:
            return True
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.groups else 0
        return stat.S_IMODE(status.st_mode) >> shift & wanted == wanted


def person_at_work(root: Path) -> Person:
    """Return who opens the programmers: the service's user when root asks and there is one, else who asks."""
    uid = os.geteuid()
    entry = _entry(root, SERVICE_USER) if uid == 0 else None
    if entry is not None:
        return entry
    return Person(
        name=next((name for name, fields in _lines(root, "passwd") if fields[2:3] == [str(uid)]), str(uid)),
        uid=uid,
        groups=frozenset((os.getegid(), *os.getgroups())),
        is_running=True,
    )


def group_name(root: Path, gid: int) -> str:
    """Return the name of a group; its number where /etc/group does not have it."""
    return next((name for name, fields in _lines(root, "group") if fields[2:3] == [str(gid)]), str(gid))


def group_number(root: Path, group: str) -> int | None:
    """Return the number of a group; None where /etc/group does not have it."""
    return next((int(fields[2]) for name, fields in _lines(root, "group") if name == group), None)


def _entry(root: Path, user: str) -> Person | None:
    line = next((fields for name, fields in _lines(root, "passwd") if name == user), None)
    if line is None:
        return None
    added = _groups_of_unit(root)
    groups = {
        int(fields[2])
        for name, fields in _lines(root, "group")
        if user in fields[3].split(",") or name in added or fields[2] in added
    }
    return Person(name=user, uid=int(line[2]), groups=frozenset((int(line[3]), *groups)), is_running=False)


def _groups_of_unit(root: Path) -> set[str]:
    """What `SupplementaryGroups=` of the unit and its drop-ins says; an empty value forgets what was said before."""
    unit = next((file for each in UNIT_DIRECTORIES if (file := root / each / SERVICE_UNIT).is_file()), None)
    files = [unit] if unit is not None else []
    for directory in reversed(UNIT_DIRECTORIES):
        files += sorted((root / directory / f"{SERVICE_UNIT}.d").glob("*.conf"))
    groups: set[str] = set()
    for file in files:
        for said in re.findall(r"^SupplementaryGroups=(.*)$", file.read_text("utf-8", errors="replace"), re.MULTILINE):
            groups = groups | set(said.split()) if said.strip() else set()
    return groups


def _lines(root: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """The name and all fields of each line of /etc/passwd or /etc/group."""
    try:
        text = (root / "etc" / name).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdecimal():  # noqa: PLR2004 - group(5) has four fields, passwd(5) seven
            yield fields[0], fields

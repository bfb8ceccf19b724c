"""Where files lie: the kind of filesystem under a path, the space that is left, and whether two paths share a device.

Reads /proc/self/mountinfo (proc(5)) and asks statvfs(2). A path that does not exist yet is where it would be made: in its
nearest directory that is there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mounted filesystem."""

    point: str
    kind: str
    """e.g. `ext4`, `nfs4`, `fuse.sshfs`."""


def mount_of(root: Path, path: Path) -> Mount:
    """Return the filesystem under `path`; raises OSError where /proc cannot be read or does not know it."""
    wanted = str(path.absolute().resolve())
    best: Mount | None = None
    for line in (root / "proc/self/mountinfo").read_text("utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        point = _unescaped(before.split()[4])
        inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
        # Later lines lie over earlier ones at the same point.
        if inside and (best is None or len(point) >= len(best.point)):
            best = Mount(point=point, kind=after.split()[0])
    if best is None:
        raise FileNotFoundError(f"no mount holds {wanted}")
    return best


def free_bytes(path: Path) -> int:
    """Return what an ordinary user may still write there; raises OSError."""
    space = os.statvfs(nearest_directory(path))
    return space.f_bavail * space.f_frsize


def same_device(one: Path, other: Path) -> bool:
    """Whether both lie on one filesystem, so that one broken disk takes both; raises OSError."""
    return nearest_directory(one).stat().st_dev == nearest_directory(other).stat().st_dev


def nearest_directory(path: Path) -> Path:
    """Return `path`, or the nearest directory above that exists."""
    path = path.absolute()
    return next((each for each in (path, *path.parents) if each.is_dir()), Path("/"))


def _unescaped(point: str) -> str:
    """Mount points have blanks and the like as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)

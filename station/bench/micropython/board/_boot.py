# mypy: ignore-errors
"""Turns the plain interpreter into the firmware of an ESP8266 and mounts its filesystem; the host's first import.

Runs inside MicroPython. The modules beside this file come from the loader's own memory filesystem, which is unmounted
here: from then on a program sees the board's flash and nothing else.
"""

import builtins
import os
import sys
import time

import _files
import _gc
import _host
import _link
import _sys
import flashbdev
import vfs as _vfs


class _Vfs:
    """The vfs module with LittleFS in it."""

    mount = staticmethod(_vfs.mount)
    umount = staticmethod(_vfs.umount)
    VfsLfs2 = _files.VfsLfs2


def _sleep(seconds):
    _host.sleep(int(seconds * 1000))


def _sleep_us(microseconds):
    _host.sleep(microseconds // 1000)


def _input(prompt=""):
    print(prompt, end="")
    line = _sys.stdin.readline()
    if not line:
        raise EOFError
    print(line, end="")  # the echo
    return line[:-1]


def _urandom(length):
    import random

    return bytes(random.getrandbits(8) for _ in range(length))


def _install():
    for name in ("esp", "machine", "network", "webrepl"):
        __import__(name)  # a program's own import finds them loaded
    time.sleep, time.sleep_ms, time.sleep_us = _sleep, _host.sleep, _sleep_us
    builtins.input = _input
    os.uname, os.urandom, os.sync, os.VfsLfs2 = _sys.uname, _urandom, lambda: None, _files.VfsLfs2
    sys.modules["vfs"] = _Vfs
    sys.modules["sys"] = sys.modules["usys"] = _sys
    sys.modules["gc"] = _gc
    for name in ("os", "time", "machine", "network"):
        sys.modules["u" + name] = sys.modules[name]
    _gc.start_counting()


def has(name):
    """Whether there is such a file."""
    try:
        os.stat(name)
    except OSError:
        return False
    return True


_install()
import inisetup  # noqa: E402 - it needs what was just installed, and the loader's filesystem

_vfs.umount("/")
if flashbdev.bdev:
    try:
        _vfs.mount(_files.VfsLfs2(flashbdev.bdev), "/")
    except OSError:
        if not _link.facts["resumed"]:
            inisetup.setup()

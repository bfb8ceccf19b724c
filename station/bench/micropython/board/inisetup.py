# mypy: ignore-errors
"""What the firmware does when it cannot mount its filesystem: make one on blank flash, and refuse to on any other.

Runs inside MicroPython. The refusal is for ever and in the words of the real firmware; only Ctrl-C ends it.
"""

import time

import _host
import network
import vfs
from _link import facts
from flashbdev import bdev

BOOT_PY = """\
# This file is executed on every boot (including wake-boot from deepsleep)
#import esp
#esp.osdebug(None)
import os, machine
#os.dupterm(None, 1) # disable REPL on UART(0)
import gc
#import webrepl
#webrepl.start()
gc.collect()
"""
CORRUPT = """\
The filesystem starting at sector %d with size %d sectors looks corrupt.
You may want to make a flash snapshot and try to recover it. Otherwise,
format it with vfs.VfsLfs2.mkfs(bdev), or completely erase the flash and
reprogram MicroPython.
"""


def name_access_point():
    """Open the access point under the board's own name."""
    ap = network.WLAN(network.AP_IF)
    ssid = "MicroPython-" + ap.config("mac")[-3:].hex()
    ap.config(ssid=ssid, security=network.AUTH_WPA_WPA2_PSK, key="micropythoN")


def refuse_unless_blank():
    """Complain for ever unless the first sector is blank."""
    sector = bytearray(bdev.SEC_SIZE)
    bdev.readblocks(0, sector)
    _host.interruptible()
    while facts["always_corrupt"] or sector != b"\xff" * bdev.SEC_SIZE:
        print(CORRUPT % (bdev.start_sec, bdev.blocks))
        time.sleep_ms(facts["corrupt_interval_ms"])


def setup():
    """Make the filesystem and its boot.py; it is mounted afterwards."""
    refuse_unless_blank()
    print("Performing initial setup")
    name_access_point()
    vfs.VfsLfs2.mkfs(bdev)
    vfs.mount(vfs.VfsLfs2(bdev), "/")
    with open("boot.py", "w") as f:
        f.write(BOOT_PY)
